//! The daily re-check: marks everything on disk dirty, for what is silent (an expired entry of the relay, a restored
//! backup) or was committed with an early date, and removes what nobody announces any more.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::nip34::Coordinate;

use crate::background::retention::keep_or_remove;
use crate::reconcile::Reconciler;
use crate::repositories::error::RepositoryError;

/// Marks everything dirty now and once a day, for ever.
pub(super) async fn recheck_everything(reconciler: &Reconciler, retention_secs: u64) {
    loop {
        match reconciler.repositories.coordinates().await {
            Ok(coordinates) => mark_dirty(reconciler, &coordinates).await,
            Err(error) => log_unlisted(&error),
        }
        wait_for_epoch(reconciler).await;
        match reconciler.repositories.on_disk().await {
            Ok(repositories) => keep_or_remove_all(reconciler, &repositories, retention_secs).await,
            Err(error) => log_unlisted(&error),
        }
        tokio::time::sleep(RECHECK_INTERVAL).await;
    }
}

/// Marks coordinates dirty, until Redis takes it.
pub(super) async fn mark_dirty(reconciler: &Reconciler, coordinates: &BTreeSet<Coordinate>) {
    if coordinates.is_empty() {
        return;
    }
    while let Err(error) = reconciler.loader.purgatory.mark_dirty(coordinates).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot mark coordinates dirty, will try again"
        );
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Waits until what Redis may have lost is made up for: nothing counts as unhosted because it was forgotten.
async fn wait_for_epoch(reconciler: &Reconciler) {
    let purgatory = &reconciler.loader.purgatory;
    while !purgatory.epoch().await.is_ok_and(|epoch| !epoch.is_unknown()) {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn keep_or_remove_all(reconciler: &Reconciler, repositories: &[Coordinate], retention_secs: u64) {
    for coordinate in repositories {
        if let Err(error) = keep_or_remove(reconciler, coordinate, retention_secs).await {
            // The next re-check asks again; until then it is kept.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(repo.coordinate = %coordinate, error, "cannot tell whether a repository is still announced");
        }
    }
}

fn log_unlisted(error: &RepositoryError) {
    tracing::warn!(error = error as &dyn std::error::Error, "cannot list the repositories");
}

/// After a failure.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Between two re-checks.
const RECHECK_INTERVAL: Duration = Duration::from_secs(24 * 3600);
