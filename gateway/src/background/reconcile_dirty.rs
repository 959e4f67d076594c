//! The worker's reconcile of a dirty coordinate, together with others where a PR is offered to several.

use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::load_facts::FactsScope;
use shared::load_facts::Reach;
use shared::nip34::Coordinate;

use crate::logged::logged;
use crate::reconcile::Reconciled;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::LockQueue;
use crate::repositories::LockedRepositories;

/// Reconciles a dirty coordinate, and others if the decision needs them. One that is not dirty any more, because
/// another program has reconciled it meanwhile, is left alone.
///
/// # Errors
/// See [`ReconcileError`].
pub(super) async fn reconcile_dirty(
    reconciler: &Reconciler,
    coordinate: &Coordinate,
) -> Result<Reconciled, ReconcileError> {
    let coordinates = BTreeSet::from([coordinate.clone()]);
    let locked = reconciler
        .repositories
        .lock_soon(LockQueue::Owners, &coordinates)
        .await?;
    if reconciler.loader.purgatory.dirty_number(coordinate).await?.is_none() {
        return Ok(Reconciled::default());
    }
    reconcile_all_that_it_takes(reconciler, locked, coordinate, BTreeSet::new()).await
}

/// Reconciles a coordinate that is locked and these of its PRs, and more coordinates if that takes more to decide.
///
/// # Errors
/// See [`ReconcileError`].
pub(super) async fn reconcile_all_that_it_takes(
    reconciler: &Reconciler,
    mut locked: LockedRepositories<'_>,
    coordinate: &Coordinate,
    pull_request_ids: BTreeSet<EventId>,
) -> Result<Reconciled, ReconcileError> {
    let scope = FactsScope {
        coordinates: BTreeSet::from([coordinate.clone()]),
        reach: Reach::FULL,
        pull_request_ids,
        ..FactsScope::default()
    };
    let mut reconciled = load_and_reconcile(reconciler, &mut locked, scope.clone()).await?;
    drop(locked);
    if reconciled.also_lock.is_subset(&scope.coordinates) {
        return Ok(reconciled);
    }
    // Once: repositories that would need even more are reconciled with their own coordinates.
    let coordinates = scope.coordinates.union(&reconciled.also_lock).cloned().collect();
    match reconcile_together(reconciler, FactsScope { coordinates, ..scope }).await {
        Ok(together) => reconciled.extend(together),
        // Leased events must be published anyway.
        Err(error) => {
            tracing::warn!(
                error = logged(&error),
                "cannot reconcile all repositories that a PR is offered to, will try again when its deadline is checked next"
            );
        }
    }
    Ok(reconciled)
}

async fn reconcile_together(reconciler: &Reconciler, scope: FactsScope) -> Result<Reconciled, ReconcileError> {
    // Strangers offer PRs to several repositories.
    let queue = match scope.pull_request_ids.is_empty() {
        true => LockQueue::Owners,
        false => LockQueue::Strangers,
    };
    let mut locked = reconciler.repositories.lock_soon(queue, &scope.coordinates).await?;
    load_and_reconcile(reconciler, &mut locked, scope).await
}

async fn load_and_reconcile(
    reconciler: &Reconciler,
    locked: &mut LockedRepositories<'_>,
    scope: FactsScope,
) -> Result<Reconciled, ReconcileError> {
    let mut loaded = reconciler
        .large_loads
        .load(locked, scope, &reconciler.large_loads.others)
        .await?;
    reconciler.reconcile(locked, &mut loaded).await
}
