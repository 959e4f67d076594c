//! Starts the server: its parts in the order in which they need each other, and the end of all of them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use dashmap::DashMap;
use shared::load_facts::FactLoader;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::relay_client::RelayClient;
use shared::relay_client::RelayUrlError;
use shared::rules::Service;
use shared::rules::ServiceError;
use shared::write_policy::Policy;
use shared::write_policy::RecentlyAccepted;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::embedded_policy::InProcess;
use crate::fetch::advertise::Advertisements;
use crate::fetch::advertise::CaptureError;
use crate::fetch::process::UploadPack;
use crate::git::command::Git;
use crate::git::command::GitError;
use crate::http::relay_info::RelayInfo;
use crate::http::routes::routes;
use crate::http::server;
use crate::http::server::ConnectionLimits;
use crate::http::server::Ending;
use crate::http::websocket_proxy::Upstream;
use crate::options::Config;
use crate::reconcile::in_flight::InFlight;
use crate::reconcile::worker;
use crate::repositories::Storage;
use crate::repositories::layout::Layout;
use crate::repositories::layout::LayoutError;
use crate::repositories::locks::Locks;
use crate::repositories::repository::CreateError;
use crate::repositories::repository::RepositoryStore;
use crate::site::Settings;
use crate::site::Site;
use crate::strfry_import::Importer;
use crate::strfry_import::StrfryError;
use relay::EmbeddedRelay;
use relay::EmbeddedRelayError;
use relay::RelayLimits;

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: is another server running there?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The socket that was handed over cannot be listened on.
    #[error("cannot listen on the socket that was handed over")]
    HandedOver(#[source] io::Error),
    /// The address has no name of its own.
    #[error("cannot derive a domain from the address {address}: give one with --domain")]
    Domain {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: ServiceError,
    },
    /// The data directory is of no use.
    #[error("cannot use the data directory")]
    Layout(#[from] LayoutError),
    /// git is missing or too old.
    #[error("cannot use git")]
    Git(#[from] GitError),
    /// The template of empty repositories could not be made.
    #[error("cannot prepare the repositories")]
    Create(#[from] CreateError),
    /// git could not be asked what it can do.
    #[error("cannot prepare fetches")]
    Capture(#[from] CaptureError),
    /// The purgatory is of no use.
    #[error("cannot use the purgatory")]
    Purgatory(#[from] PurgatoryError),
    /// The relay's URL is none.
    #[error("cannot use the relay")]
    Relay(#[from] RelayUrlError),
    /// The strfry that is to import is of no use.
    #[error("cannot use --strfry-bin")]
    Strfry(#[from] StrfryError),
    /// The built-in relay could not be started.
    #[error("cannot start the built-in relay")]
    Embedded(#[from] EmbeddedRelayError),
}

/// A server that listens.
pub(crate) struct Server {
    site: Arc<Site>,
    listener: TcpListener,
    address: SocketAddr,
    embedded: Option<EmbeddedRelay>,
    connection_limits: ConnectionLimits,
    drain: Duration,
}

impl Server {
    /// Prepares everything and begins to listen: on the socket that was handed over, or where the configuration says.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub(crate) async fn start(config: &Config, handed_over: Option<std::net::TcpListener>) -> Result<Self, StartError> {
        let bind = |source| StartError::Bind {
            address: config.bind,
            source,
        };
        let listener = match handed_over {
            Some(socket) => listen_on(socket).map_err(StartError::HandedOver)?,
            None => TcpListener::bind(config.bind).await.map_err(bind)?,
        };
        let address = listener.local_addr().map_err(bind)?;
        let service = match &config.service {
            Some(service) => service.clone(),
            None => address
                .to_string()
                .parse()
                .map_err(|source| StartError::Domain { address, source })?,
        };
        let layout = Layout::new(&config.data_dir)?;
        let swept = layout.sweep().await?;
        tracing::debug!(?swept, "swept what crashed gateways left");
        let git = Git::discover(layout.root()).await?;
        let git = git.with_git_commands_max(config.server_limits.git_commands_max);
        let repositories = RepositoryStore::open(git, layout.clone(), CACHED_REFS_MAX).await?;
        let importer = match config.strfry.clone() {
            Some(paths) => Some(Importer::open(paths).await?),
            None => None,
        };
        let purgatory = purgatory(config).await?;
        let (loader, embedded) = relay(config, &service, purgatory, layout.root()).await?;
        let server_limits = &config.server_limits;
        let limits = server_limits.of_an_upload();
        let site = Arc::new(Site {
            upstream: Upstream {
                authority: loader.relay.authority(),
                path: loader.relay.target().to_owned(),
            },
            loader,
            importer,
            trusted_proxies: config.trusted_proxies.clone(),
            advertisements: Advertisements::capture(&repositories).await?,
            upload_pack: UploadPack::new(repositories.clone(), server_limits.of_fetches()),
            storage: Storage::new(repositories, limits),
            locks: Locks::new(layout),
            relay_info: RelayInfo::default(),
            seen: DashMap::new(),
            in_flight: InFlight::default(),
            tasks: TaskTracker::new(),
            ending: Ending::default(),
            uploads: Semaphore::new(server_limits.uploads_max),
            websockets: Arc::new(Semaphore::new(server_limits.websockets_max)),
            settings: Settings {
                hold_secs: config.hold_secs,
                sleep_secs: config.sleep_secs,
                release_wait: config.release_wait,
                upload_wait: server_limits.upload_wait,
                lease_secs: LEASE_SECS,
                deleted_retention_secs: config.deleted_retention_secs,
                fetch_request_bytes_max: FETCH_REQUEST_BYTES_MAX,
                push_request_bytes_max: limits.pack_bytes_max.saturating_add(COMMANDS_BYTES_MAX),
            },
        });
        Ok(Self {
            site,
            listener,
            address,
            embedded,
            connection_limits: server_limits.of_connections(config.trusted_proxies.clone()),
            drain: config.drain,
        })
    }

    /// Returns the address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the name it goes by.
    pub(crate) fn service(&self) -> &Service {
        &self.site.loader.service
    }

    /// Serves until `stop` is done. Then nothing new is begun, WebSockets are closed, and requests and pushes that run
    /// have until `cut` is done, and no longer than the drain time. The built-in relay is stopped last.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>, cut: impl Future<Output = ()>) {
        let site = self.site;
        let ending = site.ending.clone();
        let stopped = CancellationToken::new();
        let worker = tokio::spawn(worker::run(Arc::clone(&site), stopped.clone().cancelled_owned()));
        let routes = routes(Arc::clone(&site));
        let work = async {
            server::serve(self.listener, routes, self.connection_limits, ending.clone()).await;
            stopped.cancel();
            site.tasks.close();
            site.tasks.wait().await;
            if let Err(error) = worker.await {
                tracing::error!(%error, "the worker ended badly");
            }
        };
        let end = async {
            stop.await;
            ending.stopping.cancel();
            tracing::info!(
                drain_secs = self.drain.as_secs(),
                "stopping: what runs is finished; another signal ends it at once"
            );
            tokio::select! {
                () = tokio::time::sleep(self.drain) => {}
                () = cut => {}
            }
        };
        tokio::select! {
            () = work => {}
            () = end => {
                ending.cut.cancel();
                tracing::warn!("work that still went on was cut off; the next start goes on with it");
            }
        }
        if let Some(relay) = self.embedded {
            relay.stop().await;
        }
    }
}

fn listen_on(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

async fn purgatory(config: &Config) -> Result<Purgatory, PurgatoryError> {
    let Some(settings) = &config.redis else {
        tracing::warn!(
            "the purgatory is in memory: events that wait for git data end with this process; \
             to keep them give a Redis with --redis-url redis://127.0.0.1:6379"
        );
        return Ok(Purgatory::in_memory(config.limits, Arc::new(unix_secs)));
    };
    let purgatory = Purgatory::connect(settings, config.limits).await?;
    match purgatory.check_server().await {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        // It may come up later than we do: until then pushes are refused and reads go on.
        Err(error @ PurgatoryError::Unavailable { .. }) => {
            tracing::error!(error = &error as &dyn std::error::Error, "Redis does not answer");
        }
        Err(error) => return Err(error),
    }
    Ok(purgatory)
}

/// Finds the relay, or starts the built-in one: on a loopback port of its own, reached as strfry would be, so that
/// everything else is the same with both.
async fn relay(
    config: &Config,
    service: &Service,
    purgatory: Purgatory,
    data_dir: &Path,
) -> Result<(FactLoader, Option<EmbeddedRelay>), StartError> {
    let loader = |url: &str| {
        Ok::<_, RelayUrlError>(FactLoader {
            purgatory: purgatory.clone(),
            relay: RelayClient::new(url, RELAY_TIMEOUT)?,
            service: service.clone(),
            mode: config.maintainer_mode,
            access: config.access.clone(),
        })
    };
    if let Some(url) = &config.relay_url {
        return Ok((loader(url)?, None));
    }
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Bind { address, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| StartError::Bind { address, source })?;
    let url = format!("ws://{address}/");
    let policy = Policy {
        // On a connection of its own: what the gateway publishes may wait for the very answer that this looks up.
        loader: loader(&url)?,
        hold_secs: config.hold_secs,
        other_kinds: config.other_kinds,
        answer_timeout: ANSWER_TIMEOUT,
        overlay: RecentlyAccepted::default(),
    };
    let database = data_dir.join("relay");
    let relay = EmbeddedRelay::start(listener, &database, InProcess(policy), RelayLimits::default()).await?;
    Ok((loader(&url)?, Some(relay)))
}

fn unix_secs() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Refs held in memory for advertisements, over all repositories.
const CACHED_REFS_MAX: usize = 1_000_000;

/// For one answer of the relay.
const RELAY_TIMEOUT: Duration = Duration::from_secs(5);

/// For one answer of the write policy, with its look-ups.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Whoever publishes an event has it to himself for so long (design 2, rule 4).
const LEASE_SECS: u64 = 15;

/// git's own bound is 10 MiB (`GIT_HTTP_MAX_REQUEST_BUFFER`).
const FETCH_REQUEST_BYTES_MAX: u64 = 16 << 20;

/// Room for the command list beside the pack.
const COMMANDS_BYTES_MAX: u64 = 4 << 20;
