//! Passes a WebSocket on to the relay, byte for byte: extensions and subprotocols stay a matter of client and relay
//! (facts/git-http 7). Only when the server stops, the client gets a frame that is ours.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::http::connections::ConnectionPermit;
use crate::http::frames::Frames;
use crate::http::frames::GOING_AWAY;
use crate::http::reply;
use crate::site::Site;

/// The relay's address, as the proxy dials it.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// `HOST:PORT`.
    pub(crate) authority: String,
    /// The path to ask for, `/` mostly.
    pub(crate) path: String,
}

/// Tells whether a request wants a WebSocket (RFC 6455, 4.2.1); `Connection` is a list and may name more.
pub(crate) fn wants_websocket(headers: &HeaderMap) -> bool {
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
/// ways until either side ends or the server stops, and meanwhile `place` is taken.
pub(crate) async fn pass_websocket(
    site: &Site,
    headers: &HeaderMap,
    client: IpAddr,
    upgrade: OnUpgrade,
    place: Option<Arc<ConnectionPermit>>,
) -> Response {
    let stopping = site.ending.stopping.clone();
    if stopping.is_cancelled() {
        return reply::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is stopping, connect again\n",
        );
    }
    let Ok(permit) = Arc::clone(&site.websockets).try_acquire_owned() else {
        return reply::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many WebSockets, connect again later\n",
        );
    };
    let upstream = &site.upstream;
    match dial(upstream, headers, client).await {
        Ok((relay, head)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
            site.tasks.spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                // How a WebSocket ends is between its ends; either way both are closed now.
                drop(pass_on(TokioIo::new(upgraded), relay, &head.rest, &stopping).await);
                drop((permit, place));
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

/// Passes bytes both ways until both sides have ended, or for a moment after the server has said that it stops.
/// `first` is what the relay sent together with its answer.
async fn pass_on(
    client: impl AsyncRead + AsyncWrite,
    mut relay: TcpStream,
    first: &[u8],
    stopping: &CancellationToken,
) -> io::Result<()> {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_relay, mut to_relay) = relay.split();
    let to_the_relay = async {
        let mut from_client = BufReader::with_capacity(COPY_BYTES, from_client);
        tokio::io::copy_buf(&mut from_client, &mut to_relay).await?;
        to_relay.shutdown().await
    };
    let to_the_client = async {
        pass_to_client(from_relay, &mut to_client, first, stopping).await?;
        to_client.shutdown().await
    };
    let both = async { tokio::try_join!(to_the_relay, to_the_client) };
    let end = async {
        stopping.cancelled().await;
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    tokio::select! {
        ended = both => ended.map(drop),
        () = end => Ok(()),
    }
}

/// Passes what the relay sends until it ends. When the server stops, the frame that has begun is passed to its end, and
/// then the client is told: it answers the relay, which ends.
async fn pass_to_client(
    mut relay: impl AsyncRead + Unpin,
    client: &mut (impl AsyncWrite + Unpin),
    first: &[u8],
    stopping: &CancellationToken,
) -> io::Result<()> {
    let mut frames = Frames::default();
    client.write_all(first).await?;
    frames.pass(first);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            read = relay.read(&mut buffer) => read?,
        };
        if read == 0 {
            return Ok(());
        }
        client.write_all(&buffer[..read]).await?;
        frames.pass(&buffer[..read]);
    }
    while let left @ 1.. = frames.bytes_to_pass() {
        let len = usize::try_from(left).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
        let read = relay.read(&mut buffer[..len]).await?;
        if read == 0 {
            return Ok(());
        }
        client.write_all(&buffer[..read]).await?;
        frames.pass(&buffer[..read]);
    }
    client.write_all(GOING_AWAY).await?;
    client.flush().await?;
    // Nothing follows a close.
    while relay.read(&mut buffer).await? > 0 {}
    Ok(())
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

/// For a client to answer that the server stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

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

    #[tokio::test]
    async fn a_client_is_told_between_two_frames_that_the_server_stops() {
        let (mut relay, from_relay) = tokio::io::duplex(1024);
        let (mut to_client, mut client) = tokio::io::duplex(1024);
        let stopping = CancellationToken::new();
        let passing = pass_to_client(from_relay, &mut to_client, b"\x81\x01a\x81", &stopping);
        let ends = async {
            let mut heard = [0; 6];
            relay.write_all(b"\x03b").await.unwrap();
            client.read_exact(&mut heard).await.unwrap();
            stopping.cancel();
            tokio::task::yield_now().await;
            relay.write_all(b"cd\x81\x01e").await.unwrap();
            let mut rest = vec![0; 2 + GOING_AWAY.len()];
            client.read_exact(&mut rest).await.unwrap();
            drop(relay);
            (heard, rest)
        };

        let (passed, (heard, rest)) = tokio::join!(passing, ends);
        drop(to_client);
        let mut behind = Vec::new();
        client.read_to_end(&mut behind).await.unwrap();

        passed.unwrap();
        assert_eq!(&heard, b"\x81\x01a\x81\x03b");
        assert_eq!(rest, [b"cd", GOING_AWAY].concat());
        assert_eq!(behind, b"", "nothing follows a close");
    }
}
