//! The changes of a plan in repositories: each step with what must be known of its failure.

use std::collections::BTreeSet;

use shared::nip34::Coordinate;
use shared::rules::Facts;
use shared::rules::Plan;
use shared::rules::Staged;

use crate::logged::logged;
use crate::reconcile::attempts::Attempts;
use crate::reconcile::attempts::Failed;
use crate::repositories::LockedRepositories;
use crate::repositories::error::RepositoryError;

/// Carries out a plan for repositories, up to the first failure, and notes what has changed.
pub(super) async fn change_repositories(
    locked: &LockedRepositories<'_>,
    plan: &Plan,
    attempts: &mut Attempts,
) -> Result<(), Failed> {
    for alignment in &plan.alignments {
        let coordinate = &alignment.coordinate;
        let aligned = async { locked.repository(coordinate)?.align(alignment).await };
        if let Err(error) = aligned.await {
            tracing::error!(repo.coordinate = %coordinate, error = logged(&error), "cannot change a repository, will try again");
            return Err(Failed::Alignment(coordinate.clone()));
        }
        attempts.aligned.insert(coordinate.clone());
    }
    for installation in &plan.installations {
        let (coordinate, event_id) = (&installation.coordinate, installation.event_id);
        let installed = async { locked.repository(coordinate)?.install(installation).await };
        if let Err(error) = installed.await {
            if matches!(error, RepositoryError::Unsorted { .. }) {
                return Err(Failed::Unprepared(installation.clone()));
            }
            tracing::error!(repo.coordinate = %coordinate, event.id = %event_id, error = logged(&error), "cannot set the ref of a PR, will try again");
            return Err(Failed::Installation(coordinate.clone(), event_id));
        }
        attempts.installed.push(installation.clone());
    }
    Ok(())
}

/// Makes repositories durable that a plan with releases leaves as they are: their last change may be that of a gateway
/// that was killed, or of a disk that failed, before it was durable. Nothing is released that a broken one needs.
pub(super) async fn sync_unchanged(
    locked: &LockedRepositories<'_>,
    plan: &Plan,
    aligned: &BTreeSet<Coordinate>,
    broken: &BTreeSet<Coordinate>,
) -> Result<(), RepositoryError> {
    if plan.releases.is_empty() {
        return Ok(());
    }
    let unchanged = locked.coordinates().difference(aligned);
    for coordinate in unchanged.filter(|coordinate| !broken.contains(*coordinate)) {
        locked.repository(coordinate)?.sync().await?;
    }
    Ok(())
}

/// Removes staged objects that nothing needs any more; returns those that could not be removed.
pub(super) async fn unstage(locked: &LockedRepositories<'_>, plan: &Plan) -> BTreeSet<Staged> {
    let mut still_staged = BTreeSet::new();
    for staged in &plan.unstage {
        let unstaged = async { locked.repository(&staged.coordinate)?.unstage(staged).await };
        if let Err(error) = unstaged.await {
            still_staged.insert(staged.clone());
            tracing::error!(repo.coordinate = %staged.coordinate, error = logged(&error), "cannot remove a staged commit, will try again");
        }
    }
    still_staged
}

/// Removes the parts of states that nothing needs any more. Returns the repositories where that fails.
pub(super) async fn end_parts(locked: &LockedRepositories<'_>, plan: &Plan) -> BTreeSet<Coordinate> {
    let mut broken = BTreeSet::new();
    for (coordinate, state_id) in &plan.parts_ended {
        let ended = async { locked.repository(coordinate)?.end_parts(state_id).await };
        if let Err(error) = ended.await {
            broken.insert(coordinate.clone());
            tracing::error!(repo.coordinate = %coordinate, error = logged(&error), "cannot remove parts of a state, will try again");
        }
    }
    broken
}

/// Takes the note off repositories whose events were lost and are there again. Returns those where that fails.
pub(super) async fn clear_notes(locked: &LockedRepositories<'_>, facts: &Facts) -> BTreeSet<Coordinate> {
    let mut broken = BTreeSet::new();
    let hosted = facts
        .hosted()
        .iter()
        .filter(|hosted| locked.coordinates().contains(hosted));
    for coordinate in hosted.filter(|hosted| facts.declares_refs(hosted)) {
        if let Err(error) = clear_note(locked, coordinate).await {
            tracing::error!(repo.coordinate = %coordinate, error = logged(&error), "cannot change a repository, will try again");
            broken.insert(coordinate.clone());
        }
    }
    broken
}

async fn clear_note(locked: &LockedRepositories<'_>, coordinate: &Coordinate) -> Result<(), RepositoryError> {
    let repository = locked.repository(coordinate)?;
    if repository.reading().is_stateless().await? {
        repository.note_stateless(false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;
    use shared::purgatory::Release;

    use super::*;
    use crate::repositories::Repositories;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn what_does_not_need_a_broken_repository_is_released_all_the_same() {
        let world = World::new().await;
        let [broken, whole] = ["broken", "whole"].map(|name| world.repository(name));
        for repository in [&broken, &whole] {
            world.two_commits(repository).await;
        }
        // In the place of a file: what was interrupted there cannot be finished.
        std::fs::create_dir_all(broken.object_dir().join("info/changing-packs")).unwrap();
        let coordinates = [&broken, &whole].map(|at| at.coordinate().clone()).into();
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let locked = all.lock(&coordinates).await.unwrap();
        let state = EventBuilder::new(Kind::from_u16(30618), "").finalize(&Keys::generate());
        let mut plan = Plan::default();
        plan.releases.push(Release {
            event: state.unwrap().into(),
            coordinates: [whole.coordinate().clone()].into(),
            after: BTreeSet::new(),
        });

        let unread = BTreeSet::from([broken.coordinate().clone()]);
        let synced = sync_unchanged(&locked, &plan, &BTreeSet::new(), &unread).await;

        assert!(synced.is_ok(), "{synced:?}");
        assert!(
            sync_unchanged(&locked, &plan, &BTreeSet::new(), &BTreeSet::new())
                .await
                .is_err()
        );
    }
}
