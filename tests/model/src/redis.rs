//! What Redis keeps, as values; what its scripts do with it is in [`crate::scripts`].

use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;

/// The number of a gateway.
pub type GatewayId = u8;

/// The status of an entry (`EntryStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum EntryStatus {
    /// There is no entry.
    #[default]
    Absent,
    /// It waits for its git data.
    Held,
    /// An announcement whose deadline passed.
    Asleep,
    /// Complete, on its way into the relay.
    Releasing,
}

impl EntryStatus {
    /// Tells whether its deadline counts.
    pub fn is_waiting(self) -> bool {
        matches!(self, Self::Held | Self::Asleep)
    }
}

/// One event in the purgatory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Entry {
    /// Where it stands.
    pub status: EntryStatus,
    /// What it is held under.
    pub coordinates: Coordinates,
    /// Its deadline has passed.
    pub is_overdue: bool,
    /// Who may settle it.
    ///
    /// A lease is drawn anew for each attempt. The number of the gateway stands for it, since a gateway knows of one
    /// attempt at a time: whoever has forgotten a lease never names it again.
    pub lease: Option<GatewayId>,
    /// Its lease, or the pause before the next attempt, is over.
    pub is_due: bool,
    /// It must not be published before the announcement has left.
    pub is_after_announcement: bool,
}

/// What Redis keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Redis {
    /// By event.
    pub entries: [Entry; 4],
    /// The dirty number of each coordinate; 0: it is clean. Only whether two are equal matters: see
    /// `State::normalise`.
    pub dirty: [u8; 2],
    /// Deletions that keep their events out.
    pub gates: Events,
    /// Where a PR commit was pushed before its event.
    pub placeholders: Coordinates,
    /// Whose announcements are noted to list somebody, so that they are found by whom they list (`listed_by`).
    pub noted: Coordinates,
    /// Of which of these it is noted that a served one does.
    pub noted_served: Coordinates,
}

impl Redis {
    /// Returns where an event stands.
    pub fn status(&self, event: Event) -> EntryStatus {
        self.entries[event.index()].status
    }

    /// Returns the coordinates that are dirty.
    pub fn dirty_coordinates(&self) -> Coordinates {
        let dirty = Coordinates::EACH.into_iter().filter(|one| self.dirty[one.index()] != 0);
        dirty.fold(Coordinates::NONE, Coordinates::with)
    }

    /// Tells whether anything is on its way into the relay.
    pub fn is_releasing_any(&self) -> bool {
        self.entries.iter().any(|entry| entry.status == EntryStatus::Releasing)
    }
}

/// What `read_page.lua` returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Reading {
    /// By event.
    pub statuses: [EntryStatus; 4],
    /// Those whose deadline has passed.
    pub overdue: Events,
    /// The dirty number by coordinate.
    pub dirty: [u8; 2],
    /// Where a PR commit was pushed before its event.
    pub placeholders: Coordinates,
    /// Whose announcements are noted to list somebody.
    pub noted: Coordinates,
}

impl Reading {
    /// Returns the same with other notes of who lists whom.
    pub fn with_notes(self, noted: Coordinates) -> Self {
        Self { noted, ..self }
    }

    /// Forgets the dirty numbers, for whoever clears no mark.
    pub fn without_marks(self) -> Self {
        Self { dirty: [0; 2], ..self }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Settlement {
    /// The relay has it: it counted as served before, so nothing has to be decided anew.
    Served,
    /// The relay will never take it.
    Dropped,
    /// There was no attempt.
    GiveBack,
    /// To be tried again.
    Retry,
}
