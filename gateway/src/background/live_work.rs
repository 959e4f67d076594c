//! Live work first. Dirty coordinates are reconciled in the order of their marks: if everything on disk were marked at
//! once, a push or an event would wait behind all of it. So it is marked a page at a time, and the next page only when
//! this one is reconciled.

use std::collections::BTreeSet;
use std::time::Duration;

use nostr::event::Kind;
use nostr::filter::Filter;
use shared::load_facts::FactsError;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::purgatory::PurgatoryError;
use tokio::time::Instant;

use crate::reconcile::Reconciler;
use crate::reconcile::error::ReconcileError;

/// Marks repositories dirty, and waits until they are reconciled. Pass few, because live work waits for them.
///
/// # Errors
/// As [`mark_page`].
pub(super) async fn mark_repositories(reconciler: &Reconciler, page: &[Coordinate]) -> Result<(), ReconcileError> {
    let coordinates: BTreeSet<_> = page.iter().cloned().collect();
    mark_page(reconciler, reconciler.loader.purgatory.mark_dirty(&coordinates)).await
}

/// Marks the staged objects of repositories for a reconcile, and waits as [`mark_repositories`] does.
///
/// # Errors
/// As [`mark_page`].
pub(super) async fn mark_staged(reconciler: &Reconciler, page: &[Coordinate]) -> Result<(), ReconcileError> {
    for coordinate in page {
        let staged = reconciler.repositories.staged(&[coordinate.clone()].into()).await;
        let event_ids: BTreeSet<_> = staged.iter().map(|staged| staged.event_id).collect();
        let asked = reconciler.loader.purgatory.ask_for_looks(coordinate, &event_ids);
        mark_page(reconciler, asked).await?;
    }
    mark_repositories(reconciler, page).await
}

/// Marks a page of something dirty, and waits until it is reconciled.
///
/// # Errors
/// A neighbour is away. The page may be marked then.
pub(super) async fn mark_page<T>(
    reconciler: &Reconciler,
    mark: impl Future<Output = Result<T, PurgatoryError>>,
) -> Result<T, ReconcileError> {
    let loader = &reconciler.loader;
    // Work that is tried while the relay is down goes to the end of the queue, which would grow and grow.
    let anything = Filter::new().kind(Kind::from_u16(nip34::ANNOUNCEMENT));
    loader.relay.any(vec![anything]).await.map_err(FactsError::from)?;
    let after = loader.purgatory.last_change().await?;
    let marked = mark.await?;
    let until = loader.purgatory.last_change().await?;
    let deadline = Instant::now() + WAIT_MAX;
    let mut pause = FIRST_PAUSE;
    while loader.purgatory.dirty_between(after, until).await? > 0 && Instant::now() < deadline {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(marked)
}

/// A repository that cannot be reconciled, or that waits behind very much live work, does not block the ones behind it
/// for ever.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Most reconciles take a few milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(200);
