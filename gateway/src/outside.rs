//! Connections to the server as clients make them: by its name, through TLS and whatever stands before it.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Limited;
use http_body_util::combinators::BoxBody;
use hyper::Request;
use hyper::Response;
use hyper::client::conn::http1;
use hyper::header;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

/// A connection, of any kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Why the server is not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideError {
    #[error("its name cannot be resolved: {0}")]
    Name(io::Error),
    #[error("nothing listens there: {0}")]
    Connect(io::Error),
    #[error("TLS fails: {0}")]
    Tls(io::Error),
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer in {} s", WAIT_MAX.as_secs())]
    Silent,
}

impl OutsideError {
    pub(crate) fn mend(&self, host: &str) -> String {
        match self {
            Self::Name(_) => format!("point {host} at this server (DNS, A and AAAA), or correct domain"),
            Self::Connect(_) => "start the reverse proxy, and let its port through the firewall".to_owned(),
            Self::Tls(_) => format!("give the reverse proxy a certificate for {host}"),
            Self::Http(_) | Self::Silent => "make the reverse proxy pass everything on to the gateway".to_owned(),
        }
    }
}

/// Connects, and returns the address that this end has.
pub(crate) async fn connect(url: &Url) -> Result<(Box<dyn Connection>, IpAddr), OutsideError> {
    let (host, port) = (
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or(443),
    );
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let addresses = tokio::net::lookup_host((name.clone(), port))
        .await
        .map_err(OutsideError::Name)?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in addresses {
        match timeout(WAIT_MAX, connect_to(address)).await {
            Ok(Ok(stream)) => {
                let own = stream.local_addr().map_err(OutsideError::Connect)?.ip();
                return match url.scheme() {
                    "https" => Ok((Box::new(secure(stream, name).await?), own)),
                    _ => Ok((Box::new(stream), own)),
                };
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(OutsideError::Connect(failure))
}

/// Loopback has many addresses: with an address of its own, a client can be distinguished from the proxy.
async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => {
            let socket = TcpSocket::new_v4()?;
            socket.bind((OWN_LOOPBACK, 0).into())?;
            socket.connect(address).await
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => TcpStream::connect(address).await,
    }
}

async fn secure(stream: TcpStream, name: String) -> Result<impl Connection, OutsideError> {
    let tls = |error: Box<dyn std::error::Error + Send + Sync>| OutsideError::Tls(io::Error::other(error));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name).map_err(|error| tls(error.into()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let secured = timeout(WAIT_MAX, connecting).await.map_err(|_| OutsideError::Silent)?;
    secured.map_err(OutsideError::Tls)
}

/// The body of a request.
pub(crate) type ProbeBody = BoxBody<Bytes, io::Error>;

/// Sends a request on a connection of its own; returns the answer, with the start of its body.
pub(crate) async fn ask(url: &Url, request: Builder, body: ProbeBody) -> Result<Response<Bytes>, OutsideError> {
    ask_within(WAIT_MAX, url, request, body).await
}

/// The same, with another time for the answer.
pub(crate) async fn ask_within(
    wait: Duration,
    url: &Url,
    request: Builder,
    body: ProbeBody,
) -> Result<Response<Bytes>, OutsideError> {
    let mut connection = KeptConnection::open(url).await?;
    let answer = timeout(wait, connection.ask(request, body)).await;
    answer.unwrap_or(Err(OutsideError::Silent))
}

/// A connection that has one request after another.
pub(crate) struct KeptConnection {
    authority: String,
    sender: http1::SendRequest<ProbeBody>,
    /// Ends with the connection.
    driver: JoinHandle<hyper::Result<()>>,
}

impl KeptConnection {
    /// Connects.
    pub(crate) async fn open(url: &Url) -> Result<Self, OutsideError> {
        let (stream, _) = connect(url).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            authority: url.authority().to_owned(),
            sender,
            driver: tokio::spawn(connection),
        })
    }

    /// Sends a request, and returns the answer, with the start of its body, however long that takes.
    pub(crate) async fn ask(&mut self, request: Builder, body: ProbeBody) -> Result<Response<Bytes>, OutsideError> {
        let request = request.header(header::HOST, &self.authority).body(body);
        let request: Request<ProbeBody> = request.map_err(|_| OutsideError::Silent)?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(Response::from_parts(parts, body))
    }

    /// Sends nothing for so long; returns after how long the other end has closed the connection, if it has.
    pub(crate) async fn end_in_silence(&mut self, silence: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let ended = timeout(silence, &mut self.driver).await;
        ended.is_ok().then(|| begun.elapsed())
    }
}

impl Drop for KeptConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// For each wait.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(8);

const ANSWER_BYTES_MAX: usize = 1 << 20;

const OWN_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
