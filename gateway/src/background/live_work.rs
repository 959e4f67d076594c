//! Live work first. Dirty coordinates are reconciled in the order of their marks: if everything on disk were marked at
//! once, a push or an event would wait behind all of it. So it is marked a page at a time, and the next page only when
//! this one is reconciled.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::error::Error;
use std::ops::Bound;
use std::time::Duration;

use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::key::PublicKey;
use parking_lot::Mutex;
use shared::load_facts::FactsError;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::PurgatoryError;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::background::RETRY_PAUSE;
use crate::command_error::causes;
use crate::logged::Repeats;
use crate::logged::logged;
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
        let asked = reconciler.loader.purgatory.mark_unreconciled(coordinate, &event_ids);
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

/// Tries something until it succeeds, and logs why it does not.
pub(super) async fn until_it_succeeds<T, E: Error + 'static, F: Future<Output = Result<T, E>>>(
    what: &str,
    attempt: impl Fn() -> F,
) -> T {
    let repeats = Repeats::default();
    loop {
        let error = match attempt().await {
            Ok(done) => return done,
            Err(error) => error,
        };
        if repeats.is_due(causes(&error)) {
            tracing::warn!(error = logged(&error), "cannot {what}, will try again");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Coordinates that one event concerns in great number, to be marked dirty in pages: the owners take turns, each with a
/// page. However often something is added, it is here once.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: Mutex<BTreeMap<PublicKey, BTreeSet<Identifier>>>,
    changed: Notify,
}

impl Backlog {
    /// Adds coordinates.
    pub(super) fn add(&self, coordinates: BTreeSet<Coordinate>) {
        let mut waiting = self.waiting.lock();
        for Coordinate { owner, identifier } in coordinates {
            waiting.entry(owner).or_default().insert(identifier);
        }
        self.changed.notify_one();
    }

    /// Marks what is added, for ever.
    pub(super) async fn mark(&self, reconciler: &Reconciler) {
        let mut last = None;
        loop {
            let changed = self.changed.notified();
            let page = self.take_page(last);
            let Some(first) = page.first() else {
                changed.await;
                continue;
            };
            last = Some(first.owner);
            until_it_succeeds(MARK, || mark_repositories(reconciler, &page)).await;
        }
    }

    /// Takes a page of the owner behind `last`.
    fn take_page(&self, last: Option<PublicKey>) -> Vec<Coordinate> {
        let mut waiting = self.waiting.lock();
        let behind = last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = waiting.range((behind, Bound::Unbounded)).next();
        let Some(owner) = next.or_else(|| waiting.first_key_value()).map(|(owner, _)| *owner) else {
            return Vec::new();
        };
        let mut identifiers = waiting.remove(&owner).unwrap_or_default();
        let first = std::iter::from_fn(|| identifiers.pop_first()).take(PAGE);
        let page = first.map(|identifier| Coordinate { owner, identifier }).collect();
        if !identifiers.is_empty() {
            waiting.insert(owner, identifiers);
        }
        page
    }
}

/// What cannot be done while Redis or the relay is away.
pub(super) const MARK: &str = "mark repositories to be reconciled";

/// Coordinates that are marked at once, where many are concerned: live work waits for no more than these.
pub(super) const PAGE: usize = 32;

/// A repository that cannot be reconciled, or that waits behind very much live work, does not block the ones behind it
/// for ever.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Most reconciles take a few milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use nostr::key::Keys;

    use super::*;

    #[test]
    fn many_coordinates_of_one_owner_leave_others_their_turn() {
        let [mut first, mut second] = [(); 2].map(|()| Keys::generate().public_key());
        if second < first {
            std::mem::swap(&mut first, &mut second);
        }
        let of = |owner: PublicKey, count: usize| -> BTreeSet<Coordinate> {
            let identifiers = (0..count).map(|number| number.to_string().parse().unwrap());
            identifiers.map(|identifier| Coordinate { owner, identifier }).collect()
        };
        let backlog = Backlog::default();
        for owned in [of(first, 2 * PAGE + 1), of(first, PAGE), of(second, 2)] {
            backlog.add(owned);
        }

        let (mut last, mut turns) = (None, Vec::new());
        loop {
            let page = backlog.take_page(last);
            let Some(Coordinate { owner, .. }) = page.first() else {
                break;
            };
            last = Some(*owner);
            turns.push((*owner, page.len()));
        }

        assert_eq!(turns, [(first, PAGE), (second, 2), (first, PAGE), (first, 1)]);
    }
}
