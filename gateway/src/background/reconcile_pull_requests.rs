//! The worker's reconciles of PRs: some PRs of one repository at a time, however many strangers have waiting for it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::nip34::Coordinate;
use shared::purgatory::Looked;
use shared::rules::Staged;

use crate::background::reconcile_dirty::reconcile_all_that_it_takes;
use crate::logged::logged;
use crate::reconcile::Reconciled;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::Line;

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
    let locked = reconciler.repositories.lock_in(Line::Strangers, &coordinates).await?;
    let looks = purgatory.looks_page(coordinate).await?;
    let event_ids = looks.event_ids();
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
            .note_looked(coordinate, &looks, &found(coordinate, &reconciled))
            .await
    };
    if let Err(error) = noted.await {
        // Leased events must be published anyway.
        tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot record that PRs were reconciled");
    }
    Ok(reconciled)
}

/// Returns the results for the PRs that are not simply done.
fn found(coordinate: &Coordinate, reconciled: &Reconciled) -> BTreeMap<EventId, Looked> {
    let here = |staged: &BTreeSet<Staged>| -> Vec<EventId> {
        let here = staged.iter().filter(|staged| staged.coordinate == *coordinate);
        here.map(|staged| staged.event_id).collect()
    };
    let mut found = BTreeMap::new();
    found.extend(here(&reconciled.staged).into_iter().map(|id| (id, Looked::Staged)));
    let uninstallable = reconciled.uninstallable.iter().map(|(_, event_id)| event_id);
    let later = Looked::Later { secs: RETRY_SECS };
    found.extend(uninstallable.map(|id| (*id, later)));
    // As soon as the lock of the repository is free.
    let undecided = if reconciled.left.is_empty() {
        later
    } else {
        Looked::Again
    };
    found.extend(reconciled.undecided.iter().map(|id| (*id, undecided)));
    found.extend(here(&reconciled.still_staged).into_iter().map(|id| (id, Looked::Again)));
    found
}

/// Between two attempts to set the ref of one PR.
const RETRY_SECS: u64 = 30;
