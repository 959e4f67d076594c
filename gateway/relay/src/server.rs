//! Starts and stops the relay.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use nostr_database::error::Error as DatabaseError;
use shared::live::Live;
use shared::live::Permits;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::connection::Relay;
use crate::event_store::EventStore;
use crate::front;
use crate::large_messages::LargeMessages;
use crate::limits::RelayLimits;
use crate::message_bytes::MessageBytes;
use crate::policy::EventPolicy;
use crate::room::StoreRoom;
use crate::served_events::ServedEvents;
use crate::shares::AddressShares;
use crate::writer;
use crate::writer::Batches;
use crate::writer::Submitted;

/// A running relay. Dropped, it ends soon after; [`RelayServer::stop`] waits for it.
#[derive(Debug)]
#[must_use = "a relay that is dropped ends"]
pub struct RelayServer {
    local_addr: SocketAddr,
    live: LiveRelayLimits,
    stop: watch::Sender<bool>,
    writer: JoinHandle<()>,
}

/// Those limits of a running relay that can change. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveRelayLimits {
    connections: Permits,
    stored_bytes_per_day_max: Live<u64>,
}

/// Why the relay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RelayStartError {
    /// The database could not be opened.
    #[error("cannot open the relay's database in {}", directory.display())]
    Database {
        /// Where it should be.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: DatabaseError,
    },
    /// The address of the listening socket cannot be read.
    #[error("cannot use the relay's listening socket")]
    Listener(#[source] io::Error),
    /// The thread for large messages could not be started.
    #[error("cannot start a thread of the relay")]
    Thread(#[source] io::Error),
}

impl RelayServer {
    /// Serves `listener` from the database in `database_dir`, which is made if need be, and asks `policy` about
    /// every event that is valid and new.
    ///
    /// # Errors
    /// The database cannot be opened, the socket has no address, or there is no thread.
    pub async fn start(
        listener: TcpListener,
        database_dir: &Path,
        policy: impl EventPolicy,
        limits: RelayLimits,
    ) -> Result<Self, RelayStartError> {
        let local_addr = listener.local_addr().map_err(RelayStartError::Listener)?;
        let store = EventStore::open(database_dir, limits.database_bytes_max)
            .await
            .map_err(|source| RelayStartError::Database {
                directory: database_dir.to_owned(),
                source,
            })?;
        let store = Arc::new(store);
        let (stop, stopped) = watch::channel(false);
        let (submissions, submitted) = mpsc::channel(SUBMISSIONS_MAX);
        let (own_submissions, own_submitted) = mpsc::channel(SUBMISSIONS_MAX);
        let served = ServedEvents::new(limits.served_bytes_max);
        let (progress, batches) = watch::channel(Batches::default());
        let relay = Arc::new(Relay {
            limits,
            store: Arc::clone(&store),
            submissions,
            own_submissions,
            served: served.clone(),
            batches,
            large_messages: LargeMessages::start(limits).map_err(RelayStartError::Thread)?,
            shares: AddressShares::new(limits),
            unread: MessageBytes::new(limits.unread_bytes_per_address_max, limits.unread_bytes_max),
            unsent: MessageBytes::new(limits.unsent_bytes_per_address_max, limits.unsent_bytes_max),
            stop: stopped,
        });
        let room = StoreRoom::new(database_dir, &limits);
        let live = LiveRelayLimits {
            connections: Permits::new(limits.connections_max),
            stored_bytes_per_day_max: room.per_day_max.clone(),
        };
        let submitted = Submitted {
            own: own_submitted,
            others: submitted,
            taken: VecDeque::new(),
            room,
        };
        let writer = tokio::spawn(writer::run(policy, store, submitted, served, progress));
        tokio::spawn(delete_expired(Arc::clone(&relay)));
        tokio::spawn(front::listen(listener, live.connections.clone(), relay));
        Ok(Self {
            local_addr,
            live,
            stop,
            writer,
        })
    }

    /// Returns where the relay listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns what changes its limits.
    pub fn live(&self) -> LiveRelayLimits {
        self.live.clone()
    }

    /// Ends all connections, and waits until submitted events are stored and the policy and the database are dropped.
    /// After that the database can be opened again.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.writer.await {
            tracing::error!(%error, "the relay's writer panicked");
        }
    }
}

impl LiveRelayLimits {
    /// Takes those of `limits` that can change: `connections_max` and `stored_bytes_per_day_max`.
    pub fn set(&self, limits: &RelayLimits) {
        self.connections.set_max(limits.connections_max);
        self.stored_bytes_per_day_max.set(limits.stored_bytes_per_day_max);
    }
}

async fn delete_expired(relay: Arc<Relay>) {
    let mut stop = relay.stop.clone();
    tokio::select! {
        () = relay.store.keep_deleting_expired() => {}
        // An error means that the relay itself was dropped.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Most events that wait for the writer; beyond that, connections wait.
const SUBMISSIONS_MAX: usize = 256;
