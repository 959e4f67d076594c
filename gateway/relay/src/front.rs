//! The relay's socket: WebSocket, the information document (NIP-11), or a short text.

use std::convert::Infallible;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderMap;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use shared::live::Permits;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::connection;
use crate::connection::Relay;

/// Accepts so many connections at a time until the relay is stopped.
pub(super) async fn listen(listener: TcpListener, connections: Permits, relay: Arc<Relay>) {
    let mut stop = relay.stop.clone();
    let accept = async {
        loop {
            let permit = connections.acquire().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(converse(stream, peer, Arc::clone(&relay), permit));
                }
                Err(error) => {
                    // Out of descriptors, most likely: there are some again once a client leaves.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        // An error means that the relay itself was dropped.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Speaks HTTP with one peer until it asks for a WebSocket.
async fn converse(stream: TcpStream, peer: SocketAddr, relay: Arc<Relay>, permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended immediately");
        return;
    }
    let mut stop = relay.stop.clone();
    let permit = Arc::new(permit);
    let service = service_fn(move |request| {
        let response = respond(request, peer, &relay, &permit);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        // A peer that does not speak HTTP is no news.
        _ = connection => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

fn respond(
    request: Request<Incoming>,
    peer: SocketAddr,
    relay: &Arc<Relay>,
    permit: &Arc<OwnedSemaphorePermit>,
) -> Response<String> {
    // A WebSocket handshake (RFC 6455, section 4.2), or something else.
    if let Ok(handshake) = create_response_with_body(&request, String::new) {
        upgrade(request, peer, Arc::clone(relay), Arc::clone(permit));
        return handshake;
    }
    let accepts = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (content_type, body) = if accepts.is_some_and(|types| types.contains("application/nostr+json")) {
        ("application/nostr+json", relay.limits.document().to_string())
    } else {
        (
            "text/plain",
            "This is a nostr relay: please use a nostr client.\n".to_owned(),
        )
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn upgrade(mut request: Request<Incoming>, peer: SocketAddr, relay: Arc<Relay>, permit: Arc<OwnedSemaphorePermit>) {
    let client = client_address(peer, request.headers());
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else {
            return;
        };
        connection::serve(TokioIo::new(upgraded), client, relay).await;
        drop(permit);
    });
}

/// Returns the client's address; `None`: it is on this host. Only a proxy on this host is believed, and only a single
/// address (strfry's `relay.realIpHeader`).
fn client_address(peer: SocketAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer.ip().to_canonical();
    if !peer.is_loopback() {
        return Some(peer);
    }
    let named = headers.get(&REAL_IP)?;
    named.to_str().ok()?.trim().parse().ok()
}

static REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// How long a request head may take to arrive.
const HEAD_MAX: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long to wait after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_on_this_host_names_the_client() {
        let rows = [
            ("127.0.0.1:1", Some("203.0.113.7"), Some("203.0.113.7")),
            ("[::1]:1", Some("2001:db8::7"), Some("2001:db8::7")),
            ("[::ffff:127.0.0.1]:1", Some("203.0.113.7"), Some("203.0.113.7")),
            ("127.0.0.1:1", None, None),
            ("127.0.0.1:1", Some("203.0.113.7, 203.0.113.8"), None),
            ("203.0.113.9:1", Some("203.0.113.7"), Some("203.0.113.9")),
            ("[::ffff:203.0.113.9]:1", None, Some("203.0.113.9")),
        ];

        for (peer, header, address) in rows {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(&REAL_IP, HeaderValue::from_static(header));
            }

            let client = client_address(peer.parse().unwrap(), &headers);

            let address = address.map(|address| address.parse::<IpAddr>().unwrap());
            assert_eq!(client, address, "{peer} {header:?}");
        }
    }
}
