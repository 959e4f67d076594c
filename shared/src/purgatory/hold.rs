//! Holding: events to hold and the result, and the end of events that have waited too long.

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
    /// The coordinates that it is indexed by, see [`Entry::coordinates`](super::Entry::coordinates). Empty only for a
    /// related event.
    pub coordinates: BTreeSet<Coordinate>,
    /// Where it came from, see [`Entry::source`](super::Entry::source).
    pub source: String,
    /// For how long, in seconds from the store's now.
    pub hold_secs: u64,
    /// The announcements (held or asleep) and states to hold for the same time from now; sleeping ones wake.
    pub extend: BTreeSet<EventId>,
    /// Whether limits apply.
    pub room: Room,
    /// Whether it announces a repository that is not served here: of those a source has a share for each day.
    pub is_new_repository: bool,
    /// The events that a related event waits behind; `None`: it waits for git data.
    pub behind: Option<Behind>,
}

/// The events that a related event may wait behind: those of these that are in the purgatory. It has the latest of
/// their deadlines, is released when the relay has the first of them, and ends with the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The events that it refers to.
    pub refers_to: BTreeSet<EventId>,
    /// [`RelatedReading::last_lease`] when the relay did not have them.
    pub last_lease: String,
    /// Whether it may arrive before the event that it refers to, and wait for that for [`Hold::hold_secs`].
    pub may_be_early: bool,
}

/// The purgatory's view of a related event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelatedReading {
    /// The status of its own entry.
    pub own: Option<EntryStatus>,
    /// Whether it has an event that this one refers to.
    pub is_any_here: bool,
    /// The last lease: as long as it is the same, nothing has been published. Empty if one is in the purgatory: when
    /// that has gone, it may be served.
    pub last_lease: String,
}

/// Whether the limits of the purgatory apply to a [`Hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It is refused at a limit.
    WithinLimits,
    /// It is held in any case: it was complete already, and counted in no limit.
    Always,
}

/// The result of a [`Hold`].
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
    /// The event that a related event refers to is not in the purgatory, or may be served by now. Nothing changed.
    Absent,
}

/// The result of recording a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceholderOutcome {
    /// It is recorded, and replaces an earlier one for the same event and repository.
    Recorded,
    /// The purgatory is at one of its limits. Nothing changed.
    Full(PlaceholderLimit),
}

/// Why there is no place for a commit before its event. The text is for the pusher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderLimit {
    /// Those of the repository, or all.
    #[error("too many commits wait for their PR events, push again later")]
    Placeholders,
    /// Those that were pushed from one address.
    #[error("too many commits from your address wait for their PR events: publish these, or push again later")]
    PlaceholdersPerSource,
}

/// The result of an expiry.
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
