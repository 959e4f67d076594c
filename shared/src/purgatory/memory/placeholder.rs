//! Placeholders in memory.

use nostr::event::EventId;

use super::transaction::Transaction;
use crate::git::Oid;
use crate::nip34::Coordinate;
use crate::purgatory::entry::Placeholder;
use crate::purgatory::hold::PlaceholderOutcome;

impl Transaction<'_> {
    pub(in crate::purgatory) fn put_placeholder(
        &mut self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
        hold_secs: u64,
    ) -> PlaceholderOutcome {
        let deadline = self.after(hold_secs);
        let key = (*event_id, coordinate.clone());
        let indices = &mut *self.indices;
        let is_full = indices.placeholder_ends.len() as u64 >= self.limits.placeholders_max;
        if is_full && indices.placeholder_ends.score(&key).is_none() {
            return PlaceholderOutcome::Full;
        }
        indices.placeholder_ends.set(key.clone(), deadline);
        let awaited = (*event_id, Some(coordinate.clone()));
        indices.deadlines.set(awaited, deadline);
        let identifier = coordinate.identifier.clone();
        let placeholder = Placeholder {
            event_id: *event_id,
            coordinate: coordinate.clone(),
            commit_oid,
            deadline,
        };
        let placeholders = indices.placeholders.entry(identifier).or_default();
        placeholders.insert(key, placeholder);
        PlaceholderOutcome::Recorded
    }

    pub(in crate::purgatory) fn drop_placeholder(
        &mut self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
    ) -> bool {
        let placeholders = self.indices.placeholders.get(&coordinate.identifier);
        let found = placeholders.and_then(|all| all.get(&(*event_id, coordinate.clone())));
        if found.is_none_or(|found| found.commit_oid != commit_oid) {
            return false;
        }
        self.remove_placeholder(event_id, coordinate);
        true
    }

    pub(super) fn remove_placeholder(&mut self, event_id: &EventId, coordinate: &Coordinate) {
        let key = (*event_id, coordinate.clone());
        let indices = &mut *self.indices;
        if let Some(placeholders) = indices.placeholders.get_mut(&coordinate.identifier) {
            placeholders.remove(&key);
            if placeholders.is_empty() {
                indices.placeholders.remove(&coordinate.identifier);
            }
        }
        indices.placeholder_ends.remove(&key);
        let (event_id, coordinate) = key;
        indices.deadlines.remove(&(event_id, Some(coordinate)));
    }
}
