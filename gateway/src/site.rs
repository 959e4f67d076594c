//! What every part of the gateway shares: where facts come from, where repositories are, how long things take.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use nostr::event::EventId;
use nostr::key::PublicKey;
use shared::git::Namespace;
use shared::lookup::Lookup;
use shared::lookup::LookupError;
use shared::lookup::Subject;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::rules::Facts;
use shared::rules::Hosting;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::client_address::TrustedProxies;
use crate::git::Advertisements;
use crate::git::RefSnapshot;
use crate::git::UploadPack;
use crate::lock::Locks;
use crate::proxy::Upstream;
use crate::relay_info::RelayInfo;
use crate::release::Importer;
use crate::release::InFlight;
use crate::reply;
use crate::server::Ending;
use crate::storage::Storage;

/// The server's parts.
pub struct Site {
    /// Facts about events.
    pub lookup: Lookup,
    /// The way into the relay for what it refuses from clients, where the operator gives one.
    pub importer: Option<Importer>,
    /// The repositories.
    pub storage: Storage,
    /// Who may change them.
    pub locks: Locks,
    /// What is advertised.
    pub advertisements: Advertisements,
    /// What answers fetches.
    pub upload_pack: UploadPack,
    /// The relay's address for WebSockets.
    pub upstream: Upstream,
    /// Whose word about the client's address is believed.
    pub trusted_proxies: TrustedProxies,
    /// The relay's information document.
    pub relay_info: RelayInfo,
    /// The events that were looked at: a deletion by id does not say what it is about.
    pub seen: DashMap<EventId, Seen>,
    /// Times and sizes.
    pub settings: Settings,
    /// What is on its way into the relay.
    pub in_flight: InFlight,
    /// What goes on without its client; waited for when the server stops.
    pub tasks: TaskTracker,
    /// How the server ends.
    pub ending: Ending,
    /// How many packs may be taken in at the same time.
    pub uploads: Semaphore,
    /// How many WebSockets there may be.
    pub websockets: Arc<Semaphore>,
}

/// Whose event it is, and of which identifier.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who signed it.
    pub author: PublicKey,
    /// The identifier of the repositories that it speaks of.
    pub identifier: Identifier,
}

/// Times and sizes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For how long a push holds on to its events, in seconds.
    pub hold_secs: u64,
    /// For how long an expired announcement sleeps, in seconds.
    pub sleep_secs: u64,
    /// For how long a push waits until its events are served.
    pub release_wait: Duration,
    /// For how long a pack waits for its turn to be taken in.
    pub upload_wait: Duration,
    /// For how long whoever publishes an event has it to himself, in seconds.
    pub lease_secs: u64,
    /// For how long the data of a repository is kept that is not hosted any more, in seconds.
    pub deleted_retention_secs: u64,
    /// Longest request for a fetch, in bytes, after decompression.
    pub fetch_request_bytes_max: u64,
    /// Longest request for a push, in bytes.
    pub push_request_bytes_max: u64,
}

/// What a reader finds at a coordinate.
pub enum Readable {
    /// A repository on disk.
    OnDisk(Arc<RefSnapshot>),
    /// An announced repository that has no refs yet: it reads as empty, and nothing of it is on disk.
    Virtual,
    /// A repository whose state has refs that are not here: an empty answer would be copied by mirrors.
    Lost,
    /// A repository on disk whose events were lost with the purgatory: it is kept, and not served.
    Undeclared,
    /// No repository of this server.
    Absent,
    /// It cannot be told now.
    Unknown,
}

impl Site {
    /// Looks up everything about the identifier of a repository.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn facts(&self, coordinate: &Coordinate) -> Result<Facts, LookupError> {
        let subject = Subject {
            identifiers: [coordinate.identifier.clone()].into(),
            ..Subject::default()
        };
        Ok(self.lookup.facts(&subject).await?.0)
    }

    /// Returns what a reader finds at `coordinate`.
    pub async fn readable(&self, coordinate: &Coordinate) -> Readable {
        let facts = self.facts(coordinate).await;
        if let Ok(facts) = &facts
            && (facts.hosting(coordinate) == Hosting::Absent || !declares_refs(facts, coordinate))
        {
            // Whatever is on disk, without a state that governs it nobody has declared it.
            return match self.storage.is_undeclared(coordinate).await {
                Ok(true) => Readable::Undeclared,
                Ok(false) if facts.hosting(coordinate) == Hosting::Absent => Readable::Absent,
                Ok(false) => Readable::Virtual,
                Err(error) => {
                    tracing::error!(repo.coordinate = %coordinate, error = &error as &dyn std::error::Error, "cannot read a note");
                    Readable::Unknown
                }
            };
        }
        match (self.storage.at(coordinate).cached_refs().await, facts) {
            // Without facts, what is here is read on: Redis or relay being away stops no clone.
            (Ok(Some(snapshot)), Err(_)) => match self.storage.is_undeclared(coordinate).await {
                Ok(false) => Readable::OnDisk(snapshot),
                Ok(true) | Err(_) => Readable::Undeclared,
            },
            // A repository that has just been made to be filled reads as lost, not as empty.
            (Ok(Some(snapshot)), Ok(_)) if has_governed_refs(&snapshot) => Readable::OnDisk(snapshot),
            (Ok(Some(_)), Ok(_)) => Readable::Lost,
            (Ok(None), Ok(_)) => Readable::Lost,
            (Ok(None), Err(error)) => {
                tracing::warn!(repo.coordinate = %coordinate, error = &error as &dyn std::error::Error, "cannot tell what is hosted");
                Readable::Unknown
            }
            (Err(error), _) => {
                tracing::error!(repo.coordinate = %coordinate, error = &error as &dyn std::error::Error, "cannot read refs");
                Readable::Unknown
            }
        }
    }
}

/// Tells whether the repository's governing state declares any branch or tag.
pub fn declares_refs(facts: &Facts, coordinate: &Coordinate) -> bool {
    let governing = facts
        .governing_state(coordinate)
        .and_then(|state| state.declared.as_ref().ok());
    governing.is_some_and(|declared| !declared.refs.is_empty())
}

fn has_governed_refs(snapshot: &RefSnapshot) -> bool {
    snapshot
        .refs
        .keys()
        .any(|name| matches!(name.namespace(), Namespace::Branch | Namespace::Tag))
}

impl Readable {
    /// Answers a request that needs a repository that can be read.
    pub fn refusal(&self) -> Response {
        match self {
            // git shows the text of a refusal to the person, but no page (facts/git-http 3.2).
            Self::Absent => reply::text(StatusCode::NOT_FOUND, "there is no such repository on this server\n"),
            Self::Lost => reply::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the data of this repository is missing here; it is back after its maintainer has pushed it again\n",
            ),
            Self::Undeclared => reply::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the events of this repository were lost here; it is back after its maintainer has published them again\n",
            ),
            Self::OnDisk(_) | Self::Virtual | Self::Unknown => reply::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the repository cannot be read now, try again later\n",
            ),
        }
    }
}
