//! Passes a WebSocket on to the relay, byte for byte: extensions and subprotocols stay a matter of client and relay
//! (facts/git-http 7).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::reply;

/// The relay's address, as the proxy dials it.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `HOST:PORT`.
    pub authority: String,
    /// The path to ask for, `/` mostly.
    pub path: String,
}

/// Tells whether a request wants a WebSocket (RFC 6455, 4.2.1); `Connection` is a list and may name more.
pub fn wants_websocket(headers: &HeaderMap) -> bool {
    let lists = |name: HeaderName, wanted: &str| {
        let values = headers
            .get_all(name)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, "websocket")
}

/// Answers a request for a WebSocket by the relay's own answer; if that is a switch of protocols, bytes flow both
/// ways until either side ends.
pub async fn pass_websocket(upstream: &Upstream, headers: &HeaderMap, client: IpAddr, upgrade: OnUpgrade) -> Response {
    match dial(upstream, headers, client).await {
        Ok((mut relay, head)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
            tokio::spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                let mut client = TokioIo::new(upgraded);
                // The relay may have sent its first frame together with its answer.
                if client.write_all(&head.rest).await.is_ok() {
                    // How a WebSocket ends is between its ends; either way both are closed now.
                    drop(
                        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut relay, COPY_BYTES, COPY_BYTES).await,
                    );
                }
            });
            let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
            *response.headers_mut() = head.headers;
            response
        }
        Ok((_, head)) => {
            tracing::warn!(status = head.status.as_u16(), "the relay refused a WebSocket");
            reply::text(StatusCode::BAD_GATEWAY, "the relay refused the WebSocket\n")
        }
        Err(error) => {
            tracing::warn!(%error, relay.authority = upstream.authority, "the relay cannot be reached");
            reply::text(
                StatusCode::BAD_GATEWAY,
                "the relay cannot be reached, try again later\n",
            )
        }
    }
}

/// The head of the relay's answer, and what came right behind it.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    rest: Vec<u8>,
}

async fn dial(upstream: &Upstream, headers: &HeaderMap, client: IpAddr) -> io::Result<(TcpStream, Head)> {
    let exchange = async {
        let mut relay = TcpStream::connect(&upstream.authority).await?;
        relay.set_nodelay(true)?;
        relay.write_all(&request_head(upstream, headers, client)).await?;
        let head = read_head(&mut relay).await?;
        Ok((relay, head))
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, exchange)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

/// The client's request once more, with its address where strfry looks for it (`relay.realIpHeader`).
fn request_head(upstream: &Upstream, headers: &HeaderMap, client: IpAddr) -> Vec<u8> {
    let mut head = format!("GET {} HTTP/1.1\r\n", upstream.path).into_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| is_passed_on(name)) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(
        format!("connection: Upgrade\r\nupgrade: websocket\r\nx-real-ip: {client}\r\n\r\n").as_bytes(),
    );
    head
}

/// Everything but what says who the client is: that is ours to say, or anybody could claim any address.
fn is_passed_on(name: &HeaderName) -> bool {
    let hop = [header::CONNECTION, header::UPGRADE, header::FORWARDED];
    !hop.contains(name) && !matches!(name.as_str(), "x-real-ip" | "x-forwarded-for" | "x-forwarded-proto")
}

async fn read_head(relay: &mut TcpStream) -> io::Result<Head> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let invalid = || io::Error::new(io::ErrorKind::InvalidData, "the relay's answer is not HTTP");
            let (status, headers) = parse_head(&bytes).ok_or_else(invalid)?;
            return Ok(Head { status, headers, rest });
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the head of the relay's answer is too long",
            ));
        }
        if relay.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse_head(bytes: &[u8]) -> Option<(StatusCode, HeaderMap)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        headers.append(
            HeaderName::try_from(name.trim()).ok()?,
            HeaderValue::from_str(value.trim()).ok()?,
        );
    }
    Some((status, headers))
}

/// For the relay's answer to a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head of the relay's answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Buffer for each direction of a WebSocket.
const COPY_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn connection_may_name_more_than_upgrade() {
        assert!(wants_websocket(&headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket")
        ])));
        assert!(!wants_websocket(&headers(&[
            ("connection", "keep-alive"),
            ("upgrade", "websocket")
        ])));
        assert!(!wants_websocket(&headers(&[
            ("connection", "upgrade"),
            ("upgrade", "h2c")
        ])));
    }

    #[test]
    fn a_client_cannot_claim_an_address() {
        let upstream = Upstream {
            authority: "127.0.0.1:1".to_owned(),
            path: "/".to_owned(),
        };
        let claims = headers(&[("x-real-ip", "198.51.100.9"), ("x-forwarded-for", "198.51.100.9")]);

        let head = String::from_utf8(request_head(&upstream, &claims, "203.0.113.7".parse().unwrap())).unwrap();

        assert!(!head.contains("198.51.100.9"), "{head}");
        assert!(head.contains("x-real-ip: 203.0.113.7\r\n"), "{head}");
    }
}
