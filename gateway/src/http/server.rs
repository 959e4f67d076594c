//! Accepts connections and answers requests on them: our own loop around warp's service, because warp's neither bounds
//! the time for a request's head nor the number of connections (docs/facts/git-http.md 7).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use warp::Filter;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Uri;
use warp::http::header;
use warp::http::uri::PathAndQuery;
use warp::reply::Response;

use crate::http::client_address::TrustedProxies;
use crate::http::connections::ConnectionPermit;
use crate::http::connections::Connections;
use crate::http::failure::presented;
use crate::http::failure::shows_pages;
use crate::http::reply;
use crate::http::slow_reader::Paced;

/// Where a connection comes from; an extension of every request.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its share of the connections of its address; `None`: it is not counted.
    pub(crate) permit: Option<Arc<ConnectionPermit>>,
}

/// How the server ends: the signals to its parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// Nothing new is begun; what runs is finished.
    pub(crate) stopping: CancellationToken,
    /// What still runs is ended at once.
    pub(crate) cut: CancellationToken,
}

/// Serves `routes` on `listener` until the server is stopping, and returns when all connections have ended: idle ones
/// soon after, the others with their last answer, or when all is cut. The connections of trusted proxies are those of
/// many clients, and do not count as one address's.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    routes: F,
    open: Connections,
    trusted_proxies: TrustedProxies,
    ending: Ending,
) where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let (connections, graceful) = (TaskTracker::new(), GracefulShutdown::new());
    let service = warp::service(routes);
    let accept = async {
        loop {
            let permit = open.permit().await;
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Without file descriptors the next accept would fail at once, and the loop would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Small answers are the rule; without it they wait for the client's acknowledgement.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            let counts = !trusted_proxies.trust(address.ip().to_canonical());
            let of_address = counts.then(|| open.enter(address.ip()).map(Arc::new));
            if let Some(None) = of_address {
                // It takes no permit from others; above the limit of refusals it is closed without an answer.
                if let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(refuse(stream, refusal));
                }
                continue;
            }
            let peer = Peer {
                address,
                permit: of_address.flatten(),
            };
            let builder = builder(request_wait(open.are_scarce(), &peer));
            let stream = Paced::new(stream, open.least_rate());
            let answered = converse(
                builder,
                stream,
                peer,
                service.clone(),
                graceful.watcher(),
                ending.clone(),
            );
            connections.spawn(async move {
                answered.await;
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = ending.stopping.cancelled() => {}
    }
    // A client that connects now is refused by the system, or waits for the next server on the same socket.
    drop(listener);
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = tokio::time::sleep(LAST_REQUEST_WAIT) => {}
    }
    graceful.shutdown().await;
}

/// Answers the requests of one connection, whose client has to read at a least rate.
async fn converse<S>(
    builder: auto::Builder<TokioExecutor>,
    stream: Paced<TcpStream>,
    peer: Peer,
    service: S,
    watcher: Watcher,
    ending: Ending,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (address, stopping) = (peer.address, ending.stopping);
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let shows_pages = shows_pages(request.headers());
        let answer = in_origin_form(request).map(|request| service.clone().call(request));
        let stopping = stopping.clone();
        async move {
            let response = match answer {
                Ok(answer) => answer.await?,
                Err(refusal) => *refusal,
            };
            let mut response = presented(response, shows_pages).await;
            // So that a client opens another connection for its next request, rather than find this one closed.
            if stopping.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                close_after(&mut response);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    tokio::select! {
        ended = watcher.watch(connection) => {
            if let Err(error) = ended {
                tracing::debug!(client.address = %address, error, "connection ended");
            }
        }
        () = ending.cut.cancelled() => {}
    }
}

/// Returns the request with a target that begins with `/`, which is all that the routes know (RFC 9112, 3.2): a target
/// in absolute form loses its authority, `OPTIONS *` asks about the root. Whatever else has none is refused here: warp
/// panics on it (its issue 1166).
fn in_origin_form(mut request: Request<Incoming>) -> Result<Request<Incoming>, Box<Response>> {
    let refuse = |status, text: &str| {
        let mut response = reply::text(status, text);
        reply::allow_all_origins(response.headers_mut());
        // What follows on this connection may not be a request.
        close_after(&mut response);
        Err(Box::new(response))
    };
    if request.method() == Method::CONNECT {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "this server is not a proxy\n");
    }
    let path_and_query = match request.uri().path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.clone(),
        Some(path) if path.as_str() == "*" && request.method() == Method::OPTIONS => PathAndQuery::from_static("/"),
        Some(_) | None => return refuse(StatusCode::BAD_REQUEST, "malformed request\n"),
    };
    *request.uri_mut() = Uri::from(path_and_query);
    Ok(request)
}

/// Answers a connection that is one too many of its address.
async fn refuse(stream: TcpStream, refusal: OwnedSemaphorePermit) {
    // No async closure: rustc 1.95 panics over one here when it compiles incrementally.
    let answer = service_fn(|request: Request<Incoming>| {
        let text = "too many connections from your address\n";
        let mut response = reply::busy(StatusCode::TOO_MANY_REQUESTS, 10, text);
        close_after(&mut response);
        presented(response, shows_pages(request.headers())).map(Ok::<_, Infallible>)
    });
    let builder = builder(REQUEST_WAIT_MIN);
    let answered = builder.serve_connection(TokioIo::new(stream), answer);
    let ended = tokio::time::timeout(REFUSE_TIMEOUT, answered).await;
    tracing::debug!(?ended, "refused a connection: its address has too many");
    drop(refusal);
}

fn close_after(response: &mut Response) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
}

/// Returns how long a connection waits for the head of a request. Up to half of all connections wait long, and few of
/// an address, so that idle ones leave room for all others.
fn request_wait(are_scarce: bool, peer: &Peer) -> Duration {
    let is_one_of_many = peer
        .permit
        .as_ref()
        .is_some_and(|permit| permit.number > LONG_WAITS_PER_ADDRESS_MAX);
    match are_scarce || is_one_of_many {
        true => REQUEST_WAIT_MIN,
        false => REQUEST_WAIT_MAX,
    }
}

fn builder(request_wait: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(request_wait)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
}

const REFUSALS_MAX: usize = 64;

/// For a refused connection to ask and to take its answer.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// For the head of a request, from the end of the one before: ngit and libgit2 ask for the refs, pack for minutes, and
/// push on the same connection; they open no other.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(300);

/// The same where connections are scarce. The shipped proxies keep theirs for less.
const REQUEST_WAIT_MIN: Duration = Duration::from_secs(30);

/// Connections of one address that may wait long: of a client that pushes to several repositories at once.
const LONG_WAITS_PER_ADDRESS_MAX: usize = 16;

const HEAD_BYTES_MAX: usize = 64 * 1024;

/// For the next request on a kept connection, once the server is stopping: the client may just be sending it.
const LAST_REQUEST_WAIT: Duration = Duration::from_secs(2);

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
