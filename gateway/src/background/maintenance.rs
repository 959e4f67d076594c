//! Maintains the packs of repositories whose refs have changed, and of those that the daily re-check visits: one at a
//! time, with the lowest priority and rests in between.

use tokio::time::Instant;

use crate::background::recheck::rest;
use crate::repositories::Repositories;
use crate::repositories::maintenance::Effort;
use crate::repositories::maintenance::Maintained;

/// Maintains what was touched, for ever. What fails is tried again when it is touched again, and by the re-check.
pub(super) async fn maintain_touched(repositories: &Repositories) {
    loop {
        let coordinate = repositories.touched().next().await;
        let began = Instant::now();
        match repositories.maintain(&coordinate, Effort::WhereItPays).await {
            Ok(done) if done == Maintained::default() => continue,
            Ok(Maintained {
                combined,
                indexed,
                removed,
            }) => {
                let secs = began.elapsed().as_secs();
                tracing::info!(repo.coordinate = %coordinate, combined, indexed, removed, secs, "packs maintained");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(repo.coordinate = %coordinate, error, "cannot maintain the packs of a repository");
            }
        }
        rest(began).await;
    }
}
