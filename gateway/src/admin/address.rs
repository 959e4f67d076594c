//! The admin address: what supervisors, Prometheus and an operator's browser ask. Never the address that clients know.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use nostr::event::EventId;
use nostr::key::Keys;
use shared::purgatory::Purgatory;
use tokio::sync::watch;
use url::form_urlencoded;
use warp::Buf;
use warp::Filter;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::admin::description::description;
use crate::admin::health::Health;
use crate::admin::html;
use crate::admin::metrics::Figures;
use crate::admin::metrics::metrics;
use crate::admin::purgatory::drop_now;
use crate::admin::readiness::readiness;
use crate::admin::release::release_now;
use crate::admin::survey::LastSurvey;
use crate::admin::survey::keep_surveying;
use crate::http::body;
use crate::http::body::BodyError;
use crate::http::body::BodyLimits;
use crate::http::body::BodyReader;
use crate::http::body::EncodingError;
use crate::http::reply;
use crate::http::routes::Gateway;

/// The parts that the admin address reports on.
pub(crate) struct AdminParts {
    health: Health,
    gateway: Arc<Gateway>,
    purgatory: Purgatory,
    surveys: watch::Receiver<LastSurvey>,
    /// The secret that forms send back: pages of other sites cannot read it, nor make a browser send it.
    token: String,
}

/// Returns the routes of the admin address.
pub(crate) fn admin_routes(
    parts: Arc<AdminParts>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let answer = move |method, path: warp::path::FullPath, query: String, headers: HeaderMap, body| {
        let parts = Arc::clone(&parts);
        async move {
            let path = path.as_str();
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            if is_page(path) && !host.is_none_or(is_no_name) {
                let text = "open these pages by IP address: http://127.0.0.1:<port>/\n";
                return reply::text(StatusCode::FORBIDDEN, text);
            }
            match method {
                Method::GET | Method::HEAD => parts.answer(path, &query).await,
                Method::POST if is_page(path) => parts.act(path, &headers, body).await,
                _ => reply::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"),
            }
        }
    };
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(answer)
        .or_else(|rejection: warp::Rejection| async move { Err(rejection) })
        .recover(|_| async { Ok::<_, Infallible>(reply::text(StatusCode::BAD_REQUEST, "malformed request\n")) })
        .unify()
}

/// An operator's action on an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Release,
    Drop,
}

/// Returns the event and the action that a path names.
fn action_in(path: &str) -> Option<(EventId, Action)> {
    let (event_id, action) = path.strip_prefix("/events/")?.split_once('/')?;
    let action = match action {
        "release" => Action::Release,
        "drop" => Action::Drop,
        _ => return None,
    };
    Some((EventId::from_hex(event_id).ok()?, action))
}

/// Whether a request comes from a page of this address, or from no page. The browser states this, and a page cannot
/// change it.
fn is_from_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_own = |origin: &str| origin.split_once("://").map(|(_, authority)| authority) == text(header::HOST);
    headers
        .get(header::ORIGIN)
        .is_none_or(|origin| origin.to_str().is_ok_and(is_own))
}

/// Whether a path shows waiting events and their sources, and not only figures.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/events/")
}

/// Whether a `Host` header is an address, or this host. A foreign site can give our address to a name of its own, and
/// then read our answers in its visitor's browser.
fn is_no_name(host: &str) -> bool {
    let without_port = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| match port.parse::<u16>() {
            Ok(_) => name,
            Err(_) => host,
        });
    let address = without_port.trim_start_matches('[').trim_end_matches(']');
    without_port == "localhost" || address.parse::<IpAddr>().is_ok()
}

impl AdminParts {
    /// Reports on `gateway`, and acts on the purgatory that `health` checks.
    pub(crate) fn new(health: Health, gateway: Arc<Gateway>) -> Self {
        let purgatory = health.purgatory.clone();
        Self {
            surveys: keep_surveying(purgatory.clone()),
            purgatory,
            health,
            gateway,
            // As hard to guess as a key.
            token: Keys::generate().public_key().to_hex(),
        }
    }

    async fn answer(&self, path: &str, query: &str) -> Response {
        let is_live = query != "still";
        match path {
            "/livez" => reply::text(StatusCode::OK, "alive\n"),
            "/readyz" => match readiness(&self.health.check().await) {
                (true, text) => reply::text(StatusCode::OK, text),
                (false, text) => reply::text(StatusCode::SERVICE_UNAVAILABLE, text),
            },
            "/metrics" => {
                let page = self.metrics().await.into_response();
                reply::with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page)
            }
            "/" => {
                let (_, readiness) = readiness(&self.health.check().await);
                let page = html::everything(&self.surveys.borrow(), &readiness, is_live);
                reply::html(StatusCode::OK, page)
            }
            _ => match path.strip_prefix("/events/").and_then(|id| EventId::from_hex(id).ok()) {
                Some(event_id) => self.answer_event(&event_id).await,
                None => reply::text(
                    StatusCode::NOT_FOUND,
                    "not found; this address has /, /livez, /readyz and /metrics\n",
                ),
            },
        }
    }

    /// Carries out a form. Only clients that were shown the form know its token.
    async fn act(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + Sync + 'static,
    ) -> Response {
        let Some((event_id, action)) = action_in(path) else {
            return reply::text(
                StatusCode::NOT_FOUND,
                "unknown action: an event can be released or dropped\n",
            );
        };
        if !is_from_own_page(headers) {
            return reply::text(
                StatusCode::FORBIDDEN,
                "refused: use the buttons on the page of the event\n",
            );
        }
        let form = match read_form(headers, body).await {
            Ok(form) => form,
            Err(error) => return error.refusal(),
        };
        let mut fields = form_urlencoded::parse(&form);
        if !fields.any(|(name, value)| name == "token" && value == self.token.as_str()) {
            let text = "the gateway has restarted since the form was loaded: reload the page of the event\n";
            return reply::text(StatusCode::FORBIDDEN, text);
        }
        tracing::info!(event.id = %event_id, ?action, "requested on the admin page");
        let done = match action {
            Action::Release => release_now(&self.purgatory, &event_id).await,
            Action::Drop => drop_now(&self.purgatory, &event_id).await,
        };
        match done {
            Ok(Some(text)) => reply::html(StatusCode::OK, html::done(&event_id, &text)),
            Ok(None) => reply::html(StatusCode::NOT_FOUND, html::no_event()),
            Err(error) => reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    }

    async fn metrics(&self) -> String {
        let health = self.health.check().await;
        let (pusher, upload_pack) = (&self.gateway.pusher, &self.gateway.upload_pack);
        let reconciler = &pusher.reconciler;
        let (releases, release_durations) = reconciler.publisher.counts();
        let (fetches, sent_bytes) = upload_pack.counts();
        let [received_bytes] = pusher.receiver.received_bytes.counts();
        let last = self.surveys.borrow();
        metrics(&Figures {
            health: &health,
            survey: last.as_ref().and_then(|survey| survey.as_ref().ok()),
            pushes: pusher.log.counts(),
            releases,
            release_durations,
            fetches,
            answers: upload_pack.answer_load(),
            bytes: [received_bytes, sent_bytes],
            reads: self.gateway.reader.counts(),
            limit_hits: self.limit_hits(),
            slots: [("check", pusher.receiver.checks.load()), ("fetch", upload_pack.load())],
            git_commands: reconciler.repositories.git_commands(),
        })
    }

    /// Returns how often limits were reached, by the options that set them.
    fn limit_hits(&self) -> [(&'static str, u64); 4] {
        let gateway = &self.gateway;
        let ([packs, bytes_in], [answers, bytes_out]) =
            (gateway.pusher.receiver.incoming.hits(), gateway.upload_pack.hits());
        [
            ("connections-per-address-max", gateway.connections.refused()),
            ("websockets-max", gateway.websockets.hits()),
            ("transfers-max", packs + answers),
            ("spool-bytes-max", bytes_in + bytes_out),
        ]
    }

    async fn answer_event(&self, event_id: &EventId) -> Response {
        match description(&self.purgatory, event_id).await {
            Ok(Some(text)) => reply::html(StatusCode::OK, html::event(event_id, &text, &self.token)),
            Ok(None) => reply::html(StatusCode::NOT_FOUND, html::no_event()),
            Err(error) => reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    }
}

/// Why the content of a form was not read.
#[derive(Debug, thiserror::Error)]
enum FormError {
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl FormError {
    /// Answers with what is wrong, and what to do.
    fn refusal(&self) -> Response {
        let status = match self {
            Self::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(BodyError::TooLong { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::Stalled { .. } | BodyError::Deadline { .. }) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::Broken(_)) => StatusCode::BAD_REQUEST,
        };
        let text = format!("{self}: nothing was done; use the buttons on the page of the event\n");
        reply::text(status, text)
    }
}

/// Reads the content of a form.
async fn read_form(
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + Sync + 'static,
) -> Result<Vec<u8>, FormError> {
    let mut reader = BodyReader::new(body::open(headers, body)?, FORM);
    let mut form = Vec::new();
    while let Some(chunk) = reader.next().await? {
        form.extend_from_slice(&chunk);
    }
    Ok(form)
}

/// Of a form: a token.
const FORM: BodyLimits = BodyLimits {
    bytes_max: 1024,
    stall_max: Duration::from_secs(10),
    duration_max: Duration::from_secs(30),
};

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use bytes::Bytes;
    use futures_util::stream;
    use warp::http::HeaderValue;

    use super::*;

    /// Whatever was wrong with a form, the answer was that it is too large.
    #[tokio::test(start_paused = true)]
    async fn a_form_that_cannot_be_read_is_refused_for_its_own_fault() {
        type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send + Sync>>;
        let whole = |bytes: &[u8]| -> Chunks { Box::pin(stream::iter([Ok(Bytes::copy_from_slice(bytes))])) };
        let bodies = [
            ("identity", whole(b"token=x"), None),
            ("identity", whole(&[b'x'; 1025]), Some(StatusCode::PAYLOAD_TOO_LARGE)),
            (
                "identity",
                Box::pin(stream::pending()),
                Some(StatusCode::REQUEST_TIMEOUT),
            ),
            ("gzip", whole(b"token=x"), Some(StatusCode::BAD_REQUEST)),
            ("br", whole(b"token=x"), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
        ];
        for (encoding, body, expected) in bodies {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));

            let refused = read_form(&headers, body).await.err();

            assert_eq!(refused.map(|error| error.refusal().status()), expected, "{encoding}");
        }
    }

    #[test]
    fn pages_are_shown_by_address_only() {
        for host in [
            "127.0.0.1:7335",
            "127.0.0.1",
            "localhost",
            "localhost:7335",
            "[::1]:7335",
            "[::1]",
            "10.0.0.1:1",
        ] {
            assert!(is_no_name(host), "{host}");
        }
        for host in [
            "evil.example:7335",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:1",
            "",
        ] {
            assert!(!is_no_name(host), "{host}");
        }
        assert!(
            is_page("/events/00/drop")
                && is_page("/")
                && is_page("/events/00")
                && !is_page("/metrics")
                && !is_page("/readyz")
        );
    }

    #[test]
    fn only_pages_of_this_address_act() {
        for (origin, is_own) in [
            (None, true),
            (Some("http://127.0.0.1:7335"), true),
            (Some("https://127.0.0.1:7335"), true),
            (Some("null"), false),
            (Some("http://127.0.0.1:7336"), false),
            (Some("http://127.0.0.1"), false),
            (Some("http://evil.example"), false),
            (Some("http://evil.example/?http://127.0.0.1:7335"), false),
            (Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:7335".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_from_own_page(&headers), is_own, "{origin:?}");
        }
        let id = "a".repeat(64);
        assert_eq!(action_in(&format!("/events/{id}/drop")).unwrap().1, Action::Drop);
        for path in [
            "/",
            "/events/",
            "/events/x/drop",
            &format!("/events/{id}/drop/"),
            &format!("/events/{id}"),
        ] {
            assert_eq!(action_in(path), None, "{path}");
        }
    }
}
