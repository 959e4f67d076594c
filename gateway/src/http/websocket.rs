//! Passes WebSockets on to the relay, byte for byte: extensions and subprotocols stay between client and relay
//! (docs/facts/git-http.md 7).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use shared::relay_client::RelayClient;
use shared::relay_client::SENDER_HEADER;
use shared::relay_client::own_mark;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::fairness::shares::ShareLimits;
use crate::fairness::shares::Shares;
use crate::http::connections::ConnectionPermit;
use crate::http::reply;
use crate::http::server::Ending;

/// Passes WebSockets on to the relay, a limited number at a time, until the server stops.
pub(crate) struct WebSockets {
    relay: RelayClient,
    shares: Shares,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl WebSockets {
    /// Passes up to `sockets_max` WebSockets on to `relay`, each in one of `tasks`.
    pub(crate) fn new(relay: &RelayClient, sockets_max: usize, ending: &Ending, tasks: &TaskTracker) -> Self {
        Self {
            relay: relay.clone(),
            shares: Shares::new(limits(sockets_max)),
            stopping: ending.stopping.clone(),
            tasks: tasks.clone(),
        }
    }

    /// Changes how many there may be. Those that are open stay.
    pub(crate) fn set_max(&self, sockets_max: usize) {
        self.shares.set_limits(limits(sockets_max));
    }

    /// Returns how often so many were open when one more was asked for.
    pub(crate) fn hits(&self) -> u64 {
        let [hits, _] = self.shares.hits();
        hits
    }

    /// Answers a request for a WebSocket by the relay's own answer; if that is a switch of protocols, bytes flow both
    /// ways until both sides have ended, the server stops, or the place is another address's, which had fewer. The
    /// connection counts by `connection_permit` meanwhile.
    pub(crate) async fn pass(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
        upgrade: OnUpgrade,
        connection_permit: Option<Arc<ConnectionPermit>>,
    ) -> Response {
        if self.stopping.is_cancelled() {
            let text = "the server is stopping: connect again\n";
            return reply::text(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let Ok(claim) = self.shares.enter(client) else {
            let text = "too many WebSockets are open: connect again later\n";
            return reply::text(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        let connecting = tokio::time::timeout(HANDSHAKE_TIMEOUT, connect(&self.relay, headers, client));
        let (answer, relay) = match connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(connected) => connected,
            Err(error) => {
                tracing::warn!(%error, relay.authority = self.relay.authority(), "cannot open a WebSocket to the relay");
                let text = "the relay does not accept a WebSocket now: try again later\n";
                return reply::text(StatusCode::BAD_GATEWAY, text);
            }
        };
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            let Ok(client) = upgrade.await else { return };
            let (mut client, mut relay) = (TokioIo::new(client), TokioIo::new(relay));
            tokio::select! {
                // An error of either side ends both, like an end.
                _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut relay, COPY_BYTES, COPY_BYTES) => {}
                () = stopping.cancelled() => {}
                () = claim.ended() => {}
            }
            drop((claim, connection_permit));
        });
        let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
        *response.headers_mut() = answer;
        response
    }
}

fn limits(sockets_max: usize) -> ShareLimits {
    ShareLimits {
        claims_max: sockets_max,
        bytes_max: 0,
    }
}

/// Whether a request asks for a WebSocket (RFC 6455, 4.2.1); `Connection` is a list and may contain more.
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

/// Asks the relay for a WebSocket; returns the headers of its answer and the connection.
async fn connect(relay: &RelayClient, headers: &HeaderMap, client: IpAddr) -> io::Result<(HeaderMap, Upgraded)> {
    let stream = TcpStream::connect(relay.authority()).await?;
    stream.set_nodelay(true)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with the switch of protocols, or with the sender.
    tokio::spawn(connection.with_upgrades());
    let request = request(relay.target(), headers, client).map_err(io::Error::other)?;
    let mut answer = sender.send_request(request).await.map_err(io::Error::other)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let text = format!("the relay answered with status {}", answer.status());
        return Err(io::Error::other(text));
    }
    let relay = hyper::upgrade::on(&mut answer).await.map_err(io::Error::other)?;
    Ok((std::mem::take(answer.headers_mut()), relay))
}

/// The client's request once more, with its address where strfry reads it (`relay.realIpHeader`).
fn request(target: &str, headers: &HeaderMap, client: IpAddr) -> hyper::http::Result<Request<String>> {
    let mut request = Request::builder()
        .uri(target)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header("x-real-ip", client.to_string())
        .header(SENDER_HEADER, own_mark())
        .body(String::new())?;
    let passed_on = headers.iter().filter(|(name, _)| is_passed_on(name));
    request
        .headers_mut()
        .extend(passed_on.map(|(name, value)| (name.clone(), value.clone())));
    Ok(request)
}

/// Whether a header is passed on to the relay. Not those of a single connection, and not those that state who the
/// client is, or any client could claim any address.
fn is_passed_on(name: &HeaderName) -> bool {
    let kept_back = [
        header::CONNECTION,
        header::UPGRADE,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::FORWARDED,
    ];
    !kept_back.contains(name) && !matches!(name.as_str(), "x-real-ip" | "x-forwarded-for" | "x-forwarded-proto")
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const HEAD_BYTES_MAX: usize = 16 * 1024;

const COPY_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use warp::http::HeaderValue;

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
        let claims = headers(&[
            ("x-real-ip", "198.51.100.9"),
            ("x-forwarded-for", "198.51.100.9"),
            ("forwarded", "for=198.51.100.9"),
        ]);

        let request = request("/", &claims, "203.0.113.7".parse().unwrap()).unwrap();

        let addresses: Vec<_> = request.headers().get_all("x-real-ip").iter().collect();
        assert_eq!(addresses, ["203.0.113.7"]);
        assert!(!format!("{request:?}").contains("198.51.100.9"), "{request:?}");
    }
}
