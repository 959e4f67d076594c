//! Looking at PRs: which of them, and what was found.

use std::collections::BTreeSet;

use nostr::event::EventId;

/// PRs of one repository, and events for which commits may be staged there, that have to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looks {
    /// The number of the last change when they were read: up to that they are looked at.
    pub(super) last_change: String,
    pub(super) members: Vec<Look>,
}

/// One of them, as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) event_id: EventId,
    pub(super) member: String,
    pub(super) score: String,
}

impl Looks {
    /// Returns their event ids.
    pub fn event_ids(&self) -> BTreeSet<EventId> {
        self.members.iter().map(|look| look.event_id).collect()
    }
}

/// What was found when an event was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Something is staged for it.
    Staged,
    /// It could not be looked at to the end: it is looked at again, behind all others.
    Again,
    /// It is looked at again in so many seconds, if it is held until then.
    Later {
        /// How many.
        secs: u64,
    },
}
