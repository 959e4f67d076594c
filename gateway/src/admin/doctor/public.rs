//! Whether clients reach everything under the server's one name, and can be distinguished.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::StreamBody;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use wire::path::repository_path;

use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Observation;
use crate::admin::doctor::probe::ProbeAnswer;
use crate::admin::doctor::redis::judge_clock;
use crate::admin::facts_source::unix_secs;
use crate::outside::OutsideError;
use crate::outside::ProbeBody;
use crate::outside::ask;
use crate::outside::connect;
use crate::outside_relay::OutsideRelay;

/// Whether the name leads to this server: its information document (NIP-11) is there.
pub(super) async fn reached(server: &CheckedServer<'_>) -> Vec<Observation> {
    let url = &server.public_url;
    let request = Request::get("/").header(header::ACCEPT, "application/nostr+json");
    let answer = match ask(url, request, nothing()).await {
        Ok(answer) => answer,
        Err(error) => return vec![not_reached(server, &error)],
    };
    let document: Option<Value> = serde_json::from_slice(answer.body()).ok();
    let is_grasp = document.is_some_and(|document| document.get("supported_grasps").is_some());
    let mut found = vec![match broken_path(server, answer.status()) {
        Some(broken) => broken,
        None if is_grasp => Observation::well(format!("{url} leads to a GRASP server")),
        None => Observation::wrong(
            format!("{url} is not answered by a GRASP server ({})", answer.status()),
            format!(
                "make the reverse proxy pass everything on to {}",
                server.options.listen.bind
            ),
        ),
    }];
    let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    if let Some(time) = date.and_then(|date| httpdate::parse_http_date(date).ok()) {
        found.push(judge_clock("the clock there", unix_secs(time)));
    }
    found
}

/// Names a service behind the reverse proxy that is down, if the status of an answer shows that.
fn broken_path(server: &CheckedServer<'_>, status: StatusCode) -> Option<Observation> {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT).then(|| {
        Observation::wrong(
            format!(
                "{status}: the reverse proxy does not reach the gateway at {}, or the gateway does not reach strfry",
                server.options.listen.bind
            ),
            "systemctl status grasp-gateway strfry",
        )
    })
}

pub(super) fn not_reached(server: &CheckedServer<'_>, error: &OutsideError) -> Observation {
    let url = &server.public_url;
    Observation::wrong(
        format!("{url} is not reached: {error}"),
        error.mend(url.host_str().unwrap_or_default()),
    )
}

/// The probe's repository waits for its first push, and can be cloned, empty.
pub(super) async fn git(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Some(path) = held_path(server) else {
        return Vec::new();
    };
    let request = Request::get(format!("{path}/info/refs?service=git-upload-pack"));
    match ask(&server.public_url, request, nothing()).await {
        Ok(answer) if answer.status() == StatusCode::OK => vec![Observation::well("git finds a repository")],
        Ok(answer) => vec![broken_path(server, answer.status()).unwrap_or_else(|| {
            Observation::wrong(
                format!("git gets {} for a repository that exists", answer.status()),
                format!(
                    "make the reverse proxy pass every path on to {}, as in strfry-config/; does the gateway there use \
                     this Redis?",
                    server.options.listen.bind
                ),
            )
        })],
        // It was named before.
        Err(_) => Vec::new(),
    }
}

/// Announces a push of [`ANNOUNCED_BYTES`], by which a proxy decides, and sends more than nginx accepts by default.
pub(super) async fn body_size(server: &CheckedServer<'_>) -> Vec<Observation> {
    let path = held_path(server).unwrap_or_else(|| NOBODYS.to_owned());
    let request = push(&path).header(header::CONTENT_LENGTH, ANNOUNCED_BYTES);
    match ask(&server.public_url, request, trickle(LARGE_BYTES)).await {
        Ok(answer) if answer.status() == StatusCode::PAYLOAD_TOO_LARGE => vec![Observation::wrong(
            format!("the reverse proxy refuses a push of {ANNOUNCED_BYTES} bytes (413)"),
            "nginx: client_max_body_size 0; then: systemctl reload nginx",
        )],
        Ok(_) => vec![Observation::well(format!("a push of {ANNOUNCED_BYTES} bytes passes"))],
        // The answer came before the end of the request, which not every proxy passes on well.
        Err(OutsideError::Http(_)) => vec![Observation::well("the gateway answers a large push before its end")],
        // A proxy waits for all of it, which the next check names.
        Err(OutsideError::Silent) => Vec::new(),
        Err(error) => vec![not_reached(server, &error)],
    }
}

/// Returns a body without an end: so many bytes at once, then a little now and then.
fn trickle(at_once: usize) -> ProbeBody {
    let trickle = futures_util::stream::unfold(at_once, |first| async move {
        if first == 0 {
            tokio::time::sleep(TRICKLE_PAUSE).await;
        }
        let some = Bytes::from(vec![b'0'; first.max(TRICKLE_BYTES)]);
        Some((Ok::<_, io::Error>(Frame::data(some)), 0))
    });
    BodyExt::boxed(StreamBody::new(trickle))
}

/// A push to a repository that does not exist is answered at once, unless a proxy waits for its end.
pub(super) async fn buffering(server: &CheckedServer<'_>) -> Vec<Observation> {
    match ask(&server.public_url, push(NOBODYS), trickle(0)).await {
        // That was named before.
        Ok(answer) if answer.status() == StatusCode::PAYLOAD_TOO_LARGE => Vec::new(),
        Ok(_) | Err(OutsideError::Http(_)) => {
            vec![Observation::well(
                "the gateway receives a push while it is still being sent",
            )]
        }
        Err(OutsideError::Silent) => vec![Observation::warning(
            "the reverse proxy buffers a push until its last byte: large ones time out, and fill its disk",
            "nginx: proxy_request_buffering off; then: systemctl reload nginx",
        )],
        Err(error) => vec![not_reached(server, &error)],
    }
}

pub(super) fn push(path: &str) -> hyper::http::request::Builder {
    Request::post(format!("{path}/git-receive-pack"))
        .header(header::CONTENT_TYPE, "application/x-git-receive-pack-request")
}

/// Publishes as a client does, and sees which address its event is said to come from.
pub(super) async fn client_address(server: &CheckedServer<'_>) -> Vec<Observation> {
    let (connection, own) = match connect(&server.public_url).await {
        Ok(connected) => connected,
        Err(error) => return vec![not_reached(server, &error)],
    };
    let mut relay = match OutsideRelay::open(&server.public_url, connection).await {
        Ok(relay) => relay,
        Err(error) => return vec![no_upgrade(server, &error)],
    };
    let (Some(loader), Some(probe)) = (&server.behind, server.probe.get()) else {
        return vec![Observation::well("WebSockets are passed on")];
    };
    if probe.answer != ProbeAnswer::HeldHere {
        return vec![Observation::well(
            "WebSockets are passed on; the client's address shows when events are held",
        )];
    }
    let event = &probe.from_outside;
    if !matches!(relay.publish(event).await, Ok(Some(_))) {
        let mend = "journalctl -u grasp-gateway -u strfry -n 20";
        return vec![Observation::wrong(
            "the WebSocket ends before an event is answered",
            mend,
        )];
    }
    match loader.purgatory.entries(&BTreeSet::from([event.id])).await {
        Ok(held) => held
            .first()
            .map(|entry| judge_source(&entry.source, own))
            .into_iter()
            .collect(),
        Err(_) => Vec::new(),
    }
}

pub(super) fn no_upgrade(server: &CheckedServer<'_>, error: &WebSocketError) -> Observation {
    let status = if let WebSocketError::Http(answer) = error {
        Some(answer.status())
    } else {
        None
    };
    if let Some(broken) = status.and_then(|status| broken_path(server, status)) {
        return broken;
    }
    let why = status.map_or_else(|| error.to_string(), |status| format!("they get {status}"));
    Observation::wrong(
        format!("WebSockets are not passed on: {why}"),
        "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \
         $connection_upgrade, as in strfry-config/nginx.conf; then: systemctl reload nginx",
    )
}

/// Whether the address that an event came from is the client's, `own`, or that of a proxy in front of the relay.
fn judge_source(source: &str, own: IpAddr) -> Observation {
    let seen = source
        .split(' ')
        .next_back()
        .and_then(|address| address.parse::<IpAddr>().ok());
    let text = format!("an event by {own} has the source {source}");
    match seen {
        Some(seen) if seen.to_canonical() == own.to_canonical() => Observation::well(text),
        Some(seen) if !seen.is_loopback() => Observation::well(format!("{text}, which is not a loopback address")),
        Some(_) | None => Observation::wrong(
            format!("{text}: all clients count as one, and share its limits"),
            "trusted-proxies = [\"127.0.0.1\", \"::1\"] (the proxy's address) for the gateway, realIpHeader = \
             \"x-real-ip\" in strfry.conf, and the proxy must send X-Forwarded-For; then restart gateway and strfry",
        ),
    }
}

/// Returns the path of the probe's repository, if it is held here.
pub(super) fn held_path(server: &CheckedServer<'_>) -> Option<String> {
    let probe = server
        .probe
        .get()
        .filter(|probe| probe.answer == ProbeAnswer::HeldHere)?;
    Some(repository_path(&probe.repository))
}

pub(super) fn nothing() -> ProbeBody {
    Full::default().map_err(|never| match never {}).boxed()
}

/// More than the limits that operators and providers of proxies like to set, and as much as a repository may have.
const ANNOUNCED_BYTES: u64 = 1 << 30;

const LARGE_BYTES: usize = 2 << 20;

/// An early answer passes through Caddy only while more of the request comes: Go's server reads another 256 KiB before
/// it answers (`net/http` `maxPostHandlerReadBytes`).
const TRICKLE_BYTES: usize = 64 << 10;

const TRICKLE_PAUSE: Duration = Duration::from_millis(50);

/// A repository that does not exist.
const NOBODYS: &str = "/npub1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqzqujme/nothing.git";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::doctor::observation::Severity;

    #[test]
    fn a_client_is_told_from_the_proxy() {
        let rows = [
            ("IP4 192.0.2.1", "192.0.2.1", Severity::Well),
            ("IP6 2001:db8::1", "2001:db8::1", Severity::Well),
            // Behind a router.
            ("IP4 198.51.100.1", "192.168.0.2", Severity::Well),
            ("IP4 127.0.0.1", "192.0.2.1", Severity::Wrong),
            ("IP4 127.0.0.1", "127.0.0.77", Severity::Wrong),
            ("IP4 127.0.0.77", "127.0.0.77", Severity::Well),
            ("?", "192.0.2.1", Severity::Wrong),
        ];
        for (source, own, severity) in rows {
            assert_eq!(
                judge_source(source, own.parse().unwrap()).severity,
                severity,
                "{source} {own}"
            );
        }
    }
}
