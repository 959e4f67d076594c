//! The re-check of one repository: removes leftovers, and if it is not announced any more, keeps it for a while,
//! unserved, and then removes it.

use shared::nip34::Coordinate;
use shared::rules::Retention;
use shared::rules::decide_retention;

use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::LockedRepositories;
use crate::repositories::error::RepositoryError;

/// Finds out whether a repository on disk is still announced here, and removes it if it has not been for as long as the
/// operator wants it kept.
///
/// # Errors
/// See [`ReconcileError`]; nothing was removed then.
pub(super) async fn keep_or_remove(
    reconciler: &Reconciler,
    coordinate: &Coordinate,
    retention_secs: u64,
) -> Result<(), ReconcileError> {
    // Most are announced and nothing changes: no lock is taken then.
    let facts = reconciler.large_loads.load_about(coordinate).await?;
    let reading = reconciler.repositories.at(coordinate);
    let unhosted_since = reading.unhosted_since().await?;
    let is_stateless = reading.is_stateless().await?;
    let retention = decide_retention(&facts, coordinate, unhosted_since, retention_secs);
    if retention == Retention::Keep && unhosted_since.is_none() && !is_stateless {
        return Ok(());
    }
    let locked = lock(reconciler, coordinate).await?;
    let facts = reconciler.large_loads.load_about(coordinate).await?;
    // After the facts, and before the note: a purgatory that has lost something since it was read, or was not complete
    // then, reports that or has left its note.
    if reconciler.loader.purgatory.epoch().await?.is_unknown() {
        return Ok(());
    }
    let repository = locked.repository(coordinate)?;
    if repository.reading().is_stateless().await? {
        tracing::error!(repo.coordinate = %coordinate, "{STATELESS}");
        return Ok(());
    }
    let unhosted_since = repository.reading().unhosted_since().await?;
    match decide_retention(&facts, coordinate, unhosted_since, retention_secs) {
        Retention::Keep if unhosted_since.is_none() => {}
        Retention::Keep => repository.note_unhosted(None).await?,
        Retention::KeepUnhosted { since } if unhosted_since == Some(since) => {}
        Retention::KeepUnhosted { since } => {
            tracing::info!(repo.coordinate = %coordinate, "no longer announced, data kept for now");
            repository.note_unhosted(Some(since)).await?;
        }
        Retention::Remove => {
            tracing::warn!(repo.coordinate = %coordinate, "not announced for long enough, data removed");
            repository.remove().await?;
        }
    }
    Ok(())
}

/// Removes the leftovers of a killed git in a repository. Otherwise the files would be removed when they are in the
/// way.
///
/// # Errors
/// Its lock cannot be had.
pub(super) async fn sweep(reconciler: &Reconciler, coordinate: &Coordinate) -> Result<(), ReconcileError> {
    if reconciler.repositories.at(coordinate).has_leftovers().await {
        let locked = lock(reconciler, coordinate).await?;
        let removed = locked.repository(coordinate)?.sweep().await;
        tracing::debug!(repo.coordinate = %coordinate, removed, "swept");
    }
    Ok(())
}

async fn lock<'r>(
    reconciler: &'r Reconciler,
    coordinate: &Coordinate,
) -> Result<LockedRepositories<'r>, RepositoryError> {
    reconciler.repositories.lock(&[coordinate.clone()].into()).await
}

/// The operator's text about a repository whose state is gone.
pub(super) const STATELESS: &str = "the events of this repository were lost with the purgatory: it stays on disk, and is served again once they are published again";
