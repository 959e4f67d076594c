//! The admin address: what supervisors and Prometheus ask. Never the address that clients know.

use std::convert::Infallible;
use std::sync::Arc;

use warp::Filter;
use warp::http::Method;
use warp::http::StatusCode;
use warp::reply::Reply;
use warp::reply::Response;

use crate::admin::health::Health;
use crate::admin::pages::metrics;
use crate::admin::pages::readiness;
use crate::http::reply;
use crate::push::audit::PushLog;

/// Returns what the admin address answers.
pub(crate) fn admin_routes(
    health: Arc<Health>,
    pushes: Arc<PushLog>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let answer = move |method: Method, path: warp::path::FullPath| {
        let (health, pushes) = (Arc::clone(&health), Arc::clone(&pushes));
        async move {
            if !matches!(method, Method::GET | Method::HEAD) {
                return reply::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            }
            match path.as_str() {
                "/livez" => reply::text(StatusCode::OK, "alive\n"),
                "/readyz" => match readiness(&health.look().await) {
                    (true, text) => reply::text(StatusCode::OK, text),
                    (false, text) => reply::text(StatusCode::SERVICE_UNAVAILABLE, text),
                },
                "/metrics" => {
                    let page = metrics(&health.look().await, pushes.counts()).into_response();
                    reply::with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page)
                }
                _ => reply::text(StatusCode::NOT_FOUND, "here are /livez, /readyz and /metrics\n"),
            }
        }
    };
    // Nothing of these rejects a request.
    warp::method().and(warp::path::full()).then(answer)
}
