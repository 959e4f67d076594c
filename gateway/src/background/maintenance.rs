//! Maintains repositories whose refs have changed, and those that the daily re-check visits: one at a time, with the
//! lowest priority and rests in between.

use shared::nip34::Coordinate;
use tokio::time::Instant;

use crate::background::recheck::rest;
use crate::logged::logged;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::LockQueue;
use crate::repositories::maintenance::Effort;
use crate::repositories::maintenance::Maintained;

/// Maintains touched repositories, for ever. The re-check retries those that fail.
pub(super) async fn maintain_touched(reconciler: &Reconciler) {
    let repositories = &reconciler.repositories;
    loop {
        let coordinate = repositories.touched().next().await;
        let began = Instant::now();
        match repositories.maintain(&coordinate, Effort::WhereItPays).await {
            Ok(done) if done == Maintained::default() => {}
            Ok(Maintained {
                refs,
                combined,
                indexed,
                removed,
                separated,
            }) => {
                let secs = began.elapsed().as_secs();
                let at = &coordinate;
                let text = "repository maintained";
                tracing::info!(repo.coordinate = %at, refs, combined, indexed, removed, separated, secs, "{text}");
            }
            Err(error) => {
                repositories.touched().leave_out(&coordinate);
                tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot maintain a repository, left out until the daily re-check");
            }
        }
        match remove_unreachable(reconciler, &coordinate).await {
            Ok(0) => {}
            Ok(packs) => tracing::info!(repo.coordinate = %coordinate, packs, "unreachable objects removed"),
            Err(error) => {
                tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot determine which unreachable objects can be removed");
            }
        }
        rest(began).await;
    }
}

/// Removes objects of a repository that no ref reaches, that have been kept for long enough, and that no state or
/// staged commit wants; returns how many packs of them.
async fn remove_unreachable(reconciler: &Reconciler, coordinate: &Coordinate) -> Result<usize, ReconcileError> {
    let (repositories, loader) = (&reconciler.repositories, &reconciler.loader);
    for _ in 0..ATTEMPTS_MAX {
        let Some(removable) = repositories.find_removable(coordinate).await? else {
            return Ok(0);
        };
        let locked = repositories
            .lock_in(LockQueue::Strangers, &[coordinate.clone()].into())
            .await?;
        let facts = reconciler.large_loads.load_about(coordinate).await?;
        // Of some states it is not known what they want.
        if !facts.covered.cut.is_empty() {
            return Ok(0);
        }
        let wanted = facts.referenced_objects();
        // After the facts: a loss of the purgatory means that they are incomplete.
        if loader.purgatory.epoch().await?.is_unknown() {
            return Ok(0);
        }
        if let Some(packs) = locked
            .repository(coordinate)?
            .remove_unreachable(removable, wanted)
            .await?
        {
            return Ok(packs);
        }
    }
    Ok(0)
}

/// Something may be pushed while a repository is read. Where that is always so, the next push or day is another chance.
const ATTEMPTS_MAX: usize = 3;
