//! The worker's reconciles of PRs: some PRs of one repository at a time, however many strangers have waiting for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use nostr::event::EventId;
use shared::nip34::Coordinate;
use shared::purgatory::PullRequestOutcome;
use shared::rules::Installation;
use shared::rules::Staged;
use tokio::time::Instant;

use crate::background::reconcile_dirty::reconcile_all_that_it_takes;
use crate::logged::logged;
use crate::reconcile::Reconciled;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::LockQueue;
use crate::repositories::error::RepositoryError;

/// Reconciles one page of the PRs of a repository, and of the events that commits are staged for. The purgatory keeps
/// note of the others, and of PRs that change meanwhile, and the repository comes up again.
///
/// # Errors
/// See [`ReconcileError`]; the whole page is reconciled again.
pub(super) async fn reconcile_pull_requests(
    reconciler: &Reconciler,
    coordinate: &Coordinate,
) -> Result<Reconciled, ReconcileError> {
    let purgatory = &reconciler.loader.purgatory;
    let coordinates = BTreeSet::from([coordinate.clone()]);
    let locked = reconciler
        .repositories
        .lock_soon(LockQueue::Strangers, &coordinates)
        .await?;
    let unreconciled = purgatory.unreconciled_page(coordinate).await?;
    let event_ids = unreconciled.event_ids();
    let reconciled = match event_ids.is_empty() {
        true => Reconciled::default(),
        false => reconcile_all_that_it_takes(reconciler, locked, coordinate, event_ids).await?,
    };
    let noted = async {
        if !reconciled.broken.is_empty() {
            // When it can be read again, its PRs are reconciled again.
            purgatory.mark_dirty(&coordinates).await?;
        }
        purgatory
            .note_reconciled(coordinate, &unreconciled, &found(coordinate, &reconciled))
            .await
    };
    if let Err(error) = noted.await {
        // Leased events must be published anyway.
        tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot record that PRs were reconciled");
    }
    Ok(reconciled)
}

/// Sorts what these PRs need, so that they can be installed under the lock, and has them reconciled again. No lock is
/// held by it but for a moment. What takes too long altogether is left to the next attempt.
pub(super) async fn prepare(reconciler: &Reconciler, unprepared: &[Installation]) {
    let began = Instant::now();
    for installation in unprepared {
        let (coordinate, event_id) = (&installation.coordinate, installation.event_id);
        // Those that are left come up again at once: one that is served meanwhile has no later time of its own.
        if began.elapsed() < PREPARE_MAX
            && let Err(error) = reconciler.repositories.prepare(installation).await
        {
            tracing::warn!(repo.coordinate = %coordinate, event.id = %event_id, error = logged(&error), "cannot sort the commit of a PR, will try again");
            if !matches!(error, RepositoryError::Busy { .. }) {
                reconciler.paused.begin(coordinate, event_id, RETRY..=RETRY_MAX);
                continue;
            }
        }
        let event_ids = BTreeSet::from([event_id]);
        if let Err(error) = reconciler
            .loader
            .purgatory
            .mark_unreconciled(coordinate, &event_ids)
            .await
        {
            tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot ask for a PR to be reconciled");
        }
    }
}

/// Returns the results for the PRs that are not simply done.
fn found(coordinate: &Coordinate, reconciled: &Reconciled) -> BTreeMap<EventId, PullRequestOutcome> {
    let here = |staged: &BTreeSet<Staged>| -> Vec<EventId> {
        let here = staged.iter().filter(|staged| staged.coordinate == *coordinate);
        here.map(|staged| staged.event_id).collect()
    };
    let mut found = BTreeMap::new();
    found.extend(
        here(&reconciled.staged)
            .into_iter()
            .map(|id| (id, PullRequestOutcome::Staged)),
    );
    found.extend(reconciled.undecided.iter().map(|id| (*id, later(0))));
    let uninstallable = reconciled.uninstallable.iter();
    found.extend(uninstallable.map(|((_, event_id), age_secs)| (*event_id, later(*age_secs))));
    if !reconciled.left.is_empty() {
        // As soon as the lock of the repository is free.
        found.extend(reconciled.undecided.iter().map(|id| (*id, PullRequestOutcome::Again)));
    }
    found.extend(
        here(&reconciled.still_staged)
            .into_iter()
            .map(|id| (id, PullRequestOutcome::Again)),
    );
    found
}

/// The pause before the next attempt to set the ref of a PR: as long as it has been held, so that it doubles.
fn later(age_secs: u64) -> PullRequestOutcome {
    PullRequestOutcome::Later {
        secs: age_secs.clamp(RETRY.as_secs(), RETRY_MAX.as_secs()),
    }
}

/// Between two attempts to set the ref of one PR, at first.
const RETRY: Duration = Duration::from_secs(30);

/// And at last: what it costs (`pull_request_packs.rs`) is then a hundredth of a processor.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// For how long the PRs of one page are sorted; the one that has begun is finished.
const PREPARE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_installed_is_tried_less_and_less_often() {
        let coordinate: Coordinate = format!("30617:{}:r", "11".repeat(32)).parse().unwrap();
        let event_id = EventId::from_byte_array([1; 32]);
        let other = BTreeSet::from([format!("30617:{}:s", "11".repeat(32)).parse().unwrap()]);
        let nothing = BTreeSet::new();
        for (story, age_secs, is_undecided, left, expected) in [
            ("new", 0, true, &nothing, PullRequestOutcome::Later { secs: 30 }),
            ("older", 90, true, &nothing, PullRequestOutcome::Later { secs: 90 }),
            (
                "old",
                1_000_000,
                true,
                &nothing,
                PullRequestOutcome::Later { secs: 3600 },
            ),
            ("served", 0, false, &nothing, PullRequestOutcome::Later { secs: 30 }),
            ("its repository is locked", 90, true, &other, PullRequestOutcome::Again),
            (
                "another is locked",
                90,
                false,
                &other,
                PullRequestOutcome::Later { secs: 90 },
            ),
        ] {
            let undecided = [event_id].into_iter().filter(|_| is_undecided).collect();
            let reconciled = Reconciled {
                uninstallable: [((coordinate.clone(), event_id), age_secs)].into(),
                undecided,
                left: left.clone(),
                ..Reconciled::default()
            };

            let found = found(&coordinate, &reconciled);

            assert_eq!(found, [(event_id, expected)].into(), "{story}");
        }
    }
}
