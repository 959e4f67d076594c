//! Starts the server: its parts in the order in which they need each other, and the end of all of them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use nostr::types::Timestamp;
use shared::decision_counts::DecisionCounts;
use shared::live::Live;
use shared::load_facts::FactLoader;
use shared::options::access_files::AccessFiles;
use shared::purgatory::Clock;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::refusal_log::RefusalLog;
use shared::relay_client::RelayClient;
use shared::relay_client::RelayUrl;
use shared::rules::Service;
use shared::too_large::TooLarge;
use shared::write_policy::RecentlyAccepted;
use shared::write_policy::WritePolicy;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::address::AdminParts;
use crate::admin::address::admin_routes;
use crate::admin::health::Health;
use crate::admin::own_address::is_own;
use crate::background::threads::BackgroundThreads;
use crate::background::worker;
use crate::command_error::CommandError;
use crate::fairness::least_rate::LeastRate;
use crate::fairness::shares::Shares;
use crate::fairness::slots::Slots;
use crate::fetch::reader::Reader;
use crate::fetch::server::UploadPack;
use crate::git::command::Git;
use crate::http::client_address::TrustedProxies;
use crate::http::connections::ConnectionLimits;
use crate::http::connections::Connections;
use crate::http::own_requests::OwnRequests;
use crate::http::repository_pages::RepositoryPages;
use crate::http::root::Root;
use crate::http::routes::Gateway;
use crate::http::routes::routes;
use crate::http::server;
use crate::http::server::Ending;
use crate::http::websocket::WebSockets;
use crate::live_parts::LiveParts;
use crate::logged::logged;
use crate::meter::Meter;
use crate::options::GatewayOptions;
use crate::push::Pusher;
use crate::push::audit::PushLog;
use crate::push::list_memory::of_all_lists;
use crate::push::publication::PushPublisher;
use crate::push::receive::Receiver;
use crate::reconcile::Reconciler;
use crate::reconcile::known_events::KnownEvents;
use crate::reconcile::large_loads::LargeLoads;
use crate::reconcile::paused::PausedPullRequests;
use crate::reconcile::publish::Publisher;
use crate::reconcile::pull_request_events::PullRequestEvents;
use crate::repositories::Repositories;
use crate::repositories::changes::Changes;
use crate::repositories::layout::Layout;
use crate::repositories::repository::RepositoryStore;
use crate::strfry_import::StrfryImport;
use relay::RelayServer;

/// A server that listens.
pub(crate) struct Server {
    gateway: Arc<Gateway>,
    listener: TcpListener,
    address: SocketAddr,
    embedded: Option<RelayServer>,
    tasks: TaskTracker,
    ending: Ending,
    drain: Live<Duration>,
    deleted_retention_secs: Live<u64>,
    admin: Option<(TcpListener, Health)>,
}

impl Server {
    /// Prepares everything and begins to listen: on the socket of an activation, or on the configured address.
    ///
    /// # Errors
    /// See [`CommandError`]; nothing is left running then.
    pub(crate) async fn start(
        options: &GatewayOptions,
        activated: Option<std::net::TcpListener>,
    ) -> Result<Self, CommandError> {
        let (listener, address) = listen(options, activated).await?;
        if let Some(url) = &options.relay_url
            && is_own(url, address).await
        {
            return Err(CommandError::new(format!(
                "--relay-url names this gateway itself, {address}: it must name strfry, by the address in strfry.conf \
                 (relay.bind and relay.port), such as ws://127.0.0.1:7777"
            )));
        }
        let service = options.listen.service_at(address)?;
        if options.listen.domain.is_none() && address.ip().is_unspecified() {
            tracing::warn!(
                "without --domain this server goes by {service}, by which no other host reaches it: what names it in \
                 its clone and relays tags is refused or not found; give the host that clients use with --domain"
            );
        }
        let admin_listener = match options.listen.admin_bind {
            Some(address) => Some(bind(address).await?.0),
            None => None,
        };
        let store = open_store(options).await?;
        let purgatory = purgatory(options)
            .await
            .map_err(CommandError::because("cannot use the purgatory"))?;
        let (loader, embedded) = relay(options, &service, purgatory, store.layout().root()).await?;
        let (tasks, ending) = (TaskTracker::new(), Ending::default());
        let limits = &options.live.server;
        let upload_pack = UploadPack::new(store.clone(), limits.of_fetches());
        let repositories = Repositories::new(store.clone(), limits.of_an_upload())
            .with_disk_limits(limits.of_disk(), upload_pack.spare())
            .with_maintenance(options.live.maintenance.settings());
        let changes = Changes::new();
        let reader = reader(options, &loader, &repositories, &changes);
        let reconciler = reconciler(options, loader.clone(), repositories.clone(), changes).await?;
        let health = Health {
            purgatory: loader.purgatory.clone(),
            relay: loader.relay.clone(),
            data_dir: store.layout().root().to_owned(),
            disk_limits: repositories.disk_use().limits().clone(),
            has_redis: options.redis().is_some(),
            state: Mutex::default(),
        };
        let gateway = Gateway {
            websockets: WebSockets::new(&loader.relay, limits.websockets_max, &ending, &tasks),
            connections: Connections::new(limits.of_connections()),
            root: Root::new(Arc::clone(&reader), repositories.clone()),
            pages: RepositoryPages::new(Arc::clone(&reader), repositories),
            upload_pack,
            pusher: Arc::new(pusher(options, reconciler, &reader, &tasks, &ending)),
            trusted_proxies: options.listen.trusted_proxies.clone(),
            own_requests: OwnRequests::default(),
            reader,
        };
        Ok(Self {
            gateway: Arc::new(gateway),
            listener,
            address,
            embedded,
            tasks,
            ending,
            drain: Live::new(*options.live.times.drain),
            deleted_retention_secs: Live::new(options.live.deleted_retention_secs()),
            admin: admin_listener.map(|listener| (listener, health)),
        })
    }

    /// Returns the address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what loads the facts that this server decides with.
    pub(crate) fn loader(&self) -> &FactLoader {
        &self.gateway.reader.loader
    }

    /// Returns what changes the server while it runs.
    pub(crate) fn live(&self) -> LiveParts {
        LiveParts {
            gateway: Arc::clone(&self.gateway),
            relay: self.embedded.as_ref().map(RelayServer::live),
            drain: self.drain.clone(),
            deleted_retention_secs: self.deleted_retention_secs.clone(),
        }
    }

    /// Serves until `stop` is done. Then nothing new is begun, WebSockets are closed, and requests and pushes that run
    /// have until `cut` is done, and no longer than the drain time. The built-in relay is stopped last.
    ///
    /// # Errors
    /// The worker ended, without which nothing is released: the server ends, so that its supervisor restarts it.
    pub(crate) async fn run(
        self,
        stop: impl Future<Output = ()>,
        cut: impl Future<Output = ()>,
    ) -> Result<(), CommandError> {
        let ending = self.ending.clone();
        let stopped = CancellationToken::new();
        let reconciler = Arc::clone(&self.gateway.pusher.reconciler);
        let retention_secs = self.deleted_retention_secs;
        let background = BackgroundThreads::start().map_err(CommandError::because("cannot start threads"))?;
        let mut worker = background.spawn(worker::run(
            reconciler,
            retention_secs,
            stopped.clone().cancelled_owned(),
        ));
        if let Some((listener, health)) = self.admin {
            let parts = AdminParts::new(health, Arc::clone(&self.gateway));
            let routes = admin_routes(Arc::new(parts));
            log_admin_address(&listener);
            tokio::spawn(server::serve(
                listener,
                routes,
                admin_connections(),
                TrustedProxies::default(),
                ending.clone(),
            ));
        }
        let (connections, trusted_proxies) = (self.gateway.connections.clone(), self.gateway.trusted_proxies.clone());
        let serve = server::serve(
            self.listener,
            routes(self.gateway),
            connections,
            trusted_proxies,
            ending.clone(),
        );
        let work = async {
            tokio::select! {
                () = serve => {}
                ended = &mut worker => return Err(match ended {
                    Ok(()) => CommandError::new(WORKER_ENDED),
                    Err(error) => CommandError::because(WORKER_ENDED)(error),
                }),
            }
            stopped.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            worker.await.map_err(CommandError::because(WORKER_ENDED))
        };
        let end = async {
            stop.await;
            ending.stopping.cancel();
            let drain = self.drain.get();
            tracing::info!(
                drain_secs = drain.as_secs(),
                "stopping: running requests are finished; another signal ends them at once"
            );
            tokio::select! {
                () = tokio::time::sleep(drain) => {}
                () = cut => {}
            }
        };
        let ended = tokio::select! {
            ended = work => ended,
            () = end => {
                ending.cut.cancel();
                tracing::warn!("unfinished work was cut off; the next start continues it");
                Ok(())
            }
        };
        if let Some(relay) = self.embedded {
            relay.stop().await;
        }
        ended
    }
}

/// Opens the data directory and the parts that work on it. It reads none of the repositories, however many there are:
/// the re-check removes later what killed gateways left.
async fn open_store(options: &GatewayOptions) -> Result<RepositoryStore, CommandError> {
    let layout = Layout::new(&options.data_dir).map_err(CommandError::because("cannot use the data directory"))?;
    let git = Git::discover(layout.root())
        .await
        .map_err(CommandError::because("cannot use git"))?;
    git.set_commands_max(options.live.server.git_commands_max);
    RepositoryStore::open(git, layout, CACHED_REFS_MAX)
        .await
        .map_err(CommandError::because("cannot prepare the repositories"))
}

fn reader(
    options: &GatewayOptions,
    loader: &FactLoader,
    repositories: &Repositories,
    changes: &Changes,
) -> Arc<Reader> {
    let cache_bytes_max = options.live.server.read_cache_bytes_max.0;
    let (loader, repositories) = (loader.clone(), repositories.clone());
    Arc::new(Reader::new(loader, repositories, changes.clone(), cache_bytes_max))
}

async fn reconciler(
    options: &GatewayOptions,
    loader: FactLoader,
    repositories: Repositories,
    changes: Changes,
) -> Result<Arc<Reconciler>, CommandError> {
    let import = match options.strfry.paths() {
        Some(paths) => Some(
            StrfryImport::open(paths)
                .await
                .map_err(CommandError::because("cannot use --strfry-bin"))?,
        ),
        None => None,
    };
    Ok(Arc::new(Reconciler {
        publisher: Publisher::new(loader.relay.clone(), loader.purgatory.clone(), import, LEASE_SECS),
        large_loads: LargeLoads::new(loader.clone()),
        loader,
        repositories,
        changes,
        known_events: KnownEvents::new(),
        pull_request_events: PullRequestEvents::new(),
        paused: PausedPullRequests::default(),
        settings: Live::new(options.live.of_reconciles()),
    }))
}

fn pusher(
    options: &GatewayOptions,
    reconciler: Arc<Reconciler>,
    reader: &Arc<Reader>,
    tasks: &TaskTracker,
    ending: &Ending,
) -> Pusher {
    let limits = &options.live.server;
    let purgatory = reconciler.loader.purgatory.clone();
    Pusher {
        receiver: Receiver {
            repositories: reconciler.repositories.clone(),
            purgatory: reconciler.loader.purgatory.clone(),
            lists: of_all_lists(),
            incoming: Shares::new(limits.of_transfers()),
            times: Live::new(limits.of_receiving()),
            received_bytes: Meter::default(),
            checks: Slots::new(limits.uploads_max),
        },
        publisher: PushPublisher {
            reconciler: Arc::clone(&reconciler),
            release_wait: Live::new(*options.live.times.release_wait),
            tasks: tasks.clone(),
            stopping: ending.stopping.clone(),
        },
        reconciler,
        reader: Arc::clone(reader),
        tasks: tasks.clone(),
        log: Arc::new(PushLog::new(purgatory)),
    }
}

async fn listen(
    options: &GatewayOptions,
    activated: Option<std::net::TcpListener>,
) -> Result<(TcpListener, SocketAddr), CommandError> {
    match activated {
        Some(socket) => listen_on(socket).map_err(CommandError::because(
            "cannot listen on the socket passed by socket activation",
        )),
        None => bind(options.listen.bind).await,
    }
}

fn listen_on(socket: std::net::TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((TcpListener::from_std(socket)?, address))
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), CommandError> {
    let bound = async {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    bound.await.map_err(CommandError::because(format!(
        "cannot listen on {address}: is another server running there?"
    )))
}

async fn purgatory(options: &GatewayOptions) -> Result<Purgatory, PurgatoryError> {
    let limits = options.live.held;
    let Some(settings) = options.redis() else {
        tracing::warn!(
            "the purgatory is in memory: events that wait for git data end with this process; \
             to keep them give a Redis with --redis-url redis://127.0.0.1:6379"
        );
        return Ok(Purgatory::in_memory(limits, steady_clock()));
    };
    let purgatory = Purgatory::connect(&settings, limits).await?;
    match purgatory.check_server().await {
        // `keep_agreement` names the warnings.
        Ok(_) => {}
        // It may start later than this program: until then pushes are refused and reads continue.
        Err(error @ PurgatoryError::Unavailable { .. }) => {
            tracing::error!(error = logged(&error), "Redis does not answer");
        }
        Err(error) => return Err(error),
    }
    Ok(purgatory)
}

/// Finds the relay, or starts the built-in one: on a loopback port of its own, reached as strfry would be, so that
/// everything else is the same with both.
async fn relay(
    options: &GatewayOptions,
    service: &Service,
    purgatory: Purgatory,
    data_dir: &Path,
) -> Result<(FactLoader, Option<RelayServer>), CommandError> {
    let access = AccessFiles::open(options.rules.lists.clone())
        .map_err(CommandError::because("cannot use the operator's lists"))?;
    let loader = |url: &RelayUrl| FactLoader {
        purgatory: purgatory.clone(),
        relay: RelayClient::new(url.clone(), RELAY_TIMEOUT),
        service: service.clone(),
        mode: options.rules.maintainer_mode,
        access: access.clone(),
    };
    if let Some(url) = &options.relay_url {
        return Ok((loader(url), None));
    }
    let (listener, address) = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let url: RelayUrl = format!("ws://{address}/")
        .parse()
        .expect("an address and port is a host");
    let policy = WritePolicy {
        // On a connection of its own: the gateway's publishing may wait for the answer to this query.
        loader: loader(&url),
        other_kinds: options.other_kinds,
        answer_timeout: ANSWER_TIMEOUT,
        recently_accepted: RecentlyAccepted::default(),
        too_large: TooLarge::default(),
        refusals: RefusalLog::new(purgatory.clone()),
        decisions: DecisionCounts::begin(purgatory.clone()),
    };
    let database = data_dir.join("relay");
    let limits = options.of_relay();
    let relay = RelayServer::start(listener, &database, policy, limits)
        .await
        .map_err(CommandError::because("cannot start the built-in relay"))?;
    Ok((loader(&url), Some(relay)))
}

/// Returns a clock that shows unix seconds and passes evenly: a system that is set to another time ends nothing that
/// waits.
fn steady_clock() -> Clock {
    let start = Instant::now();
    let then = Timestamp::now().as_secs();
    Arc::new(move || then.saturating_add(start.elapsed().as_secs()))
}

const WORKER_ENDED: &str = "the worker that releases events ended";

fn log_admin_address(listener: &TcpListener) {
    match listener.local_addr() {
        Ok(address) if address.ip().is_loopback() => {
            tracing::info!(%address, "this address serves a page about the purgatory, /livez, /readyz and /metrics");
        }
        Ok(address) => tracing::warn!(
            %address,
            "this address serves a page about the purgatory, /livez, /readyz and /metrics, where others than this host may reach them"
        ),
        Err(error) => tracing::warn!(%error, "cannot determine the admin address"),
    }
}

/// Of supervisors and of Prometheus.
fn admin_connections() -> Connections {
    Connections::new(ConnectionLimits {
        connections_max: 64,
        per_address_max: 32,
        least_rate: LeastRate::DEFAULT,
    })
}

/// Refs held in memory for advertisements, over all repositories.
const CACHED_REFS_MAX: usize = 1_000_000;

/// Connections that wait to be accepted: with the usual 1,024, a client that opens as many as it may at once delays
/// others for a second. The system may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// For one answer of the relay.
const RELAY_TIMEOUT: Duration = Duration::from_secs(5);

/// For one answer of the write policy, with its look-ups.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The duration of a lease: only its holder publishes the event (docs/ARCHITECTURE.md rule 4).
const LEASE_SECS: u64 = 15;
