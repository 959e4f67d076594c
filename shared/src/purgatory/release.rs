//! Releasing: complete events, who may publish them, and the outcome.

use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::Event;
use nostr::event::EventId;

use crate::nip34::Coordinate;

/// A complete event, to be published into the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The complete event: marking writes it again, in case the store lost it since it was read.
    pub event: Arc<Event>,
    /// The coordinates that it is indexed by, see [`Entry::coordinates`](super::Entry::coordinates).
    pub coordinates: BTreeSet<Coordinate>,
    /// The announcements that are published before this event: each must have left the purgatory, or go with it.
    pub after: BTreeSet<EventId>,
}

/// The right to publish one entry and to settle it, for a limited time. The next lease of the entry has another number,
/// and a settlement with an old one does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease(pub u64);

/// An entry that the caller is to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a lease that is not settled runs out, and the event is published late"]
pub struct Leased {
    /// The event to publish.
    pub event: Event,
    /// The right to settle it.
    pub lease: Lease,
    /// The events that it is ordered after, see [`Release::after`]: each has left, or is leased to the caller too.
    pub after: BTreeSet<EventId>,
}

/// The result of marking events as releasing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a lease that is not settled runs out, and the event is published late"]
pub struct MarkedReleasing {
    /// Those that the caller is to publish, in the order given.
    pub leased: Vec<Leased>,
    /// Those that are marked and not leased, because another caller releases an event that they are ordered after: they
    /// are due as soon as that has left.
    pub waiting: BTreeSet<EventId>,
}

/// How an attempt to publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The relay has the event: the entry is removed. Nothing has to be decided again, since it counted as served
    /// already.
    Served,
    /// The relay will never take it, because a newer one, a deletion or its expiration rules it out: the entry is
    /// removed, and repositories may have to be aligned with another state.
    Dropped,
    /// There was no attempt: the entry is due at once.
    GiveBack,
    /// The relay gave no answer that ends it: try again.
    Retry {
        /// After how many seconds.
        after_secs: u64,
        /// The relay's answer.
        error: String,
    },
    /// The relay refused the event permanently: it is stuck, and retried rarely.
    Stuck {
        /// After how many seconds it is retried.
        after_secs: u64,
        /// The relay's answer.
        error: String,
    },
}
