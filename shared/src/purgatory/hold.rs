//! Holding: what is to be held and what became of it, and what becomes of what has waited too long.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use super::entry::EntryStatus;
use super::limits::Limit;
use crate::nip34::Coordinate;

/// What to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The event, verified.
    pub event: Event,
    /// What it is indexed by, see [`Entry::coordinates`](super::Entry::coordinates). Not empty.
    pub coordinates: BTreeSet<Coordinate>,
    /// Where it came from, see [`Entry::source`](super::Entry::source).
    pub source: String,
    /// For how long, in seconds from the store's now.
    pub hold_secs: u64,
    /// The announcements (held or asleep) and states to hold for the same time from now; sleeping ones wake.
    pub extend: BTreeSet<EventId>,
    /// Whether limits apply.
    pub room: Room,
}

/// Whether the limits of the purgatory apply to a [`Hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It is refused at a limit.
    WithinLimits,
    /// It is held in any case: it was complete already, and counted in no limit.
    Always,
}

/// What became of a [`Hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldOutcome {
    /// The event is held; its coordinates are dirty.
    Held,
    /// The event was in the purgatory already, with this status, and keeps its deadline; its coordinates are dirty. One
    /// found [`EntryStatus::Asleep`], or past its deadline, is held with a fresh deadline.
    AlreadyHeld(EntryStatus),
    /// Its author asked to delete it in the last ten minutes. Nothing changed.
    Deleted,
    /// The purgatory has a newer announcement of the same coordinate, held or asleep. Nothing changed.
    Replaced,
    /// The purgatory is at one of its limits. Nothing changed.
    Full(Limit),
}

/// What became of a placeholder to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceholderOutcome {
    /// It is recorded, and replaces an earlier one for the same event and repository.
    Recorded,
    /// There are [`Limits::placeholders_max`](super::Limits::placeholders_max) placeholders. Nothing changed.
    Full,
}

/// What an expired entry becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It is removed.
    Gone,
    /// It sleeps (an announcement).
    Sleep {
        /// For how long, in seconds.
        secs: u64,
    },
}
