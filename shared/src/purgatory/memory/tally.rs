//! What counts for a limit: entries and their bytes.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::Hash;

use nostr::event::EventId;

/// The entries that one limit counts, with the sum of their bytes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) event_ids: BTreeSet<EventId>,
    pub(super) bytes: u64,
}

impl Tally {
    /// Adds an entry unless it is there.
    pub(super) fn add(&mut self, event_id: EventId, bytes: u64) {
        if self.event_ids.insert(event_id) {
            self.bytes += bytes;
        }
    }

    /// Removes an entry if it is there.
    pub(super) fn remove(&mut self, event_id: &EventId, bytes: u64) {
        if self.event_ids.remove(event_id) {
            self.bytes -= bytes;
        }
    }
}

/// Removes an entry from one of several tallies, and the tally with its last.
pub(super) fn remove_from<K: Eq + Hash>(tallies: &mut HashMap<K, Tally>, key: &K, event_id: &EventId, bytes: u64) {
    if let Some(tally) = tallies.get_mut(key) {
        tally.remove(event_id, bytes);
        if tally.event_ids.is_empty() {
            tallies.remove(key);
        }
    }
}
