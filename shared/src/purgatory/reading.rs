//! Reads from the purgatory: the facts about some coordinates, and the current epoch.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::key::PublicKey;

use super::entry::Entry;
use super::entry::Placeholder;
use crate::nip34::Coordinate;

/// The number of the change that made a coordinate dirty. Never used twice, so that a reconcile clears no other change
/// than the one it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirtyNumber(pub u64);

/// The purgatory's facts about some coordinates, read in one atomic step, or page by page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// When it was read, unix seconds by the store's clock: the `now` of every decision made on it.
    pub now: u64,
    /// The number of the last lease, drawn also for each event that leaves. As long as it is the same, nothing has
    /// moved from the purgatory to the relay. Empty: it was read in several steps.
    pub last_lease: String,
    /// Which of the coordinates are dirty, and since which change.
    pub dirty: BTreeMap<Coordinate, DirtyNumber>,
    /// Who lists the owner of a coordinate as maintainer, by announcements with the same identifier, held or served:
    /// the first [`Reading::LISTED_BY_MAX`].
    pub listed_by: BTreeMap<Coordinate, BTreeSet<PublicKey>>,
    /// How many pubkeys the index has that the owner of a coordinate lists, where it has any that concern it.
    pub noted: BTreeMap<Coordinate, usize>,
    /// The announcements and states of the coordinates, and the PRs that were asked for, each once, by event id.
    pub entries: Vec<Entry>,
    /// Every placeholder of one of the coordinates, sorted.
    pub placeholders: Vec<Placeholder>,
}

impl Reading {
    /// How many of those who list the owner of a coordinate are read with it.
    pub const LISTED_BY_MAX: usize = 16;

    /// Adds what was read later about other coordinates.
    #[cfg(feature = "io")]
    pub(crate) fn extend(&mut self, later: Self) {
        // Decisions use the time of the first read: later events are not overdue by it.
        if self.now == 0 {
            self.now = later.now;
        }
        self.dirty.extend(later.dirty);
        self.listed_by.extend(later.listed_by);
        self.noted.extend(later.noted);
        self.placeholders.extend(later.placeholders);
        self.entries.extend(later.entries);
        self.entries.sort_by_key(|entry| entry.event.id);
        self.entries.dedup_by_key(|entry| entry.event.id);
    }
}

/// The time between two losses, or possible losses, of the store's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its name; empty: the store has none, so it has lost everything, or is new.
    pub name: String,
    /// The server that answered: another one after a restart or a failover.
    pub server: String,
}

/// What there is to do for a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingWork {
    /// The epoch.
    pub epoch: Epoch,
    /// Whether entries or placeholders are past their deadlines, see
    /// [`mark_overdue`](super::Purgatory::mark_overdue).
    pub is_overdue: bool,
    /// Whether coordinates are dirty.
    pub is_dirty: bool,
    /// Whether PRs have to be reconciled.
    pub has_pull_requests: bool,
    /// Whether the time of releasing entries has come, see [`take_due`](super::Purgatory::take_due).
    pub is_due: bool,
}

impl Epoch {
    /// Whether the store has lost everything.
    pub fn is_unknown(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether another server began it, which may have had more than this one.
    pub fn is_of_another_server(&self) -> bool {
        let begun_on = self.name.split(':').next();
        begun_on != Some(&self.server)
    }
}
