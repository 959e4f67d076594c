//! Reconciles whatever is dirty or overdue and publishes whatever is due, until it is stopped.
//!
//! Notifications only make it fast: everything it does follows from what stands in the purgatory, so a lost message
//! costs a tick, and a crash nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::nip34::Coordinate;
use shared::purgatory::Epoch;
use shared::purgatory::PurgatoryError;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::background::follow_relay::follow_relay;
use crate::background::recheck::RETRY_PAUSE;
use crate::background::recheck::recheck_everything;
use crate::background::reconcile_dirty::reconcile_dirty;
use crate::background::recovery::Loss;
use crate::background::recovery::loss;
use crate::background::recovery::recover;
use crate::reconcile::Reconciler;

/// Works until `stop` is done, and ends what it has begun. What nobody announces any more is removed after
/// `retention_secs`.
pub(crate) async fn run(reconciler: Arc<Reconciler>, retention_secs: u64, stop: impl Future<Output = ()>) {
    let mut worker = Worker::new(Arc::clone(&reconciler));
    tokio::select! {
        () = stop => {}
        () = follow_relay(&reconciler) => {}
        () = recheck_everything(&reconciler, retention_secs) => {}
        () = worker.run() => {}
    }
    // An interrupted reconcile would be repaired at the next start, but need not be.
    while worker.reconciles.join_next().await.is_some() {}
    while worker.publishing.join_next().await.is_some() {}
}

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReconcileEnding {
    /// There is no more to do about the coordinate.
    Done,
    /// The relay or Redis does not answer: as soon as it does, the next reconcile succeeds.
    NeighbourAway,
    /// Something of the coordinate's own is in the way.
    Failed,
}

struct Worker {
    reconciler: Arc<Reconciler>,
    reconciles: JoinSet<(Coordinate, ReconcileEnding)>,
    running: BTreeSet<Coordinate>,
    /// Coordinates whose reconcile failed, and when to try again.
    resting: BTreeMap<Coordinate, Instant>,
    /// How often in a row the reconcile of a coordinate has failed.
    failures: BTreeMap<Coordinate, u32>,
    publishing: JoinSet<BTreeSet<nostr::event::EventId>>,
    /// The epoch of the purgatory, as far as this gateway knows.
    epoch: Option<String>,
    /// Makes up for what was lost with an epoch; the name of the next one, if that was done.
    recovery: JoinSet<Option<String>>,
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
        }
    }

    async fn run(&mut self) {
        let mut notifications = self.reconciler.loader.purgatory.notifications();
        loop {
            let pause = match self.step().await {
                Ok(()) => TICK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the purgatory does not answer");
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

    async fn step(&mut self) -> Result<(), PurgatoryError> {
        while let Some(done) = self.reconciles.try_join_next() {
            self.note(done);
        }
        self.follow_epoch().await?;
        let purgatory = self.reconciler.loader.purgatory.clone();
        self.reconciler.publisher.mark_unsettled().await?;
        purgatory.mark_overdue(BATCH, OVERDUE_RECHECK_SECS).await?;
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        // Those that rest or run come first in the list: however many they are, they hide no others.
        let busy = self.resting.len() + self.running.len();
        for (coordinate, _) in purgatory.dirty(BATCH + busy).await? {
            let is_busy = self.running.contains(&coordinate) || self.resting.contains_key(&coordinate);
            if !is_busy && self.reconciles.len() < RECONCILES_MAX {
                self.start_reconcile(coordinate);
            }
        }
        if self.publishing.is_empty() {
            let due = self.reconciler.publisher.take_due(PUBLISHED_AT_ONCE).await?;
            if !due.is_empty() {
                let reconciler = Arc::clone(&self.reconciler);
                self.publishing
                    .spawn(async move { reconciler.publisher.publish(due).await });
            }
        }
        Ok(())
    }

    /// Notices when the purgatory is not the one it was, or not whole.
    async fn follow_epoch(&mut self) -> Result<(), PurgatoryError> {
        while let Some(recovered) = self.recovery.try_join_next() {
            self.epoch = recovered.ok().flatten().or(self.epoch.take());
        }
        if !self.recovery.is_empty() {
            return Ok(());
        }
        let found = self.reconciler.loader.purgatory.epoch().await?;
        match loss(self.epoch.as_deref(), &found) {
            Loss::Nothing => self.epoch = Some(found.name),
            loss @ (Loss::OnlyOwnReleases | Loss::LastWrites | Loss::Everything) => {
                let was_known = self.epoch.is_some();
                let reconciler = Arc::clone(&self.reconciler);
                self.recovery
                    .spawn(async move { try_to_recover(&reconciler, loss, &found, was_known).await });
            }
        }
        Ok(())
    }

    fn start_reconcile(&mut self, coordinate: Coordinate) {
        self.running.insert(coordinate.clone());
        let reconciler = Arc::clone(&self.reconciler);
        self.reconciles.spawn(async move {
            // In a task of its own, so that even a panic comes back with its coordinate.
            let reconcile = tokio::spawn(reconcile_and_publish(reconciler, coordinate.clone()));
            let ending = reconcile.await.unwrap_or_else(|error| {
                tracing::error!(repo.coordinate = %coordinate, %error, "a reconcile ended abnormally");
                ReconcileEnding::Failed
            });
            (coordinate, ending)
        });
    }

    fn note(&mut self, done: Result<(Coordinate, ReconcileEnding), JoinError>) {
        let Ok((coordinate, ending)) = done else { return };
        self.running.remove(&coordinate);
        let pause = match ending {
            ReconcileEnding::Done => {
                self.failures.remove(&coordinate);
                return;
            }
            // Everything recovers within 2 s of a neighbour's return: this pause does not grow.
            ReconcileEnding::NeighbourAway => RETRY_PAUSE,
            ReconcileEnding::Failed => {
                let failures = self.failures.entry(coordinate.clone()).or_default();
                *failures = (*failures + 1).min(FAILURES_COUNTED);
                RETRY_PAUSE * 2_u32.pow(*failures - 1)
            }
        };
        self.resting.insert(coordinate, Instant::now() + pause);
    }
}

/// Returns the name of the epoch that begins after what was lost is made up for; `None`: it is not.
async fn try_to_recover(reconciler: &Reconciler, loss: Loss, found: &Epoch, was_known: bool) -> Option<String> {
    match loss {
        // An empty Redis is what a new server begins with.
        Loss::Everything if was_known => {
            tracing::error!("Redis has lost everything that was held: its authors have to send it again");
        }
        Loss::Nothing | Loss::OnlyOwnReleases | Loss::LastWrites | Loss::Everything => {
            tracing::info!(?loss, "another epoch of the purgatory");
        }
    }
    match recover(reconciler, loss, found).await {
        Ok(epoch) => {
            tracing::info!(epoch, "whatever could be is written again");
            Some(epoch)
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot make up for what Redis has lost, will try again"
            );
            tokio::time::sleep(RETRY_PAUSE).await;
            None
        }
    }
}

async fn reconcile_and_publish(reconciler: Arc<Reconciler>, coordinate: Coordinate) -> ReconcileEnding {
    let ending = match reconcile_dirty(&reconciler, &coordinate).await {
        Ok(reconciled) => {
            reconciler.publisher.publish(reconciled.leased).await;
            match reconciled.is_complete {
                true => return ReconcileEnding::Done,
                false => ReconcileEnding::Failed,
            }
        }
        Err(error) => {
            let logged = &error as &dyn std::error::Error;
            if error.is_of_a_neighbour() {
                tracing::warn!(repo.coordinate = %coordinate, error = logged, "cannot decide, will try again");
                ReconcileEnding::NeighbourAway
            } else {
                tracing::error!(repo.coordinate = %coordinate, error = logged, "cannot decide, will try again");
                ReconcileEnding::Failed
            }
        }
    };
    // To the end of the queue: what cannot be decided now must not stand before what can.
    let coordinates = BTreeSet::from([coordinate]);
    if let Err(error) = reconciler.loader.purgatory.mark_dirty(&coordinates).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "cannot mark a coordinate dirty");
    }
    ending
}

/// The longest time between two steps without a notification.
const TICK: Duration = Duration::from_millis(500);

/// After so many failures in a row the pause grows no more: 64 s.
const FAILURES_COUNTED: u32 = 7;

/// Coordinates and overdue entries taken in one step.
const BATCH: usize = 64;

/// Events published at the same time: they fit into their lease unless the relay and an import are slow. What is late
/// is taken again, and the relay answers `duplicate`.
const PUBLISHED_AT_ONCE: usize = 32;

/// Reconciles at the same time.
const RECONCILES_MAX: usize = 8;

/// Between two attempts to decide about an overdue entry.
const OVERDUE_RECHECK_SECS: u64 = 10;
