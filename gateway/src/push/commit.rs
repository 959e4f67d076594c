//! The end of a push: under the identifier's lock it is decided anew, its objects move in, and a reconcile on the same
//! facts aligns and releases (docs/ARCHITECTURE.md rules 5 to 8). Then its events are published.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nostr::event::EventId;
use shared::purgatory::Leased;
use shared::purgatory::PlaceholderOutcome;
use shared::purgatory::PurgatoryError;
use shared::rules::PushDecision;
use shared::rules::Staged;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::push::request::PushError;
use crate::push::request::PushRequest;
use crate::reconcile::Loaded;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::reconcile::publish::Publication;
use crate::repositories::LockedRepository;
use crate::repositories::error::RepositoryError;
use crate::repositories::quarantine::Quarantine;

/// Carries out pushes.
pub(crate) struct Committer {
    /// What aligns and releases.
    pub(crate) reconciler: Arc<Reconciler>,
    /// For how long a push waits until its events are served.
    pub(crate) release_wait: Duration,
    /// Where publications run, which outlive a push that waits no longer.
    pub(crate) tasks: TaskTracker,
    /// The server is stopping.
    pub(crate) stopping: CancellationToken,
}

/// What a push has changed under the lock.
pub(super) struct Committed {
    pub(super) decision: PushDecision,
    /// The events that are this push's to publish.
    leased: Vec<Leased>,
}

/// Why a push that was allowed could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error("the purgatory does not answer")]
    Purgatory(#[from] PurgatoryError),
    #[error("cannot store what was pushed")]
    Repository(#[from] RepositoryError),
    #[error("cannot load the facts under the lock")]
    Load(#[source] ReconcileError),
    #[error("too many commits wait for their PR events, push again later")]
    PlaceholdersFull,
    #[error("the repository is no longer hosted here")]
    Gone,
}

impl CommitError {
    /// Returns what the pusher reads; the causes are for the log.
    pub(super) fn to_pusher(&self) -> String {
        match self {
            Self::Push(error) => error.to_pusher().to_owned(),
            Self::Load(ReconcileError::Facts(_)) => "the relay or Redis does not answer, push again later".to_owned(),
            Self::Purgatory(_) | Self::Load(ReconcileError::Purgatory(_)) => {
                "the purgatory (Redis) does not answer, push again later".to_owned()
            }
            Self::Repository(_) | Self::Load(ReconcileError::Repository(_)) => {
                "the push could not be stored here, push again later; the operator finds the reason in the log"
                    .to_owned()
            }
            Self::PlaceholdersFull | Self::Gone => self.to_string(),
        }
    }
}

impl Committer {
    /// Commits a push whose objects are in `quarantine`: lock, mark dirty, load facts once, decide, move objects,
    /// reconcile on those facts.
    pub(super) async fn commit(
        &self,
        request: &PushRequest,
        quarantine: Option<Quarantine>,
    ) -> Result<Committed, CommitError> {
        let Reconciler {
            repositories, loader, ..
        } = &*self.reconciler;
        let coordinate = &request.coordinate;
        let identifiers = BTreeSet::from([coordinate.identifier.clone()]);
        let locked = repositories.lock(identifiers.clone()).await?;
        // Before the facts, so that they include it: a gateway that dies from here on leaves the mark, and a worker
        // finishes.
        loader.purgatory.mark_dirty(&identifiers).await?;
        let loaded = self.reconciler.load(&locked, request.pull_request_ids()).await;
        let mut loaded = loaded.map_err(CommitError::Load)?;
        let Some(mut decision) = request.decide(&loaded.facts, repositories).await? else {
            return Err(CommitError::Gone);
        };
        let tips = decision.tips();
        let kinds = repositories
            .object_kinds(coordinate, quarantine.as_ref(), &tips)
            .await?;
        decision.judge_tips(&kinds);
        let mut leased = Vec::new();
        if decision.acts() {
            let repository = locked.repository(coordinate)?;
            self.move_objects(&repository, &mut loaded, &decision, quarantine)
                .await?;
            let reconciled = self.reconciler.reconcile(&locked, &loaded).await;
            // What is reported is what is there now, whatever was decided.
            let refs = repository.reading().refs().await.map_err(RepositoryError::from)?;
            let refs = refs.map(|snapshot| snapshot.refs).unwrap_or_default();
            let is_changed = matches!(&reconciled, Ok(reconciled) if !reconciled.broken.contains(coordinate));
            decision.judge_result(&refs, is_changed);
            if !is_changed {
                // Its refs may be set all the same, when git died behind its work.
                decision.notes.push(RELEASED_LATER.to_owned());
            }
            match reconciled {
                Ok(reconciled) => {
                    decision.awaited.extend(reconciled.waiting);
                    leased = reconciled.leased;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(repo.coordinate = %coordinate, error, "cannot release yet, will try again");
                }
            }
        }
        tracing::info!(repo.coordinate = %coordinate, commands = decision.commands.len(), "push carried out");
        Ok(Committed { decision, leased })
    }

    /// Moves the objects to where they belong: PR commits aside, with their record first, and what a state declares
    /// into the repository.
    async fn move_objects(
        &self,
        repository: &LockedRepository<'_>,
        loaded: &mut Loaded,
        decision: &PushDecision,
        quarantine: Option<Quarantine>,
    ) -> Result<(), CommitError> {
        let Some(quarantine) = quarantine else { return Ok(()) };
        let to_stage = decision.to_stage(repository.reading().coordinate());
        for staged in &to_stage {
            self.record(staged, loaded).await?;
        }
        let tips = decision.allowed_tips();
        match to_stage.as_slice() {
            // The usual cases move a directory; only a pack with more in it has to be taken apart.
            [] if tips.is_empty() => {}
            [] => repository.take_in(quarantine).await?,
            [staged] if tips.is_empty() => repository.stage_whole(staged, quarantine).await?,
            _ => {
                for staged in &to_stage {
                    repository.stage(staged, &quarantine).await?;
                }
                if !tips.is_empty() {
                    repository.take_in_only(&quarantine, &tips).await?;
                }
            }
        }
        Ok(())
    }

    /// Records that a PR commit is kept aside, in Redis and in the facts.
    async fn record(&self, staged: &Staged, loaded: &mut Loaded) -> Result<(), CommitError> {
        let Staged {
            coordinate,
            event_id,
            commit_oid,
        } = staged;
        let (purgatory, hold_secs) = (&self.reconciler.loader.purgatory, self.reconciler.hold_secs);
        match purgatory
            .put_placeholder(event_id, coordinate, *commit_oid, hold_secs)
            .await?
        {
            PlaceholderOutcome::Recorded => {
                loaded.facts.note_placeholder(staged, hold_secs);
                Ok(())
            }
            PlaceholderOutcome::Full => Err(CommitError::PlaceholdersFull),
        }
    }

    /// Publishes and settles the events of a push, and waits until they are served, but not longer than a push waits.
    /// Returns what the pusher reads about it, if they are not.
    pub(super) async fn publish(
        &self,
        request: &PushRequest,
        leased: Vec<Leased>,
        others: &BTreeSet<EventId>,
    ) -> Option<String> {
        if leased.is_empty() && others.is_empty() {
            return None;
        }
        let deadline = Instant::now() + self.release_wait;
        let reconciler = Arc::clone(&self.reconciler);
        // In a task of its own: it finishes, however long the push waits.
        let own = self
            .tasks
            .spawn(async move { reconciler.publisher.publish(leased).await });
        let published = async {
            let left_behind = own.await.unwrap_or_default();
            let awaited: BTreeSet<EventId> = others.union(&left_behind).copied().collect();
            if awaited.is_empty() {
                return Ok(Publication::Done);
            }
            let identifier = &request.coordinate.identifier;
            let publisher = &self.reconciler.publisher;
            publisher.published_by_others(identifier, &awaited, deadline).await
        };
        let published = tokio::select! {
            published = published => published,
            () = tokio::time::sleep_until(deadline) => Ok(Publication::Pending),
            // The answer is worth more than the end of the wait: the server may be cut off soon.
            () = self.stopped_for(RELEASE_WAIT_AT_THE_END) => Ok(Publication::Pending),
        };
        match published {
            Ok(Publication::Done) => None,
            Ok(Publication::Pending) => {
                Some("stored; the relay does not answer now, its events are served when it is back".to_owned())
            }
            Ok(Publication::Stuck { event_id, reason }) => Some(format!(
                "stored, but the relay refuses to serve event {event_id}: {reason}"
            )),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot tell whether events are served");
                Some(
                    "stored; the purgatory (Redis) does not answer now, its events are served when it is back"
                        .to_owned(),
                )
            }
        }
    }

    async fn stopped_for(&self, time: Duration) {
        self.stopping.cancelled().await;
        tokio::time::sleep(time).await;
    }
}

impl Committed {
    /// Takes it apart: the decision, and the events that are this push's to publish.
    pub(super) fn into_parts(self) -> (PushDecision, Vec<Leased>) {
        (self.decision, self.leased)
    }
}

/// What a pusher reads whose repository could not be reconciled to the end.
const RELEASED_LATER: &str = "stored; the events are released as soon as this server can";

/// For events to be served once the server is stopping.
const RELEASE_WAIT_AT_THE_END: Duration = Duration::from_secs(5);
