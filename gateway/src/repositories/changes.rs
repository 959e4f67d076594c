//! Counts what this gateway has changed, or has seen changed, so that a cache can check whether its content still
//! holds.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use shared::nip34::Coordinate;

/// Counts changes by coordinate. Some share a counter: a change of one is then taken for one of the other,
/// and costs a reader a load. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Changes(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    counts: Vec<AtomicU64>,
    /// Keyed: nobody can choose a name that shares another's counter.
    hasher: RandomState,
}

/// A change that is being made.
#[must_use = "the change counts when this is dropped"]
pub(crate) struct Changing<'c> {
    changes: &'c Changes,
    coordinates: BTreeSet<Coordinate>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Counters {
            counts: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }))
    }

    /// Counts a change of a repository. Requests after this load it again.
    pub(crate) fn note(&self, coordinate: &Coordinate) {
        self.counter(coordinate).fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a change of these repositories when the result is dropped, however the change ends.
    pub(crate) fn making(&self, coordinates: BTreeSet<Coordinate>) -> Changing<'_> {
        Changing {
            changes: self,
            coordinates,
        }
    }

    pub(crate) fn count(&self, coordinate: &Coordinate) -> u64 {
        self.counter(coordinate).load(Ordering::SeqCst)
    }

    fn counter(&self, coordinate: &Coordinate) -> &AtomicU64 {
        let hash = self.0.hasher.hash_one(coordinate);
        let place = usize::try_from(hash % COUNTERS).expect("the rest is small");
        &self.0.counts[place]
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        for coordinate in &self.coordinates {
            self.changes.note(coordinate);
        }
    }
}

/// 32 KB: many more than repositories that are read and changed within one second.
const COUNTERS: u64 = 4096;
