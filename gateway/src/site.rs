//! What every part of the gateway shares: where facts come from, where repositories are, how long things take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use nostr::event::EventId;
use nostr::key::PublicKey;
use shared::git::Namespace;
use shared::git::Oid;
use shared::git::RefName;
use shared::load_facts::FactLoader;
use shared::load_facts::FactsError;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::nip34::Declared;
use shared::nip34::Identifier;
use shared::relay_client::RelayError;
use shared::rules::Facts;
use shared::rules::Hosting;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::fetch::advertise::Advertisements;
use crate::fetch::process::UploadPack;
use crate::http::client_address::TrustedProxies;
use crate::http::relay_info::RelayInfo;
use crate::http::reply;
use crate::http::server::Ending;
use crate::http::websocket::WebSockets;
use crate::reconcile::in_flight::InFlight;
use crate::repositories::Storage;
use crate::repositories::locks::Locks;
use crate::repositories::refs::RefSnapshot;
use crate::strfry_import::StrfryImport;

/// The server's parts.
pub(crate) struct Site {
    /// Facts about events.
    pub(crate) loader: FactLoader,
    /// The way into the relay for what it refuses from clients, where the operator gives one.
    pub(crate) strfry_import: Option<StrfryImport>,
    /// The repositories.
    pub(crate) storage: Storage,
    /// Who may change them.
    pub(crate) locks: Locks,
    /// What is advertised.
    pub(crate) advertisements: Advertisements,
    /// What answers fetches.
    pub(crate) upload_pack: UploadPack,
    /// What passes WebSockets on to the relay.
    pub(crate) websockets: WebSockets,
    /// Whose word about the client's address is believed.
    pub(crate) trusted_proxies: TrustedProxies,
    /// The relay's information document.
    pub(crate) relay_info: RelayInfo,
    /// The events that were looked at: a deletion by id does not say what it is about.
    pub(crate) seen: DashMap<EventId, Seen>,
    /// Times and sizes.
    pub(crate) settings: Settings,
    /// What is on its way into the relay.
    pub(crate) in_flight: InFlight,
    /// What goes on without its client; waited for when the server stops.
    pub(crate) tasks: TaskTracker,
    /// How the server ends.
    pub(crate) ending: Ending,
    /// How many packs may be taken in at the same time.
    pub(crate) uploads: Semaphore,
}

/// Whose event it is, and of which identifier.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Who signed it.
    pub(crate) author: PublicKey,
    /// The identifier of the repositories that it speaks of.
    pub(crate) identifier: Identifier,
}

/// Times and sizes.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// For how long a push holds on to its events, in seconds.
    pub(crate) hold_secs: u64,
    /// For how long an expired announcement sleeps, in seconds.
    pub(crate) sleep_secs: u64,
    /// For how long a push waits until its events are served.
    pub(crate) release_wait: Duration,
    /// For how long a pack waits for its turn to be taken in.
    pub(crate) upload_wait: Duration,
    /// For how long whoever publishes an event has it to himself, in seconds.
    pub(crate) lease_secs: u64,
    /// For how long the data of a repository is kept that is not hosted any more, in seconds.
    pub(crate) deleted_retention_secs: u64,
}

/// What a reader finds at a coordinate.
pub(crate) enum Readable {
    /// A repository on disk.
    OnDisk(Arc<RefSnapshot>),
    /// An announced repository that has no refs yet: it reads as empty, and nothing of it is on disk.
    Virtual,
    /// A repository whose state has refs that are not here: an empty answer would be copied by mirrors.
    Lost,
    /// A repository that was at an earlier state when its data was last here (a restored backup): mirrors would go back
    /// with it.
    Behind(Arc<RefSnapshot>),
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
    /// See [`FactsError`].
    pub(crate) async fn facts(&self, coordinate: &Coordinate) -> Result<Facts, FactsError> {
        let subject = FactsScope {
            identifiers: [coordinate.identifier.clone()].into(),
            ..FactsScope::default()
        };
        Ok(self.loader.load(&subject).await?.0)
    }

    /// Returns what a reader finds at `coordinate`.
    pub(crate) async fn readable(&self, coordinate: &Coordinate) -> Readable {
        let facts = self.facts_for_reader(coordinate).await;
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
            (Ok(Some(snapshot)), Ok(facts)) => self.compared(coordinate, snapshot, &facts).await,
            (Ok(None), Ok(_)) => {
                self.have_looked_at(coordinate).await;
                Readable::Lost
            }
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

impl Site {
    /// Looks up everything about the identifier of a repository, and not for long where there is something to read
    /// without it.
    async fn facts_for_reader(&self, coordinate: &Coordinate) -> Result<Facts, FactsError> {
        if !self.storage.at(coordinate).exists().await {
            return self.facts(coordinate).await;
        }
        let facts = tokio::time::timeout(READER_PATIENCE, self.facts(coordinate)).await;
        facts.unwrap_or(Err(FactsError::Relay(RelayError::Timeout)))
    }

    /// Returns what a reader finds whose repository is on disk and has a governing state with refs.
    async fn compared(&self, coordinate: &Coordinate, snapshot: Arc<RefSnapshot>, facts: &Facts) -> Readable {
        let declared = governing(facts, coordinate).map(|declared| &declared.refs);
        let wanted = declared.into_iter().flatten();
        if wanted.clone().eq(governed_refs(&snapshot)) {
            return Readable::OnDisk(snapshot);
        }
        self.have_looked_at(coordinate).await;
        // A repository that has just been made to be filled reads as lost, not as empty.
        if governed_refs(&snapshot).next().is_none() {
            return Readable::Lost;
        }
        // With all the data here, a look is just moving the refs.
        let oids: BTreeSet<Oid> = wanted.map(|(_, oid)| *oid).collect();
        let asked: Vec<Oid> = oids.iter().copied().collect();
        match self.storage.object_kinds(coordinate, None, &asked).await {
            Ok(found) if found.len() == oids.len() => Readable::OnDisk(snapshot),
            Ok(_) => Readable::Behind(snapshot),
            Err(error) => {
                tracing::error!(repo.coordinate = %coordinate, error = &error as &dyn std::error::Error, "cannot read objects");
                Readable::Unknown
            }
        }
    }

    /// Marks a repository that is not at its state: the look brings it there, or says in the log that it cannot.
    async fn have_looked_at(&self, coordinate: &Coordinate) {
        let identifiers = BTreeSet::from([coordinate.identifier.clone()]);
        if let Err(error) = self.loader.purgatory.mark_dirty(&identifiers).await {
            tracing::warn!(repo.coordinate = %coordinate, error = &error as &dyn std::error::Error, "cannot mark an identifier");
        }
    }
}

/// Tells whether the repository's governing state declares any branch or tag.
pub(crate) fn declares_refs(facts: &Facts, coordinate: &Coordinate) -> bool {
    governing(facts, coordinate).is_some_and(|declared| !declared.refs.is_empty())
}

fn governing<'f>(facts: &'f Facts, coordinate: &Coordinate) -> Option<&'f Declared> {
    facts.governing_state(coordinate)?.declared.as_ref().ok()
}

fn governed_refs(snapshot: &RefSnapshot) -> impl Iterator<Item = (&RefName, &Oid)> {
    let is_governed = |name: &RefName| matches!(name.namespace(), Namespace::Branch | Namespace::Tag);
    snapshot.refs.iter().filter(move |(name, _)| is_governed(name))
}

/// For how long a reader waits for the relay and Redis where the repository is on disk: git asks three times in one
/// clone.
const READER_PATIENCE: Duration = Duration::from_secs(2);

impl Readable {
    /// Answers a request that needs a repository that can be read.
    pub(crate) fn refusal(&self) -> Response {
        match self {
            // git shows the text of a refusal to the person, but no page (facts/git-http 3.2).
            Self::Absent => reply::text(StatusCode::NOT_FOUND, "there is no such repository on this server\n"),
            Self::Lost | Self::Behind(_) => reply::text(
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
