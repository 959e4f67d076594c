//! What operators see of the disk: which owner's repositories take how much, in a file of the data directory, written
//! at each re-check.

use shared::nip34::Coordinate;
use shared::options::values::ByteCount;

use crate::logged::logged;
use crate::reconcile::Reconciler;
use crate::repositories::error::RepositoryError;

/// Measures the repositories that are on disk, and writes what each owner has.
pub(super) async fn report_disk_use(reconciler: &Reconciler, repositories: Vec<Coordinate>) {
    let count = repositories.len();
    match reconciler.repositories.report_disk_use(repositories).await {
        Ok(owners) => {
            let total: u64 = owners.iter().map(|(_, bytes)| bytes).sum();
            let largest = owners.first().map_or(0, |(_, bytes)| *bytes);
            let (total, largest) = (ByteCount(total), ByteCount(largest));
            tracing::info!(repositories = count, owners = owners.len(), %total, largest_owner = %largest, "disk use");
        }
        Err(error) => log_unmeasured(&error),
    }
}

fn log_unmeasured(error: &RepositoryError) {
    tracing::warn!(error = logged(error), "cannot measure the repositories");
}
