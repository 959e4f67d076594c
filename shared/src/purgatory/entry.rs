//! The content of the purgatory: events and placeholders.

use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::Event;
use nostr::event::EventId;

use crate::git::Oid;
use crate::nip34::Coordinate;

/// The status of an event on its way through the purgatory (docs/ARCHITECTURE.md, "The life of an event").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryStatus {
    /// Waits for its git data until the deadline.
    Held,
    /// An announcement whose deadline passed: not hosted, but an authorised state still wakes it.
    Asleep,
    /// Complete, on its way into the relay. Never expires.
    Releasing,
    /// Complete, but the relay refused it permanently. Never expires, retried rarely, counts as releasing.
    Stuck,
}

impl EntryStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Held, Self::Asleep, Self::Releasing, Self::Stuck];

    /// Returns its name, in Redis and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Asleep => "asleep",
            Self::Releasing => "releasing",
            Self::Stuck => "stuck",
        }
    }

    /// Returns the status with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether the event is complete and on its way into the relay, so that it counts as served for every
    /// decision about git data.
    pub fn counts_as_served(self) -> bool {
        match self {
            Self::Releasing | Self::Stuck => true,
            Self::Held | Self::Asleep => false,
        }
    }
}

/// One event in the purgatory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The event, complete and verified.
    pub event: Arc<Event>,
    /// The coordinates it is indexed by: its own, or for a PR those of the repositories it is offered to. A related
    /// event has none.
    pub coordinates: BTreeSet<Coordinate>,
    /// Its status.
    pub status: EntryStatus,
    /// Where it came from, as the relay names it (`IP4 203.0.113.7`); empty if unknown.
    pub source: String,
    /// When it was first held, unix seconds by the store's clock.
    pub held_since: u64,
    /// When it expires unless it is complete by then, unix seconds. Without meaning while it is releasing.
    pub deadline: u64,
    /// The needs that the gateway found at its last reconcile; empty before the first.
    pub waiting_for: String,
    /// The relay's answer to the last attempt to publish it; empty if there was none.
    pub release_error: String,
    /// The events that it is ordered after, see [`Release::after`](super::Release::after); empty unless it is
    /// releasing.
    pub after: BTreeSet<EventId>,
    /// Since when it is releasing, unix seconds by the store's clock. `None`: it is not, or an earlier version of the
    /// gateway has begun to release it.
    pub releasing_since: Option<u64>,
}

/// A PR commit that was pushed before its event. Its objects are staged, and neither fetched nor listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placeholder {
    /// The id of the event that is awaited, from the ref `refs/nostr/<event-id>`.
    pub event_id: EventId,
    /// The repository it was pushed to.
    pub coordinate: Coordinate,
    /// The commit that was pushed.
    pub commit_oid: Oid,
    /// When it ends unless the event is there by then, unix seconds.
    pub deadline: u64,
}
