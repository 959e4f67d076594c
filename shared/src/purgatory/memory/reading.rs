//! Reading in memory, and what marks identifiers dirty.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::transaction::Transaction;
use crate::nip34::Identifier;
use crate::purgatory::bounds::CURSOR_START;
use crate::purgatory::entry::Placeholder;
use crate::purgatory::reading::DirtyNumber;
use crate::purgatory::reading::Epoch;
use crate::purgatory::reading::Reading;

impl Transaction<'_> {
    pub(in crate::purgatory) fn read(&mut self, identifiers: &BTreeSet<Identifier>) -> Reading {
        let indices = &*self.indices;
        let event_ids: BTreeSet<EventId> = identifiers
            .iter()
            .filter_map(|identifier| indices.identifiers.get(identifier))
            .flatten()
            .copied()
            .collect();
        let records = event_ids.iter().filter_map(|id| self.records.get(id));
        let entries = records.map(|record| record.entry.clone()).collect();
        let dirty = identifiers.iter().filter_map(|identifier| {
            let number = indices.dirty.score(identifier)?;
            Some((identifier.clone(), DirtyNumber(number)))
        });
        let mut placeholders: Vec<Placeholder> = identifiers
            .iter()
            .filter_map(|identifier| indices.placeholders.get(identifier))
            .flat_map(BTreeMap::values)
            .cloned()
            .collect();
        placeholders.sort();
        Reading {
            now: self.now,
            dirty: dirty.collect(),
            entries,
            placeholders,
        }
    }

    pub(in crate::purgatory) fn mark_dirty(&mut self, identifiers: &BTreeSet<Identifier>) {
        self.raised.extend(identifiers.iter().cloned())
    }

    pub(in crate::purgatory) fn dirty(&mut self, count_max: usize) -> Vec<(Identifier, DirtyNumber)> {
        let dirty = self.indices.dirty.iter().take(count_max);
        dirty
            .map(|(identifier, number)| (identifier.clone(), DirtyNumber(number)))
            .collect()
    }

    pub(in crate::purgatory) fn dirty_number(&mut self, identifier: &Identifier) -> Option<DirtyNumber> {
        self.indices.dirty.score(identifier).map(DirtyNumber)
    }

    pub(in crate::purgatory) fn clear_dirty(&mut self, identifier: &Identifier, seen: DirtyNumber) -> bool {
        let dirty = &mut self.indices.dirty;
        dirty.score(identifier) == Some(seen.0) && dirty.remove(identifier)
    }

    pub(in crate::purgatory) fn mark_overdue(&mut self, count_max: usize, recheck_secs: u64) -> usize {
        let overdue = self.indices.deadlines.until(self.now, count_max);
        let again = self.after(recheck_secs);
        for awaited in &overdue {
            self.raise_awaited(awaited);
            self.indices.deadlines.set(awaited.clone(), again);
        }
        overdue.len()
    }

    /// All of it is one page.
    pub(in crate::purgatory) fn mark_held_page(&mut self, _cursor: &str) -> String {
        for awaited in &self.indices.deadlines.until(u64::MAX, usize::MAX) {
            self.raise_awaited(awaited);
        }
        CURSOR_START.to_owned()
    }

    pub(in crate::purgatory) fn note_waiting(&mut self, notes: &BTreeMap<EventId, String>) {
        for (event_id, text) in notes {
            if let Some(mut record) = self.records.get_mut(event_id) {
                record.entry.waiting_for.clone_from(text);
            }
        }
    }

    /// It never loses anything but itself.
    pub(in crate::purgatory) fn epoch(&mut self) -> Epoch {
        let server = "memory".to_owned();
        Epoch {
            name: format!("{server}:1"),
            server,
        }
    }

    pub(in crate::purgatory) fn begin_epoch(&mut self, found: &Epoch) -> String {
        found.name.clone()
    }
}
