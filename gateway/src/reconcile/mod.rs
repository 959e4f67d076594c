//! One look at some identifiers: load facts, decide, act.

pub(crate) mod in_flight;
pub(crate) mod publish;
mod recovery;
mod retire;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::load_facts::FactsError;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::DirtyNumber;
use shared::purgatory::Leased;
use shared::purgatory::MarkedReleasing;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Release;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::Plan;
use shared::rules::plan;

use crate::repositories::StorageError;
use crate::repositories::locks::Locked;
use crate::site::Seen;
use crate::site::Site;
use crate::site::declares_refs;

/// What a look left to do.
#[derive(Debug, Default)]
#[must_use = "what a look has leased must be published"]
pub(crate) struct Look {
    /// The events that are complete, to be published in this order.
    pub(crate) leased: Vec<Leased>,
    /// Events that are complete too, and are published by whoever finds that what they wait for has left.
    pub(crate) later: BTreeSet<EventId>,
    /// Identifiers to look at together with these, before a PR of several can expire.
    pub(crate) widen: BTreeSet<Identifier>,
    /// Repositories that could not be read or changed: the mark is left for another look.
    pub(crate) broken: BTreeSet<Coordinate>,
}

/// Why a look did not come to its end: what it had not done yet stays to be done, and the mark stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// There are no facts, so nothing was decided.
    #[error("no facts to decide on")]
    FactLoader(#[from] FactsError),
    /// The purgatory went away in the middle.
    #[error("cannot write to the purgatory")]
    Purgatory(#[from] PurgatoryError),
    /// Something on disk could not be read or changed.
    #[error("cannot bring the repositories to their state")]
    Storage(#[from] StorageError),
    /// The lock could not be had.
    #[error("cannot lock the identifier")]
    Lock(#[source] std::io::Error),
}

impl ReconcileError {
    /// Tells whether the relay or Redis is the reason, and not anything of the identifiers.
    pub(crate) fn is_of_a_neighbour(&self) -> bool {
        match self {
            Self::FactLoader(FactsError::Relay(error)) => error.is_passing(),
            Self::FactLoader(FactsError::Purgatory(_)) | Self::Purgatory(_) => true,
            Self::Storage(_) | Self::Lock(_) => false,
        }
    }
}

impl Site {
    /// Looks at some identifiers under their locks, and at more if that takes more to decide.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub(crate) async fn look(&self, identifiers: BTreeSet<Identifier>) -> Result<Look, ReconcileError> {
        let locked = self
            .locks
            .lock(identifiers.clone())
            .await
            .map_err(ReconcileError::Lock)?;
        let mut look = self.reconcile_locked(&locked).await?;
        drop(locked);
        if look.widen.is_subset(&identifiers) {
            return Ok(look);
        }
        // Once: what would need even more is looked at when its own identifiers are.
        let wider = identifiers.union(&look.widen).cloned().collect();
        let wider = match self.locks.lock(wider).await {
            Ok(locked) => self.reconcile_locked(&locked).await,
            Err(error) => Err(ReconcileError::Lock(error)),
        };
        match wider {
            Ok(wider) => {
                look.leased.extend(wider.leased);
                look.later.extend(wider.later);
                look.broken.extend(wider.broken);
            }
            // What was leased must be published all the same.
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "cannot look at all repositories that a PR is offered to, will look again"
                );
            }
        }
        Ok(look)
    }

    /// Looks at the identifiers that are locked.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub(crate) async fn reconcile_locked(&self, locked: &Locked) -> Result<Look, ReconcileError> {
        let staged = self.storage.staged_events(locked.identifiers()).await?;
        let subject = FactsScope {
            identifiers: locked.identifiers().clone(),
            pull_request_ids: staged,
            arriving: None,
        };
        let (facts, dirty) = self.loader.load(&subject).await?;
        self.note_seen(&facts);
        self.note_declared(locked, &facts).await?;
        let mut broken = BTreeSet::new();
        loop {
            let mut disk = self.storage.read(&facts).await?;
            disk.broken.extend(broken.iter().cloned());
            let plan = plan(&facts, &disk, self.settings.sleep_secs);
            match self.change_repositories(locked, &plan).await {
                Ok(()) => return self.act(locked, &facts, plan, &disk, &dirty).await,
                // It waits for its next look; the others of its identifier do not wait for it.
                Err(coordinate) => drop(broken.insert(coordinate)),
            }
        }
    }

    /// Does what a plan says about repositories.
    ///
    /// # Errors
    /// The repository that cannot be changed.
    async fn change_repositories(&self, locked: &Locked, plan: &Plan) -> Result<(), Coordinate> {
        let failed = |coordinate: &Coordinate, error: StorageError| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(repo.coordinate = %coordinate, error, "cannot change a repository, will try again");
            coordinate.clone()
        };
        for alignment in &plan.alignments {
            let aligned = self.storage.align(locked, alignment).await;
            aligned.map_err(|error| failed(&alignment.coordinate, error))?;
        }
        for installation in &plan.installations {
            let installed = self.storage.install(locked, installation).await;
            installed.map_err(|error| failed(&installation.coordinate, error))?;
        }
        Ok(())
    }

    /// Remembers of which identifier the events are, until too many are known: then the oldest knowledge is as good as
    /// none, and is had again at the next look.
    fn note_seen(&self, facts: &Facts) {
        if self.seen.len() > SEEN_MAX {
            self.seen.clear();
        }
        for known in &facts.announcements {
            let Coordinate { owner, identifier } = known.item.coordinate.clone();
            self.seen.insert(
                known.item.revision.event_id,
                Seen {
                    author: owner,
                    identifier,
                },
            );
        }
        for known in &facts.states {
            let (author, identifier) = (known.item.author, known.item.identifier.clone());
            self.seen
                .insert(known.item.revision.event_id, Seen { author, identifier });
        }
    }

    /// Notes which repositories are declared again whose events were lost.
    async fn note_declared(&self, locked: &Locked, facts: &Facts) -> Result<(), StorageError> {
        for coordinate in facts.hosted() {
            if declares_refs(facts, coordinate) && self.storage.is_undeclared(coordinate).await? {
                self.storage.note_undeclared(locked, coordinate, false).await?;
            }
        }
        Ok(())
    }

    async fn act(
        &self,
        locked: &Locked,
        facts: &Facts,
        plan: Plan,
        disk: &Disk,
        dirty: &BTreeMap<Identifier, DirtyNumber>,
    ) -> Result<Look, ReconcileError> {
        for coordinate in &plan.lost {
            let text = "the repository's data is missing here: not served until it is pushed again";
            tracing::error!(repo.coordinate = %coordinate, text);
        }
        // Refs first, then the mark: whatever is marked can be fetched.
        let purgatory = &self.loader.purgatory;
        let marked = match plan.releases.as_slice() {
            [] => MarkedReleasing::default(),
            releases => self.begin_releases(releases).await?,
        };
        for release in &plan.releases {
            tracing::info!(event.id = %release.event.id, event.kind = release.event.kind.as_u16(), "complete, releasing");
        }
        if !plan.ended.is_empty() {
            purgatory.end(&plan.ended).await?;
        }
        for (event_id, expiry) in &plan.expired {
            if purgatory.expire(event_id, *expiry).await? {
                tracing::info!(event.id = %event_id, ?expiry, "expired");
            }
        }
        for placeholder in &plan.placeholders_ended {
            purgatory
                .drop_placeholder(&placeholder.event_id, &placeholder.coordinate, placeholder.commit_oid)
                .await?;
        }
        for staged in &plan.unstage {
            self.storage.unstage(locked, staged).await?;
        }
        let changed = changed_notes(facts, &plan.waiting);
        if !changed.is_empty() {
            purgatory.note_waiting(&changed).await?;
        }
        // A broken repository keeps the mark, and so its next look.
        if disk.broken.is_empty() {
            for (identifier, number) in dirty {
                purgatory.clear_dirty(identifier, *number).await?;
            }
        }
        Ok(Look {
            leased: marked.leased,
            later: marked.waiting,
            widen: plan.widen,
            broken: disk.broken.clone(),
        })
    }
}

impl Site {
    /// Marks what is complete, and remembers it until it has left.
    async fn begin_releases(&self, releases: &[Release]) -> Result<MarkedReleasing, PurgatoryError> {
        // Before the mark, so that a Redis that loses it in between gets it back.
        for release in releases {
            self.in_flight.remember(release);
        }
        let lease_secs = self.settings.lease_secs;
        let marked = self.loader.purgatory.mark_releasing(releases, lease_secs).await?;
        let leased = marked.leased.iter().map(|leased| leased.event.id);
        let own: BTreeSet<EventId> = leased.chain(marked.waiting.iter().copied()).collect();
        for release in releases.iter().filter(|release| !own.contains(&release.event.id)) {
            // Another gateway publishes it, or its author has deleted it.
            self.in_flight.forget(&release.event.id);
        }
        Ok(marked)
    }
}

/// Events remembered by id.
const SEEN_MAX: usize = 500_000;

/// Returns the notes that say something else than the entry does.
fn changed_notes(facts: &Facts, waiting: &BTreeMap<EventId, String>) -> BTreeMap<EventId, String> {
    let says = |event_id: &EventId| facts.entries.get(event_id).map(|entry| entry.waiting_for.as_str());
    waiting
        .iter()
        .filter(|(event_id, text)| says(event_id) != Some(text.as_str()))
        .map(|(event_id, text)| (*event_id, text.clone()))
        .collect()
}
