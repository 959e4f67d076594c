//! Maintains repositories whose refs have changed, and those that the daily re-check visits: one at a time, with the
//! lowest priority and rests in between.

use tokio::time::Instant;

use crate::background::recheck::rest;
use crate::repositories::Repositories;
use crate::repositories::maintenance::Effort;
use crate::repositories::maintenance::Maintained;

/// Maintains what was touched, for ever. What fails is tried again by the re-check.
pub(super) async fn maintain_touched(repositories: &Repositories) {
    loop {
        let coordinate = repositories.touched().next().await;
        let began = Instant::now();
        match repositories.maintain(&coordinate, Effort::WhereItPays).await {
            Ok(done) if done == Maintained::default() => continue,
            Ok(Maintained {
                refs,
                combined,
                indexed,
                removed,
            }) => {
                let secs = began.elapsed().as_secs();
                let text = "a repository is maintained";
                tracing::info!(repo.coordinate = %coordinate, refs, combined, indexed, removed, secs, "{text}");
            }
            Err(error) => {
                repositories.touched().leave_out(&coordinate);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(repo.coordinate = %coordinate, error, "cannot maintain a repository, left out until the daily visit");
            }
        }
        rest(began).await;
    }
}
