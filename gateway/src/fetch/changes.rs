//! What this gateway has changed, or has seen changed, since something was read: counted, so that whoever keeps what it
//! has read can tell whether it still holds.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use shared::nip34::Identifier;

/// Counts changes by identifier. Some identifiers share a counter: a change of one is then taken for one of the other,
/// and costs a reader a load. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Changes(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    counts: Vec<AtomicU64>,
    /// Keyed: nobody can choose an identifier that shares another's counter.
    hasher: RandomState,
}

/// A change that is being made.
#[must_use = "the change counts when this is dropped"]
pub(crate) struct Changing<'c> {
    changes: &'c Changes,
    identifiers: &'c BTreeSet<Identifier>,
}

impl Changes {
    /// Nothing has changed yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Counters {
            counts: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }))
    }

    /// Counts a change of an identifier. Whoever asks after this reads anew.
    pub(crate) fn note(&self, identifier: &Identifier) {
        self.counter(identifier).fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a change of these identifiers when the result is dropped, however the change ends.
    pub(crate) fn making<'c>(&'c self, identifiers: &'c BTreeSet<Identifier>) -> Changing<'c> {
        Changing {
            changes: self,
            identifiers,
        }
    }

    /// Returns how many changes of an identifier were counted.
    pub(super) fn count(&self, identifier: &Identifier) -> u64 {
        self.counter(identifier).load(Ordering::SeqCst)
    }

    fn counter(&self, identifier: &Identifier) -> &AtomicU64 {
        let hash = self.0.hasher.hash_one(identifier);
        let place = usize::try_from(hash % COUNTERS).expect("the rest is small");
        &self.0.counts[place]
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        for identifier in self.identifiers {
            self.changes.note(identifier);
        }
    }
}

/// 32 KB: many more than identifiers that are read and changed within one second.
const COUNTERS: u64 = 4096;
