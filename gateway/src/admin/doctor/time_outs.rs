//! Whether what stands before the server lets its clients be silent: a connection between two requests, a push whose
//! client is still packing, a WebSocket. All are tried at once, and none needs more of the server than any client gets.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Frame;
use nostr::key::Keys;
use tokio::time::Instant;

use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Observation;
use crate::admin::doctor::public::held_path;
use crate::admin::doctor::public::nothing;
use crate::admin::doctor::public::push;
use crate::outside::KeptConnection;
use crate::outside::OutsideError;
use crate::outside::ProbeBody;
use crate::outside::ask_within;
use crate::outside::connect;
use crate::outside_relay::OutsideRelay;

/// Leaves connections silent for as long as the options say. What cannot be tried at all was named before.
pub(super) async fn time_outs(server: &CheckedServer<'_>) -> Vec<Observation> {
    let (kept, push, websocket) = tokio::join!(kept_connection(server), silent_push(server), websocket(server));
    let mut found: Vec<Observation> = [kept, push, websocket].into_iter().flatten().collect();
    if found.is_empty() {
        // Without a probe that is held, there is nothing to push to.
        let what = match held_path(server) {
            Some(_) => "connections, pushes and WebSockets",
            None => "connections and WebSockets",
        };
        let mut text = format!("{what} may be silent for {} s", server.silence.as_secs());
        if server.silence < ENOUGH {
            let enough = ENOUGH.as_secs();
            text.push_str(&format!(
                "; to find longer time-outs: grasp-gateway doctor --silence-secs {enough}"
            ));
        }
        found.push(Observation::well(text));
    }
    found
}

/// ngit and libgit2 ask which refs there are, pack, and push on the same connection; they open no other.
async fn kept_connection(server: &CheckedServer<'_>) -> Option<Observation> {
    let mut connection = KeptConnection::open(&server.public_url).await.ok()?;
    connection.ask(Request::head("/"), nothing()).await.ok()?;
    let closed = connection.end_in_silence(server.silence).await?;
    Some(Observation::warning(
        format!(
            "a connection on which nothing is asked is closed after {} s: ngit and libgit2 push on it when they have \
             packed, which may take minutes",
            closed.as_secs()
        ),
        "nginx: keepalive_timeout 5m; then: systemctl reload nginx",
    ))
}

/// Begins a push of a PR to the probe's repository, whose pack never comes. The gateway waits for it, and says so in
/// git's words when it gives up.
async fn silent_push(server: &CheckedServer<'_>) -> Option<Observation> {
    let path = held_path(server)?;
    let begun = Instant::now();
    let answer = ask_within(server.silence, &server.public_url, push(&path), commands_alone()).await;
    let how = match answer {
        Err(OutsideError::Silent) => return None,
        Ok(answer) if answer.status() == StatusCode::OK => return None,
        Ok(answer) => answer.status().to_string(),
        Err(error @ OutsideError::Http(_)) => error.to_string(),
        // That was named before.
        Err(OutsideError::Name(_) | OutsideError::Connect(_) | OutsideError::Tls(_)) => return None,
    };
    Some(Observation::warning(
        format!(
            "a push of which nothing comes for {} s is ended by the reverse proxy ({how}): the gateway would wait 60 s, \
             and tell its client why it ends",
            begun.elapsed().as_secs()
        ),
        "nginx: client_body_timeout 2m; then: systemctl reload nginx; other proxies: no limit on the time of a request",
    ))
}

/// Returns the commands of a push, and no end.
fn commands_alone() -> ProbeBody {
    // Of no event, and of no commit: nothing comes of it.
    let event_id = Keys::generate().public_key().to_hex();
    let line = format!(
        "{} {} refs/nostr/{event_id}\0report-status side-band-64k",
        "0".repeat(40),
        "1".repeat(40)
    );
    let commands = format!("{:04x}{line}0000", line.len() + PKT_LENGTH_BYTES);
    let first = stream::iter([Ok::<_, io::Error>(Frame::data(Bytes::from(commands)))]);
    BodyExt::boxed(StreamBody::new(first.chain(stream::pending())))
}

/// The relay pings its clients, every 55 s; a proxy may end a WebSocket before.
async fn websocket(server: &CheckedServer<'_>) -> Option<Observation> {
    let (connection, _) = connect(&server.public_url).await.ok()?;
    let mut relay = OutsideRelay::open(&server.public_url, connection).await.ok()?;
    let how = match relay.end_in_silence(server.silence).await {
        Some(ended) => format!("ends after {} s", ended.as_secs()),
        None if relay.answers().await => return None,
        None => format!("is dead after {} s", server.silence.as_secs()),
    };
    Some(Observation::wrong(
        format!("a silent WebSocket {how}: clients do not get the events that they wait for"),
        "nginx: proxy_read_timeout 1h and proxy_send_timeout 1h; then: systemctl reload nginx; strfry.conf: \
         relay.autoPingSeconds = 55",
    ))
}

/// Longer than what proxies come with: nginx waits 60 s for a body and for an answer, and 75 s for the next request.
const ENOUGH: Duration = Duration::from_secs(80);

/// The length of a pkt-line stands before it, and counts itself (gitprotocol-common(5)).
const PKT_LENGTH_BYTES: usize = 4;
