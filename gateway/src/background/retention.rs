//! Repositories on disk that nobody announces here any more: kept for a while, unserved, and then removed.

use shared::nip34::Coordinate;
use shared::rules::Retention;
use shared::rules::decide_retention;

use crate::background::recovery::STATELESS;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;

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
    let locked = reconciler.repositories.lock(&[coordinate.clone()].into()).await?;
    let facts = reconciler.loader.load_about(coordinate).await?;
    // After the facts, and before the note: a purgatory that has lost something since it was read, or was not whole
    // then, tells so or has left its note.
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
            tracing::info!(repo.coordinate = %coordinate, "no longer announced here, data kept for now");
            repository.note_unhosted(Some(since)).await?;
        }
        Retention::Remove => {
            tracing::warn!(repo.coordinate = %coordinate, "not announced here for long enough, data removed");
            repository.remove().await?;
        }
    }
    Ok(())
}
