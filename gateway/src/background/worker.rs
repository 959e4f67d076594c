//! Reconciles whatever is dirty or overdue and publishes whatever is due, until it is stopped.
//!
//! Notifications only save time: everything that the worker does follows from the purgatory, so a lost message costs a
//! tick, and a crash nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::Duration;

use shared::live::Live;
use shared::nip34::Coordinate;
use shared::purgatory::Epoch;
use shared::purgatory::PurgatoryError;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::background::RETRY_PAUSE;
use crate::background::follow_relay::follow_relay;
use crate::background::maintenance::maintain_touched;
use crate::background::pull_request_refs::follow_deletions;
use crate::background::recheck::recheck_everything;
use crate::background::reconcile_dirty::reconcile_dirty;
use crate::background::reconcile_pull_requests::prepare;
use crate::background::reconcile_pull_requests::reconcile_pull_requests;
use crate::background::recovery::Loss;
use crate::background::recovery::loss;
use crate::background::recovery::recover;
use crate::command_error::causes;
use crate::logged::Repeats;
use crate::logged::logged;
use crate::reconcile::Reconciled;
use crate::reconcile::Reconciler;

/// Works until `stop` is done, and finishes the work in progress. Repositories that are not announced any more are
/// removed after `retention_secs`.
pub(crate) async fn run(reconciler: Arc<Reconciler>, retention_secs: Live<u64>, stop: impl Future<Output = ()>) {
    let mut worker = Worker::new(Arc::clone(&reconciler));
    tokio::select! {
        () = stop => {}
        () = follow_relay(&reconciler) => {}
        () = recheck_everything(&reconciler, &retention_secs) => {}
        () = follow_deletions(&reconciler) => {}
        () = maintain_touched(&reconciler) => {}
        () = worker.run() => {}
    }
    // An interrupted reconcile would be repaired at the next start, but need not be.
    while worker.reconciles.join_next().await.is_some() {}
    while worker.publishing.join_next().await.is_some() {}
}

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReconcileEnding {
    /// The reconcile of the coordinate is done.
    Done,
    /// The relay or Redis does not answer, or others hold a repository that it needs: then the next reconcile succeeds.
    NotNow,
    /// Something of the coordinate's own is in the way.
    Failed,
}

/// The unit of a reconcile. Failures of a repository do not delay its PRs, nor the other way round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// The events of a repository's owner and its maintainers.
    Repository(Coordinate),
    /// Some of the PRs that are offered to it.
    PullRequests(Coordinate),
}

impl Work {
    fn coordinate(&self) -> &Coordinate {
        match self {
            Self::Repository(coordinate) | Self::PullRequests(coordinate) => coordinate,
        }
    }
}

struct Worker {
    reconciler: Arc<Reconciler>,
    reconciles: JoinSet<(Work, ReconcileEnding)>,
    running: BTreeSet<Work>,
    /// What failed, and when to try again.
    resting: BTreeMap<Work, Instant>,
    /// How often in a row something has failed.
    failures: BTreeMap<Work, u32>,
    publishing: JoinSet<BTreeSet<nostr::event::EventId>>,
    /// The epoch of the purgatory, as far as this gateway knows.
    epoch: Option<String>,
    /// Recovers from the loss of an epoch; returns the name of the next one if that succeeded.
    recovery: JoinSet<Option<String>>,
    /// What was logged of a recovery that does not succeed yet.
    recovery_log: Arc<Repeats>,
    /// What was logged of an outage of the purgatory.
    outage_log: Repeats,
}

impl Worker {
    fn new(reconciler: Arc<Reconciler>) -> Self {
        Self {
            reconciler,
            reconciles: JoinSet::new(),
            running: BTreeSet::new(),
            resting: BTreeMap::new(),
            failures: BTreeMap::new(),
            publishing: JoinSet::new(),
            epoch: None,
            recovery: JoinSet::new(),
            recovery_log: Arc::default(),
            outage_log: Repeats::default(),
        }
    }

    async fn run(&mut self) {
        let mut notifications = self.reconciler.loader.purgatory.notifications();
        loop {
            let pause = match self.step().await {
                Ok(pause) => {
                    self.outage_log.end();
                    pause
                }
                Err(error) => {
                    if self.outage_log.is_due(causes(&error)) {
                        tracing::warn!(error = logged(&error), "the purgatory does not answer");
                    }
                    RETRY_PAUSE
                }
            };
            tokio::select! {
                () = notifications.next() => {}
                () = tokio::time::sleep(pause) => {}
                Some(done) = self.reconciles.join_next() => self.note(done),
                Some(_) = self.publishing.join_next() => {}
            }
        }
    }

    /// Begins what there is to do, and returns how long to wait until the next step.
    async fn step(&mut self) -> Result<Duration, PurgatoryError> {
        while let Some(done) = self.reconciles.try_join_next() {
            self.note(done);
        }
        self.note_recovered();
        // An epoch that is read while a recovery runs may be the one that the recovery ends.
        let is_recovering = !self.recovery.is_empty();
        self.reconciler.publisher.mark_unsettled().await?;
        let purgatory = self.reconciler.loader.purgatory.clone();
        // A push wakes the worker several times, and most of these times there is one kind of work, or none.
        let pending = purgatory.pending().await?;
        if !is_recovering {
            self.follow_epoch(pending.epoch);
        }
        if pending.is_overdue {
            match purgatory.mark_overdue(BATCH, OVERDUE_RECHECK_SECS).await {
                // One entry that a script cannot read must not keep back all others.
                Err(error @ PurgatoryError::Script { .. }) => {
                    tracing::error!(error = logged(&error), "cannot mark overdue entries, will try again");
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        // The list begins with those that rest or run: however many they are, they hide no others.
        let busy = self.resting.len() + self.running.len();
        if pending.is_dirty || pending.is_overdue {
            for (coordinate, _) in purgatory.dirty(BATCH + busy).await? {
                self.reconciler.changes.note(&coordinate);
                self.start(Work::Repository(coordinate));
            }
        }
        for (coordinate, event_ids) in self.reconciler.paused.over() {
            purgatory.mark_unreconciled(&coordinate, &event_ids).await?;
            self.reconciler.paused.note_asked_for(&coordinate, &event_ids);
        }
        if pending.has_pull_requests || pending.is_overdue {
            for (coordinate, _) in purgatory.dirty_pull_requests(BATCH + busy).await? {
                self.start(Work::PullRequests(coordinate));
            }
        }
        if pending.is_due && self.publishing.is_empty() {
            let due = self.reconciler.publisher.take_due(PUBLISHED_AT_ONCE).await?;
            if due.is_empty() {
                // What comes first is ordered after others, and was put off.
                return Ok(BLOCKED_PAUSE);
            }
            let reconciler = Arc::clone(&self.reconciler);
            self.publishing
                .spawn(async move { reconciler.publisher.publish(due).await });
        }
        Ok(TICK)
    }

    /// Notes the epoch that a recovery has begun.
    fn note_recovered(&mut self) {
        while let Some(recovered) = self.recovery.try_join_next() {
            self.epoch = recovered.ok().flatten().or(self.epoch.take());
        }
    }

    /// Notices when the purgatory is a different one, or incomplete.
    fn follow_epoch(&mut self, found: Epoch) {
        match loss(self.epoch.as_deref(), &found) {
            Loss::Nothing => {
                self.recovery_log.end();
                self.epoch = Some(found.name);
            }
            loss @ (Loss::OnlyOwnReleases | Loss::LastWrites | Loss::Everything) => {
                let was_known = self.epoch.is_some();
                let (reconciler, log) = (Arc::clone(&self.reconciler), Arc::clone(&self.recovery_log));
                self.recovery
                    .spawn(async move { try_to_recover(&reconciler, loss, &found, was_known, &log).await });
            }
        }
    }

    /// Starts some work unless it runs or rests, or the limit of its kind is reached.
    fn start(&mut self, work: Work) {
        let is_busy = self.running.contains(&work) || self.resting.contains_key(&work);
        let is_of_pull_requests = |work: &Work| matches!(work, Work::PullRequests(_));
        let alike = |running: &&Work| is_of_pull_requests(running) == is_of_pull_requests(&work);
        let running_max = match &work {
            Work::Repository(_) => reconciles_max(),
            Work::PullRequests(_) => PULL_REQUEST_RECONCILES_MAX,
        };
        if is_busy || self.running.iter().filter(alike).count() >= running_max {
            return;
        }
        self.running.insert(work.clone());
        let reconciler = Arc::clone(&self.reconciler);
        self.reconciles.spawn(async move {
            // In a task of its own, so that a panic can be attributed to its work.
            let reconcile = tokio::spawn(reconcile_and_publish(reconciler, work.clone()));
            let ending = reconcile.await.unwrap_or_else(|error| {
                tracing::error!(repo.coordinate = %work.coordinate(), %error, "a reconcile ended abnormally");
                ReconcileEnding::Failed
            });
            (work, ending)
        });
    }

    fn note(&mut self, done: Result<(Work, ReconcileEnding), JoinError>) {
        let Ok((work, ending)) = done else { return };
        self.running.remove(&work);
        let pause = match ending {
            ReconcileEnding::Done => {
                self.failures.remove(&work);
                return;
            }
            // Everything recovers within 2 s of a neighbour's return: this pause does not grow.
            ReconcileEnding::NotNow => RETRY_PAUSE,
            ReconcileEnding::Failed => {
                let failures = self.failures.entry(work.clone()).or_default();
                *failures = (*failures + 1).min(FAILURES_COUNTED);
                RETRY_PAUSE * 2_u32.pow(*failures - 1)
            }
        };
        self.resting.insert(work, Instant::now() + pause);
    }
}

/// Returns the name of the epoch that begins after the recovery; `None`: the recovery failed.
async fn try_to_recover(
    reconciler: &Reconciler,
    loss: Loss,
    found: &Epoch,
    was_known: bool,
    log: &Repeats,
) -> Option<String> {
    match loss {
        _ if !log.is_due(format!("{loss:?} {found:?}")) => {}
        // A new server begins with an empty Redis.
        Loss::Everything if was_known => {
            tracing::error!("Redis has lost all held events: their authors must send them again");
        }
        Loss::Everything => tracing::info!("a new purgatory begins: this Redis has none yet"),
        Loss::Nothing | Loss::OnlyOwnReleases | Loss::LastWrites => {
            tracing::info!(?loss, "a new epoch of the purgatory begins");
        }
    }
    match recover(reconciler, loss, found, log).await {
        Ok(epoch) => {
            tracing::info!(epoch, "restored what this gateway knew");
            Some(epoch)
        }
        Err(error) => {
            if log.is_due(causes(&error)) {
                tracing::warn!(
                    error = logged(&error),
                    "cannot restore what Redis has lost, will try again"
                );
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            None
        }
    }
}

fn ending_of(work: &Work, reconciled: &Reconciled) -> ReconcileEnding {
    match work {
        Work::Repository(_) if !reconciled.broken.is_empty() => ReconcileEnding::Failed,
        // PRs that wait for an unreadable repository are reconciled when it can be read.
        Work::PullRequests(_) if !reconciled.still_staged.is_empty() => ReconcileEnding::Failed,
        Work::PullRequests(_) if !reconciled.left.is_empty() => ReconcileEnding::NotNow,
        Work::Repository(_) | Work::PullRequests(_) => ReconcileEnding::Done,
    }
}

async fn reconcile_and_publish(reconciler: Arc<Reconciler>, work: Work) -> ReconcileEnding {
    let coordinate = work.coordinate();
    let reconciled = match &work {
        Work::Repository(_) => reconcile_dirty(&reconciler, coordinate).await,
        Work::PullRequests(_) => reconcile_pull_requests(&reconciler, coordinate).await,
    };
    let ending = match reconciled {
        Ok(reconciled) => {
            let ending = ending_of(&work, &reconciled);
            reconciler.publisher.publish(reconciled.leased).await;
            prepare(&reconciler, &reconciled.unprepared).await;
            ending
        }
        Err(error) => {
            if error.is_busy() {
                tracing::debug!(repo.coordinate = %coordinate, "others have the lock of a repository, will try again");
                ReconcileEnding::NotNow
            } else if error.is_of_a_neighbour() {
                tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot decide, will try again");
                ReconcileEnding::NotNow
            } else {
                tracing::error!(repo.coordinate = %coordinate, error = logged(&error), "cannot decide, will try again");
                ReconcileEnding::Failed
            }
        }
    };
    if let (Work::Repository(coordinate), true) = (work, ending != ReconcileEnding::Done) {
        // To the end of the queue: work that cannot be decided now must not precede work that can.
        if let Err(error) = reconciler.loader.purgatory.mark_dirty(&[coordinate].into()).await {
            tracing::warn!(error = logged(&error), "cannot mark a coordinate dirty");
        }
    }
    ending
}

/// The longest time between two steps without a notification.
const TICK: Duration = Duration::from_millis(500);

/// Between two steps where everything that was due first has been put off: other events may be due behind it.
const BLOCKED_PAUSE: Duration = Duration::from_millis(10);

/// After so many failures in a row the pause does not grow any more: 64 s.
const FAILURES_COUNTED: u32 = 7;

/// Coordinates and overdue entries taken in one step.
const BATCH: usize = 64;

/// Events published at the same time: they fit into their lease unless the relay and an import are slow. A late one is
/// taken again, and the relay answers `duplicate`.
const PUBLISHED_AT_ONCE: usize = 32;

/// Repositories whose PRs are reconciled at the same time. Reconciles of repositories take none of these slots.
const PULL_REQUEST_RECONCILES_MAX: usize = 2;

/// Returns how many repositories are reconciled at the same time. More than there are processors would make pushes and
/// pages wait. One whose lock others have comes back; one that waits for the relay leaves the others one place.
fn reconciles_max() -> usize {
    // Asked once: it reads some files.
    static MAX: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(2, usize::from).clamp(2, 8));
    *MAX
}

/// Between two attempts to decide about an overdue entry.
const OVERDUE_RECHECK_SECS: u64 = 10;
