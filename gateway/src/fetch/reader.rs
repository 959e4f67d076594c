//! What a reader finds at a coordinate, and what it hears where there is nothing to read.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::git::Oid;
use shared::git::RefName;
use shared::load_facts::FactLoader;
use shared::load_facts::FactsError;
use shared::nip34::Coordinate;
use shared::relay_client::RelayError;
use shared::rules::Facts;
use shared::rules::Hosting;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::http::reply;
use crate::repositories::Repositories;
use crate::repositories::refs::RefSnapshot;

/// Finds what is to be read.
pub(crate) struct Reader {
    /// Where facts come from.
    pub(crate) loader: FactLoader,
    /// What is on disk.
    pub(crate) repositories: Repositories,
}

/// What a reader finds at a coordinate.
pub(crate) enum Found {
    /// A hosted repository, at `path`. One whose state declares no refs, or that has none yet, reads as empty, whatever
    /// is on disk.
    Readable { path: PathBuf, refs: Arc<RefSnapshot> },
    /// A repository whose state declares objects that are not here: mirrors would copy an empty answer, or go back to
    /// an earlier state. With the refs that are here.
    DataMissing(Arc<RefSnapshot>),
    /// A repository on disk whose events were lost with the purgatory: it is kept, and not served.
    NoState,
    /// No repository of this server.
    NotHosted,
    /// It cannot be told now.
    Unavailable,
}

impl Reader {
    /// Returns what a reader finds at `coordinate`.
    pub(crate) async fn find(&self, coordinate: &Coordinate) -> Found {
        let repository = self.repositories.at(coordinate);
        let facts = self.facts(coordinate).await;
        if let Ok(facts) = &facts
            && (facts.hosting(coordinate) == Hosting::Absent || !facts.declares_refs(coordinate))
        {
            // Whatever is on disk, without a state that governs it nobody has declared it.
            return match repository.is_stateless().await {
                Ok(true) => Found::NoState,
                Ok(false) if facts.hosting(coordinate) == Hosting::Absent => Found::NotHosted,
                Ok(false) => Found::Readable {
                    path: repository.store().layout().empty_repository(),
                    refs: Arc::new(RefSnapshot::empty()),
                },
                Err(error) => unreadable(coordinate, &error),
            };
        }
        match (repository.cached_refs().await, facts) {
            (Ok(Some(refs)), Ok(facts)) => self.compare(coordinate, refs, &facts).await,
            // Without facts, what is here is served on: Redis or relay being away stops no clone.
            (Ok(Some(refs)), Err(_)) => match repository.is_stateless().await {
                Ok(false) => self.on_disk(coordinate, refs),
                Ok(true) | Err(_) => Found::NoState,
            },
            (Ok(None), Ok(_)) => {
                self.mark_dirty(coordinate).await;
                Found::DataMissing(Arc::new(RefSnapshot::empty()))
            }
            (Ok(None), Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(repo.coordinate = %coordinate, error, "cannot tell what is hosted");
                Found::Unavailable
            }
            (Err(error), _) => unreadable(coordinate, &error),
        }
    }

    /// Loads the facts for a reader. If the repository is on disk, gives up after [`FACTS_WAIT`].
    async fn facts(&self, coordinate: &Coordinate) -> Result<Facts, FactsError> {
        if !self.repositories.at(coordinate).exists().await {
            return self.loader.load_about(coordinate).await;
        }
        let facts = tokio::time::timeout(FACTS_WAIT, self.loader.load_about(coordinate)).await;
        facts.unwrap_or(Err(FactsError::Relay(RelayError::Timeout)))
    }

    /// Compares a repository on disk with its governing state, which declares refs.
    async fn compare(&self, coordinate: &Coordinate, refs: Arc<RefSnapshot>, facts: &Facts) -> Found {
        let declared = facts.declared(coordinate).map(|declared| &declared.refs);
        let declared = declared.into_iter().flatten();
        if declared.clone().eq(governed(&refs)) {
            return self.on_disk(coordinate, refs);
        }
        self.mark_dirty(coordinate).await;
        // A repository that has just been made to be filled reads as one whose data is missing, not as empty.
        if governed(&refs).next().is_none() {
            return Found::DataMissing(refs);
        }
        // With all the data here, a reconcile is just moving the refs.
        let oids: BTreeSet<Oid> = declared.map(|(_, oid)| *oid).collect();
        match self.repositories.object_kinds(coordinate, None, &oids).await {
            Ok(found) if found.len() == oids.len() => self.on_disk(coordinate, refs),
            Ok(_) => Found::DataMissing(refs),
            Err(error) => unreadable(coordinate, &error),
        }
    }

    fn on_disk(&self, coordinate: &Coordinate, refs: Arc<RefSnapshot>) -> Found {
        Found::Readable {
            path: self.repositories.at(coordinate).path().to_owned(),
            refs,
        }
    }

    /// Marks a repository that is not at its state dirty: a reconcile brings it there, or logs that it cannot.
    async fn mark_dirty(&self, coordinate: &Coordinate) {
        let coordinates = BTreeSet::from([coordinate.clone()]);
        if let Err(error) = self.loader.purgatory.mark_dirty(&coordinates).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(repo.coordinate = %coordinate, error, "cannot mark a repository dirty");
        }
    }
}

impl Found {
    /// Answers a request that needs a repository that can be read.
    pub(crate) fn refusal(&self) -> Response {
        let (status, text) = match self {
            // git shows the text of a refusal to the person, but no page (docs/facts/git-http.md 3.2).
            Self::NotHosted => (StatusCode::NOT_FOUND, "there is no such repository on this server\n"),
            Self::DataMissing(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the data of this repository is missing here; it is back after its maintainer has pushed it again\n",
            ),
            Self::NoState => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the events of this repository were lost here; it is back after its maintainer has published them again\n",
            ),
            Self::Readable { .. } | Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the repository cannot be read now, try again later\n",
            ),
        };
        reply::text(status, text)
    }
}

fn unreadable(coordinate: &Coordinate, error: &(dyn std::error::Error + 'static)) -> Found {
    tracing::error!(repo.coordinate = %coordinate, error, "cannot read a repository");
    Found::Unavailable
}

fn governed(refs: &RefSnapshot) -> impl Iterator<Item = (&RefName, &Oid)> {
    refs.refs.iter().filter(|(name, _)| name.is_branch_or_tag())
}

/// For how long a reader waits for the relay and Redis where the repository is on disk: git asks three times in one
/// clone.
const FACTS_WAIT: Duration = Duration::from_secs(2);
