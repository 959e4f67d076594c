//! The recovery of a gateway when Redis has lost the purgatory, or may have lost a part of it.
//!
//! It holds the events again that it was releasing, writes the placeholders of staged commits, and marks dirty
//! everything that is held or on disk. Events that were only held are gone, and so are the parts of such states: their
//! authors must send them again. Nothing else on disk is removed: a reconcile brings a repository whose state is gone
//! back to the newest served state; where none is served, it is kept and not served.

use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::Kind;
use nostr::filter::Filter;
use shared::load_facts::FactsError;
use shared::nip34;
use shared::nip34::Announcement;
use shared::nip34::Coordinate;
use shared::purgatory::Epoch;
use shared::purgatory::Hold;
use shared::purgatory::Listing;
use shared::purgatory::PlaceholderOutcome;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Release;
use shared::purgatory::Room;
use shared::rules::has_lost_its_state;

use crate::background::RETRY_PAUSE;
use crate::background::live_work::mark_page;
use crate::background::live_work::mark_repositories;
use crate::background::live_work::mark_staged;
use crate::background::relay_history::RelayHistory;
use crate::background::retention::STATELESS;
use crate::command_error::causes;
use crate::logged::Repeats;
use crate::logged::logged;
use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;
use crate::repositories::error::RepositoryError;
use crate::repositories::walk::DiskWalk;

/// What the purgatory has lost since the epoch that a gateway knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing.
    Nothing,
    /// Something, and another gateway has made up for all of it but for what only this one knows.
    OnlyOwnReleases,
    /// Perhaps the last writes: another server answers, after a restart or a failover.
    LastWrites,
    /// Everything.
    Everything,
}

/// Returns what was lost between the known epoch, if any, and the one that was found.
pub(super) fn loss(known: Option<&str>, found: &Epoch) -> Loss {
    if found.is_unknown() {
        Loss::Everything
    } else if found.is_of_another_server() {
        Loss::LastWrites
    } else if known.is_some_and(|known| known != found.name) {
        Loss::OnlyOwnReleases
    } else {
        Loss::Nothing
    }
}

/// Makes up for a loss, and returns the name of the epoch after it; that of the one that was found, if there is another
/// one by now. It may be done again from the start, and by several gateways at once.
///
/// # Errors
/// See [`ReconcileError`].
pub(super) async fn recover(
    reconciler: &Reconciler,
    loss: Loss,
    found: &Epoch,
    waits: &Repeats,
) -> Result<String, ReconcileError> {
    for release in reconciler.publisher.in_flight() {
        restore(reconciler, release).await?;
    }
    let recovery = Recovery {
        reconciler,
        found,
        waits,
    };
    let done = async {
        match loss {
            Loss::Nothing | Loss::OnlyOwnReleases => return Err(Stopped::Overtaken),
            Loss::LastWrites => {
                recovery.mark_held().await?;
                // A complete event may be lost with its mark, after its refs were set.
                recovery.mark_on_disk().await?;
            }
            Loss::Everything => {
                let repositories = &reconciler.repositories;
                recovery
                    .restore_each(repositories.walk_staged(), restore_placeholders)
                    .await?;
                recovery.restore_each(repositories.walk(), note_if_stateless).await?;
                recovery.mark_announced().await?;
            }
        }
        recovery.begin_epoch().await
    };
    match done.await {
        Ok(epoch) => Ok(epoch),
        Err(Stopped::Overtaken) => Ok(found.name.clone()),
        Err(Stopped::Failed(error)) => Err(error),
    }
}

/// Why a recovery ended before its end.
enum Stopped {
    /// It is for an epoch that is over: another gateway has done the same, or Redis has lost something again.
    Overtaken,
    /// Waiting does not help.
    Failed(ReconcileError),
}

impl From<ReconcileError> for Stopped {
    fn from(error: ReconcileError) -> Self {
        Self::Failed(error)
    }
}

/// The recovery from the loss at the end of an epoch. Its duration depends on how much is on disk. While a neighbour is
/// down it waits, and does not repeat what it has done before.
struct Recovery<'r> {
    reconciler: &'r Reconciler,
    found: &'r Epoch,
    /// What was logged of why it waits.
    waits: &'r Repeats,
}

impl<'r> Recovery<'r> {
    async fn mark_held(&self) -> Result<(), Stopped> {
        let purgatory = &self.reconciler.loader.purgatory;
        let start = ("0".to_owned(), String::new());
        let mut cursor = start.clone();
        loop {
            match mark_page(self.reconciler, purgatory.mark_held_page(&cursor)).await {
                Ok(next) if next == start => return Ok(()),
                Ok(next) => cursor = next,
                Err(error) => self.wait_after(error).await?,
            }
        }
    }

    async fn mark_on_disk(&self) -> Result<(), Stopped> {
        let repositories = &self.reconciler.repositories;
        let mut walk = repositories.walk_staged();
        while let Some(page) = self.page(&mut walk).await? {
            while let Err(error) = mark_staged(self.reconciler, &page).await {
                self.wait_after(error).await?;
            }
        }
        let mut walk = repositories.walk();
        while let Some(page) = self.page(&mut walk).await? {
            self.mark(&page).await?;
        }
        Ok(())
    }

    /// Restores something about each repository of a walk, and marks it dirty. A failure concerns only its repository:
    /// it is logged, and the others do not wait for it.
    async fn restore_each<R: Future<Output = Result<(), ReconcileError>>>(
        &self,
        mut walk: DiskWalk,
        restore: impl Fn(&'r Reconciler, Coordinate) -> R,
    ) -> Result<(), Stopped> {
        while let Some(page) = self.page(&mut walk).await? {
            for coordinate in &page {
                while let Err(error) = restore(self.reconciler, coordinate.clone()).await {
                    if !error.is_of_a_neighbour() {
                        tracing::error!(repo.coordinate = %coordinate, error = logged(&error), "cannot restore what was lost about a repository");
                        break;
                    }
                    self.wait_after(error).await?;
                }
            }
            self.mark(&page).await?;
        }
        Ok(())
    }

    /// Notes whom the relay's announcements list, and marks those dirty that name this server.
    async fn mark_announced(&self) -> Result<(), Stopped> {
        let loader = &self.reconciler.loader;
        let announcements = Filter::new().kind(Kind::from_u16(nip34::ANNOUNCEMENT));
        let mut history = RelayHistory::since(announcements, 0);
        loop {
            let served = match history.next(&loader.relay).await {
                Ok(None) => return Ok(()),
                Ok(Some(served)) => served,
                Err(error) => {
                    self.wait_after(FactsError::from(error).into()).await?;
                    continue;
                }
            };
            let announcements: Vec<Announcement> = served
                .iter()
                .filter_map(|event| Announcement::parse(event).ok())
                .collect();
            for announcement in announcements.iter().filter(|one| !one.roles.listed.is_empty()) {
                let at = &announcement.coordinate;
                let listing = Listing::new(&announcement.roles.listed, &BTreeSet::new());
                while let Err(error) = loader.purgatory.note_listings(at, &listing).await {
                    self.wait_after(error.into()).await?;
                }
            }
            let ours = announcements.into_iter().filter(|one| loader.service.is_named_by(one));
            let ours: Vec<Coordinate> = ours.map(|ours| ours.coordinate).collect();
            for page in ours.chunks(PAGE) {
                self.mark(page).await?;
            }
            history.advance();
        }
    }

    async fn begin_epoch(&self) -> Result<String, Stopped> {
        self.check_epoch().await?;
        let begun = self.reconciler.loader.purgatory.begin_epoch(self.found).await;
        Ok(begun.map_err(ReconcileError::from)?)
    }

    async fn page(&self, walk: &mut DiskWalk) -> Result<Option<Vec<Coordinate>>, Stopped> {
        let page = walk.next_page(PAGE).await.map_err(RepositoryError::from);
        Ok(page.map_err(ReconcileError::from)?)
    }

    async fn mark(&self, page: &[Coordinate]) -> Result<(), Stopped> {
        while let Err(error) = mark_repositories(self.reconciler, page).await {
            self.wait_after(error).await?;
        }
        self.check_epoch().await
    }

    /// Waits where a neighbour is away.
    async fn wait_after(&self, error: ReconcileError) -> Result<(), Stopped> {
        if !error.is_of_a_neighbour() {
            return Err(error.into());
        }
        if self.waits.is_due(causes(&error)) {
            tracing::warn!(
                error = logged(&error),
                "cannot restore what Redis has lost, will continue"
            );
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        match self.check_epoch().await {
            // It is away.
            Err(Stopped::Failed(_)) => Ok(()),
            checked => checked,
        }
    }

    async fn check_epoch(&self) -> Result<(), Stopped> {
        let epoch = self.reconciler.loader.purgatory.epoch().await;
        match epoch.map_err(ReconcileError::from)? == *self.found {
            true => Ok(()),
            false => Err(Stopped::Overtaken),
        }
    }
}

/// Writes releasing events again. They are held, and a reconcile releases them again. They are not marked as releasing
/// here, because another gateway may have set their refs back meanwhile, and only a reconcile sets the refs before the
/// mark. But a related event has no refs, and no reconcile knows it: it is marked with the events that it follows, and
/// due as soon as none of these is releasing.
async fn restore(reconciler: &Reconciler, release: Release) -> Result<(), PurgatoryError> {
    let event_id = release.event.id;
    if release.coordinates.is_empty() {
        let marked = reconciler.loader.purgatory.mark_releasing(&[release], 0).await?;
        tracing::info!(event.id = %event_id, is_due = !marked.leased.is_empty(), "written again");
        return Ok(());
    }
    let Release { event, coordinates, .. } = release;
    let hold = Hold {
        event: Arc::unwrap_or_clone(event),
        coordinates,
        source: String::new(),
        hold_secs: reconciler.loader.purgatory.hold_secs(),
        extend: BTreeSet::new(),
        room: Room::Always,
        is_new_repository: false,
        behind: None,
    };
    match reconciler.loader.purgatory.hold(&hold).await {
        Ok(outcome) => tracing::info!(event.id = %event_id, ?outcome, "written again"),
        // The others may have room, or be there already. It is on the master, or its author has to send it again.
        Err(error @ (PurgatoryError::Full { .. } | PurgatoryError::Unconfirmed { .. })) => {
            tracing::warn!(event.id = %event_id, error = logged(&error), "not written again for certain");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Writes the placeholders of a repository's staged commits again.
async fn restore_placeholders(reconciler: &Reconciler, coordinate: Coordinate) -> Result<(), ReconcileError> {
    let coordinates = BTreeSet::from([coordinate.clone()]);
    let _locked = reconciler.repositories.lock(&coordinates).await?;
    let purgatory = &reconciler.loader.purgatory;
    for staged in &reconciler.repositories.staged(&coordinates).await {
        let (event_id, commit_oid) = (&staged.event_id, staged.commit_oid);
        let put = purgatory.put_placeholder(event_id, &coordinate, commit_oid, purgatory.hold_secs(), None);
        if matches!(put.await?, PlaceholderOutcome::Full(_)) {
            tracing::warn!(event.id = %event_id, "no room for the placeholder of a staged commit");
        }
    }
    Ok(())
}

/// Notes in a repository if no state declares its refs any more.
async fn note_if_stateless(reconciler: &Reconciler, coordinate: Coordinate) -> Result<(), ReconcileError> {
    // Most have their state in the relay: no lock is taken then.
    let facts = reconciler.large_loads.load_about(&coordinate).await?;
    if facts.declares_refs(&coordinate) {
        return Ok(());
    }
    let locked = reconciler.repositories.lock(&[coordinate.clone()].into()).await?;
    let facts = reconciler.large_loads.load_about(&coordinate).await?;
    let repository = locked.repository(&coordinate)?;
    if repository.reading().unhosted_since().await?.is_some() {
        return Ok(());
    }
    let is_lost = match repository.reading().refs().await {
        Ok(refs) => has_lost_its_state(&facts, &coordinate, &refs.map(|refs| refs.refs).unwrap_or_default()),
        // Kept, whatever it has.
        Err(error) => {
            tracing::error!(repo.coordinate = %coordinate, error = logged(&error), "cannot read a repository");
            !facts.declares_refs(&coordinate)
        }
    };
    if is_lost {
        tracing::error!(repo.coordinate = %coordinate, "{STATELESS}");
        repository.note_stateless(true).await?;
    }
    Ok(())
}

/// Repositories at once: live work waits for no more than these.
const PAGE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_follows_from_what_was_known_and_is_found() {
        let found = |name: &str| Epoch {
            name: name.to_owned(),
            server: "b".to_owned(),
        };
        for (known, name, expected) in [
            (None, "", Loss::Everything),
            (Some("b:1"), "", Loss::Everything),
            (None, "a:1", Loss::LastWrites),
            (Some("a:1"), "a:1", Loss::LastWrites),
            (Some("b:1"), "b:2", Loss::OnlyOwnReleases),
            (Some("b:1"), "b:1", Loss::Nothing),
            // It has nothing of its own yet.
            (None, "b:1", Loss::Nothing),
        ] {
            assert_eq!(loss(known, &found(name)), expected, "{known:?} {name:?}");
        }
    }
}
