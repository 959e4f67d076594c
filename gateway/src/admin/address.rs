//! The admin address: what supervisors, Prometheus and an operator's browser ask. Never the address that clients know.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use nostr::event::EventId;
use shared::purgatory::Purgatory;
use tokio::sync::watch;
use warp::Filter;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::StatusCode;
use warp::reply::Reply;
use warp::reply::Response;

use crate::admin::health::Health;
use crate::admin::html;
use crate::admin::metrics::Figures;
use crate::admin::metrics::metrics;
use crate::admin::purgatory::description;
use crate::admin::readiness::readiness;
use crate::admin::survey::LastSurvey;
use crate::http::reply;
use crate::http::routes::Gateway;

/// What the admin address tells about.
pub(crate) struct AdminParts {
    pub(crate) health: Health,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) purgatory: Purgatory,
    pub(crate) surveys: watch::Receiver<LastSurvey>,
}

/// Returns what the admin address answers.
pub(crate) fn admin_routes(
    parts: Arc<AdminParts>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let host = warp::header::value("host")
        .map(Some)
        .or(warp::any().map(|| None))
        .unify();
    let answer = move |method: Method, path: warp::path::FullPath, query: String, host: Option<HeaderValue>| {
        let parts = Arc::clone(&parts);
        async move {
            let host = host.as_ref().and_then(|host| host.to_str().ok());
            match matches!(method, Method::GET | Method::HEAD) {
                true if !is_page(path.as_str()) || host.is_none_or(is_no_name) => {
                    parts.answer(path.as_str(), &query).await
                }
                true => reply::text(
                    StatusCode::FORBIDDEN,
                    "the pages are shown by address: http://127.0.0.1:<port>/\n",
                ),
                false => reply::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"),
            }
        }
    };
    // Nothing of these rejects a request.
    warp::method().and(warp::path::full()).and(query).and(host).then(answer)
}

/// Whether a path shows what waits and whom it is from, and not only figures.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/events/")
}

/// Whether a `Host` header is an address, or this host. A page of somebody else's may give a name of its own our
/// address, and read what its visitor's browser then gets from us.
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
    async fn answer(&self, path: &str, query: &str) -> Response {
        let is_live = query != "still";
        match path {
            "/livez" => reply::text(StatusCode::OK, "alive\n"),
            "/readyz" => match readiness(&self.health.look().await) {
                (true, text) => reply::text(StatusCode::OK, text),
                (false, text) => reply::text(StatusCode::SERVICE_UNAVAILABLE, text),
            },
            "/metrics" => {
                let page = self.metrics().await.into_response();
                reply::with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page)
            }
            "/" => {
                let (_, readiness) = readiness(&self.health.look().await);
                let page = html::everything(&self.surveys.borrow(), &readiness, is_live);
                reply::html(StatusCode::OK, page)
            }
            _ => match path.strip_prefix("/events/").and_then(|id| EventId::from_hex(id).ok()) {
                Some(event_id) => self.answer_event(&event_id, is_live).await,
                None => reply::text(StatusCode::NOT_FOUND, "here are /, /livez, /readyz and /metrics\n"),
            },
        }
    }

    async fn metrics(&self) -> String {
        let vitals = self.health.look().await;
        let (pusher, upload_pack) = (&self.gateway.pusher, &self.gateway.upload_pack);
        let reconciler = &pusher.committer.reconciler;
        let (releases, release_durations) = reconciler.publisher.counts();
        let (fetches, sent_bytes) = upload_pack.counts();
        let [received_bytes] = pusher.receiver.received_bytes.counts();
        let last = self.surveys.borrow();
        metrics(&Figures {
            vitals: &vitals,
            survey: last.as_ref().and_then(|survey| survey.as_ref().ok()),
            pushes: pusher.log.counts(),
            releases,
            release_durations,
            fetches,
            answers: upload_pack.answer_load(),
            bytes: [received_bytes, sent_bytes],
            reads: self.gateway.reader.counts(),
            slots: [("check", pusher.receiver.checks.load()), ("fetch", upload_pack.load())],
            git_commands: reconciler.repositories.git_commands(),
        })
    }

    async fn answer_event(&self, event_id: &EventId, is_live: bool) -> Response {
        match description(&self.purgatory, event_id).await {
            Ok(Some(text)) => reply::html(StatusCode::OK, html::event(event_id, &text, is_live)),
            Ok(None) => reply::html(StatusCode::NOT_FOUND, html::no_event()),
            Err(error) => reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(is_page("/") && is_page("/events/00") && !is_page("/metrics") && !is_page("/readyz"));
    }
}
