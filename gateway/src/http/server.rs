//! Accepts connections and answers requests on them: our own loop around warp's service, because warp's neither bounds
//! the time for a request's head nor the number of connections (docs/facts/git-http.md 7).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use warp::Filter;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::http::client_address::TrustedProxies;
use crate::http::connections::ConnectionPermit;
use crate::http::connections::Connections;

/// Where a connection comes from; an extension of every request.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The place that it has among the connections of its address, for whoever goes on with it; `None`: it is not
    /// counted.
    pub(crate) place: Option<Arc<ConnectionPermit>>,
}

/// How many connections there may be.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// In all; more wait in the listener's queue.
    pub(crate) connections_max: usize,
    /// From one address.
    pub(crate) per_address_max: usize,
    /// Who calls for many others, so that its connections are not counted as one client's.
    pub(crate) trusted_proxies: TrustedProxies,
}

/// How the server ends, as its parts are told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// Nothing new is begun; what runs goes on.
    pub(crate) stopping: CancellationToken,
    /// What still runs ends at once.
    pub(crate) cut: CancellationToken,
}

/// Serves `routes` on `listener` until the server is stopping, and returns when all connections have ended: those that
/// ask for nothing soon after, the others with what they are at, or when all is cut.
pub(crate) async fn serve<F>(listener: TcpListener, routes: F, limits: ConnectionLimits, ending: Ending)
where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let addresses = Connections::new(limits.per_address_max);
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let running = TaskTracker::new();
    let service = warp::service(routes);
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&connections).acquire_owned() => permit,
            () = ending.stopping.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
            () = ending.stopping.cancelled() => break,
        };
        let place = match limits.trusted_proxies.trust(peer.ip().to_canonical()) {
            true => None,
            false => match addresses.enter(peer.ip()) {
                Some(place) => Some(Arc::new(place)),
                None => {
                    // Whoever has too many takes no place from others by being told so.
                    drop(permit);
                    if let Ok(turn) = Arc::clone(&refusals).try_acquire_owned() {
                        tokio::spawn(async move {
                            refuse(stream).await;
                            drop(turn);
                        });
                    }
                    continue;
                }
            },
        };
        let (service, ending) = (service.clone(), ending.clone());
        running.spawn(async move {
            let address = peer;
            converse(stream, Peer { address, place }, service, ending).await;
            drop(permit);
        });
    }
    // Whoever calls now is refused by the system, or waits for whoever listens on the same socket.
    drop(listener);
    running.close();
    running.wait().await;
}

/// Answers the requests of one connection.
async fn converse<S>(stream: TcpStream, peer: Peer, service: S, ending: Ending)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Small answers are the rule; without it they wait for the client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let address = peer.address;
    let has_asked = Arc::new(AtomicBool::new(false));
    let (asks, stopping) = (Arc::clone(&has_asked), ending.stopping.clone());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer.clone());
        let answer = service.clone().call(request);
        let stopping = stopping.clone();
        async move {
            let mut response = answer.await?;
            // So that a client opens another connection for its next request, rather than find this one closed.
            if stopping.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let last_request = async {
        ending.stopping.cancelled().await;
        tokio::time::sleep(LAST_REQUEST_WAIT).await;
    };
    let mut ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = last_request => None,
        () = ending.cut.cancelled() => return,
    };
    if ended.is_none() && has_asked.load(Ordering::Relaxed) {
        connection.as_mut().graceful_shutdown();
        ended = tokio::select! {
            ended = connection => Some(ended),
            () = ending.cut.cancelled() => None,
        };
    }
    if let Some(Err(error)) = ended {
        tracing::debug!(client.address = %address, error, "connection ended");
    }
}

/// Answers a connection that is one too many of its address, and reads what it sends for a moment: what is unread when
/// a connection is closed takes the answer away with it.
async fn refuse(mut stream: TcpStream) {
    let refused = async {
        stream.write_all(TOO_MANY_CONNECTIONS).await?;
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it was heard is the client's business.
    if !matches!(tokio::time::timeout(REFUSE_TIMEOUT, refused).await, Ok(Ok(()))) {
        tracing::debug!("a connection too many of its address went without its answer");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
}

/// Without file descriptors the next accept would fail at once, and the loop would spin.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// For a connection that is one too many of its address.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 10\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 40\r\n\r\ntoo many connections from your address\r\n";

/// Told so at the same time; more are closed without a word.
const REFUSALS_MAX: usize = 64;

/// For saying so.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// For the head of a request, from its first byte or the end of the one before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// For the next request on a connection that is kept, once the server is stopping: the client may just be sending it.
const LAST_REQUEST_WAIT: Duration = Duration::from_secs(2);

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
