//! The daily re-check: visits everything on disk, for changes without an event (an expired entry of the relay, a
//! restored backup) or with an early date, removes repositories that are not announced any more, and cleans up after
//! killed gateways.
//!
//! It takes its time: a few repositories at once, each page when the one before is reconciled, and then a rest.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::live::Live;
use shared::nip34::Coordinate;
use tokio::time::Instant;

use crate::background::RETRY_PAUSE;
use crate::background::disk_report::report_disk_use;
use crate::background::live_work::MARK;
use crate::background::live_work::mark_repositories;
use crate::background::live_work::mark_staged;
use crate::background::live_work::until_it_succeeds;
use crate::background::pull_request_refs::recheck_pull_requests;
use crate::background::retention::keep_or_remove;
use crate::background::retention::sweep;
use crate::logged::logged;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;

/// Visits everything now and once a day, without end.
pub(super) async fn recheck_everything(reconciler: &Reconciler, retention_secs: &Live<u64>) {
    loop {
        let began = Instant::now();
        if let Err(error) = sweep_and_visit(reconciler, retention_secs).await {
            tracing::warn!(error = logged(&error), "cannot list the repositories");
        }
        tracing::debug!(
            secs = began.elapsed().as_secs(),
            "the re-check has visited everything on disk"
        );
        tokio::time::sleep_until(began + RECHECK_INTERVAL).await;
    }
}

/// Marks coordinates dirty, until Redis takes it.
pub(super) async fn mark_dirty(reconciler: &Reconciler, coordinates: &BTreeSet<Coordinate>) {
    if coordinates.is_empty() {
        return;
    }
    for coordinate in coordinates {
        reconciler.changes.note(coordinate);
    }
    until_it_succeeds(MARK, || reconciler.loader.purgatory.mark_dirty(coordinates)).await;
}

async fn sweep_and_visit(reconciler: &Reconciler, retention_secs: &Live<u64>) -> Result<(), RepositoryError> {
    let repositories = &reconciler.repositories;
    let swept = repositories.sweep_quarantine().await?;
    tracing::debug!(swept, "removed what killed gateways left unfinished");
    list_names(repositories).await?;
    wait_for_epoch(reconciler).await;
    let mut walk = repositories.walk_staged();
    while let Some(page) = walk.next_page(PAGE).await? {
        let began = Instant::now();
        until_it_succeeds(MARK, || mark_staged(reconciler, &page)).await;
        rest(began).await;
    }
    let mut walk = repositories.walk_parts();
    while let Some(page) = walk.next_page(PAGE).await? {
        let began = Instant::now();
        until_it_succeeds(MARK, || mark_repositories(reconciler, &page)).await;
        rest(began).await;
    }
    let (mut walk, mut visited) = (repositories.walk(), Vec::new());
    while let Some(page) = walk.next_page(PAGE).await? {
        let began = Instant::now();
        until_it_succeeds(MARK, || mark_repositories(reconciler, &page)).await;
        for coordinate in &page {
            visit(reconciler, coordinate, retention_secs.get()).await;
        }
        visited.extend(page);
        rest(began).await;
    }
    report_disk_use(reconciler, visited).await;
    Ok(())
}

/// Lists the repositories on disk, and removes from the list those that no longer exist.
async fn list_names(repositories: &Repositories) -> Result<(), RepositoryError> {
    let listed_before = repositories.all_hosted().await;
    let mut walk = repositories.walk();
    while let Some(page) = walk.next_page(NAMES_PAGE).await? {
        let began = Instant::now();
        repositories.list_hosted(&page).await;
        rest(began).await;
    }
    for page in listed_before.chunks(NAMES_PAGE) {
        let began = Instant::now();
        repositories.list_hosted(page).await;
        rest(began).await;
    }
    Ok(())
}

/// Waits until what Redis may have lost is made up for: nothing counts as unhosted because it was forgotten.
async fn wait_for_epoch(reconciler: &Reconciler) {
    let purgatory = &reconciler.loader.purgatory;
    while !purgatory.epoch().await.is_ok_and(|epoch| !epoch.is_unknown()) {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Sweeps a repository, finds out whether it is still announced, and which of its PRs have ended. What fails is asked
/// again by the next re-check; until then it is kept.
async fn visit(reconciler: &Reconciler, coordinate: &Coordinate, retention_secs: u64) {
    let log = |error: &ReconcileError, text: &str| {
        tracing::warn!(repo.coordinate = %coordinate, error = logged(error), "{text}");
    };
    if let Err(error) = sweep(reconciler, coordinate).await {
        log(&error, "cannot clean up a repository");
    }
    if let Err(error) = keep_or_remove(reconciler, coordinate, retention_secs).await {
        log(&error, "cannot determine whether a repository is still announced");
    }
    reconciler.repositories.touched().note_daily(coordinate);
    if let Err(error) = recheck_pull_requests(reconciler, coordinate).await {
        log(&error, "cannot determine which PRs have ended");
    }
}

/// Leaves most of the time to others.
pub(super) async fn rest(began: Instant) {
    tokio::time::sleep((began.elapsed() * RESTS).min(REST_MAX)).await;
}

/// From the beginning of a re-check to that of the next.
const RECHECK_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Repositories at once: fewer than are reconciled at once, so that live work waits for none of them.
const PAGE: usize = 4;

/// Repositories whose names are read at once: some milliseconds of the disk's time.
const NAMES_PAGE: usize = 500;

/// How much longer than the work the rest is.
const RESTS: u32 = 4;

/// 80,000 repositories that each take as long as may be are visited in less than a day.
const REST_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn names_follow_what_another_gateway_has_made_removed_or_ceased_to_serve() {
        let world = World::new().await;
        let repositories = Repositories::new(world.store.clone(), IngestLimits::default());
        let [made, removed, unserved] = ["made", "removed", "unserved"].map(|name| world.repository(name));
        for repository in [&removed, &unserved] {
            world.commit(repository, "c", &[]).await;
        }
        list_names(&repositories).await.unwrap();
        assert_eq!(repositories.hosted().page("", 0).found, 2);

        world.commit(&made, "c", &[]).await;
        world.store.hosted().remove(made.coordinate());
        fs::remove_dir_all(removed.path()).unwrap();
        fs::write(unserved.path().join("grasp-unhosted-since"), "1\n").unwrap();
        list_names(&repositories).await.unwrap();

        let listed = repositories.hosted().page("", 0).coordinates;
        assert_eq!(listed, [made.coordinate().clone()]);
    }
}
