//! The embedded relay: a thin NIP-01 front over `nostr-lmdb` that does things in strfry's order.
//!
//! A connection reads, checks and answers what needs no write; one writer asks the policy and stores, as
//! `RelayWriter.cpp` does. So the same front is the built-in relay with a policy in this process, and strfry's
//! stand-in in the tests with a policy that hosts a plugin. What the two have in common is pinned by
//! `tests/tests/strfry_contract.rs`.
//!
//! Kept in one module so that `nostr-relay-builder` can take its place once a stable release can answer OK true
//! without storing.

mod admission;
mod client_message;
mod connection;
mod front;
mod outbound;
mod policy;
mod settings;
mod store;
mod subscriptions;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use policy::Source;
pub use policy::SourceKind;
pub use policy::Verdict;
pub use policy::WritePolicy;
pub use settings::RelayLimits;
use store::Store;
pub use store::StoreError;
use subscriptions::Served;
use writer::Submission;

/// A running relay. Dropped, it ends soon after; [`EmbeddedRelay::stop`] waits for it.
#[derive(Debug)]
#[must_use = "a relay that is dropped ends"]
pub struct EmbeddedRelay {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    writer: JoinHandle<()>,
}

/// Why a relay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedRelayError {
    /// The database could not be opened.
    #[error("cannot open the relay's database in {}", directory.display())]
    Database {
        /// Where it should be.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// The listening socket is of no use.
    #[error("cannot use the relay's listening socket")]
    Listener(#[source] io::Error),
}

/// What all connections share.
struct Relay {
    limits: RelayLimits,
    store: Arc<Store>,
    /// To the writer. It ends when the last connection has let go of this.
    submissions: mpsc::Sender<Submission>,
    /// From the writer: what it has stored.
    served: broadcast::Sender<Arc<Served>>,
    /// How many batches the writer has begun to store.
    batches: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
}

impl EmbeddedRelay {
    /// Serves `listener` from the database in `database_dir`, which is made if need be, and asks `policy` about
    /// every event that is valid and new.
    ///
    /// # Errors
    /// The database or the socket is of no use.
    pub async fn start(
        listener: TcpListener,
        database_dir: &Path,
        policy: impl WritePolicy,
        limits: RelayLimits,
    ) -> Result<Self, EmbeddedRelayError> {
        let local_addr = listener.local_addr().map_err(EmbeddedRelayError::Listener)?;
        let store = Store::open(database_dir)
            .await
            .map_err(|source| EmbeddedRelayError::Database {
                directory: database_dir.to_owned(),
                source,
            })?;
        let store = Arc::new(store);
        let (stop, stopped) = watch::channel(false);
        let (submissions, submitted) = mpsc::channel(SUBMISSIONS_MAX);
        let (served, _) = broadcast::channel(SERVED_MAX);
        let (begun, batches) = watch::channel(0);
        let relay = Arc::new(Relay {
            limits,
            store: Arc::clone(&store),
            submissions,
            served: served.clone(),
            batches,
            stop: stopped,
        });
        let writer = tokio::spawn(writer::run(policy, store, submitted, served, begun));
        tokio::spawn(front::listen(listener, relay));
        Ok(Self {
            local_addr,
            stop,
            writer,
        })
    }

    /// Returns where the relay listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Ends all connections, and waits until what was submitted is stored and the policy and the database are let
    /// go of. The database can be opened again then.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.writer.await {
            tracing::error!(%error, "the relay's writer ended badly");
        }
    }
}

/// Most events that wait for the writer; connections wait with what is more.
const SUBMISSIONS_MAX: usize = 256;
/// Most stored events that a connection may be behind with before it is ended.
const SERVED_MAX: usize = 512;

#[cfg(test)]
mod tests;
