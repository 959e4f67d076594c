//! One atomic step on the purgatory in memory, with the same parts as `redis/scripts/common.lua`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::MutexGuard;

use dashmap::DashMap;
use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::scores::Scores;
use super::tally;
use super::tally::Tally;
use crate::nip34::ANNOUNCEMENT;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;
use crate::purgatory::bounds::BACKSTOP_SECS;
use crate::purgatory::bounds::SPAN_SECS_MAX;
use crate::purgatory::entry::Entry;
use crate::purgatory::entry::EntryStatus;
use crate::purgatory::entry::Placeholder;
use crate::purgatory::limits::Limits;
use crate::purgatory::release::Lease;
use crate::purgatory::source_group::source_group;

/// An entry with what only the store needs to know of it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) entry: Entry,
    /// The lease that may settle it; `None` while it is not being published.
    pub(super) lease: Option<Lease>,
    /// The length of the event as JSON.
    pub(super) bytes: u64,
    /// What its source counts by.
    pub(super) source_group: String,
}

impl Record {
    /// Makes the record of an entry without a lease.
    pub(super) fn new(entry: Entry) -> Self {
        Self {
            bytes: entry.event.as_json().len() as u64,
            source_group: source_group(&entry.source),
            entry,
            lease: None,
        }
    }
}

/// What has a deadline: an entry, or a placeholder in the repository named.
pub(super) type Awaited = (EventId, Option<Coordinate>);

/// What an author asked to delete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Gate {
    Event(PublicKey, EventId),
    Address(PublicKey, u16, Identifier),
    Author(PublicKey),
}

/// Everything but the entries themselves. What each part is for: `keys.rs`, which has them under the same names.
#[derive(Debug, Default)]
pub(super) struct Indices {
    pub(super) changes: u64,
    pub(super) leases: u64,
    pub(super) dirty: Scores<Identifier>,
    pub(super) deadlines: Scores<Awaited>,
    pub(super) releasing: Scores<EventId>,
    pub(super) entries: Scores<EventId>,
    pub(super) identifiers: HashMap<Identifier, BTreeSet<EventId>>,
    pub(super) announcements: HashMap<Coordinate, EventId>,
    pub(super) authors: HashMap<PublicKey, Tally>,
    pub(super) sources: HashMap<String, Tally>,
    pub(super) all: Tally,
    pub(super) placeholders: BTreeMap<Identifier, BTreeMap<(EventId, Coordinate), Placeholder>>,
    pub(super) placeholder_ends: Scores<(EventId, Coordinate)>,
    /// By when they end.
    pub(super) gates: Scores<Gate>,
    /// Up to which `created_at` an address or an author is deleted.
    pub(super) gated_until: HashMap<Gate, u64>,
}

/// An atomic step, alone until it is finished.
pub(in crate::purgatory) struct Transaction<'a> {
    pub(super) records: &'a DashMap<EventId, Record>,
    pub(super) indices: MutexGuard<'a, Indices>,
    pub(super) limits: &'a Limits,
    pub(super) now: u64,
    /// Identifiers to raise the dirty numbers of at the end.
    pub(super) raised: BTreeSet<Identifier>,
    pub(super) is_waking: bool,
}

impl Transaction<'_> {
    /// Removes what went past its backstop, as Redis does by TTL.
    pub(super) fn sweep(&mut self) {
        let Some(time) = self.now.checked_sub(BACKSTOP_SECS) else {
            return;
        };
        for event_id in self.indices.entries.until(time, usize::MAX) {
            self.remove_entry(&event_id);
        }
        for (event_id, coordinate) in self.indices.placeholder_ends.until(time, usize::MAX) {
            self.remove_placeholder(&event_id, &coordinate);
        }
        for gate in self.indices.gates.until(self.now, usize::MAX) {
            self.indices.gates.remove(&gate);
            self.indices.gated_until.remove(&gate);
        }
    }

    /// Gives everything that was raised its number, and returns whether to notify.
    pub(super) fn finish(mut self) -> bool {
        let is_waking = self.is_waking || !self.raised.is_empty();
        for identifier in std::mem::take(&mut self.raised) {
            self.indices.changes += 1;
            let number = self.indices.changes;
            self.indices.dirty.set(identifier, number);
        }
        is_waking
    }

    /// Returns the time `secs` from now.
    pub(super) fn after(&self, secs: u64) -> u64 {
        self.now.saturating_add(secs.min(SPAN_SECS_MAX))
    }

    pub(super) fn status(&self, event_id: &EventId) -> Option<EntryStatus> {
        self.records.get(event_id).map(|record| record.entry.status)
    }

    pub(super) fn is_past_deadline(&self, event_id: &EventId) -> bool {
        let record = self.records.get(event_id);
        record.is_some_and(|record| record.entry.deadline <= self.now)
    }

    pub(super) fn counts_as_served(&self, event_id: &EventId) -> bool {
        self.status(event_id).is_some_and(EntryStatus::counts_as_served)
    }

    pub(super) fn raise_of(&mut self, event_id: &EventId) {
        if let Some(record) = self.records.get(event_id) {
            self.raised.extend(record.entry.identifiers.iter().cloned());
        }
    }

    pub(super) fn raise_awaited(&mut self, (event_id, placeholder_of): &Awaited) {
        match placeholder_of {
            None => self.raise_of(event_id),
            Some(coordinate) => drop(self.raised.insert(coordinate.identifier.clone())),
        }
    }

    /// Draws a lease for an entry, and keeps others from it until it runs out.
    pub(super) fn lease(&mut self, event_id: EventId, lease_secs: u64) -> Lease {
        self.indices.leases += 1;
        let lease = Lease(self.indices.leases);
        let time = self.after(lease_secs);
        self.indices.releasing.set(event_id, time);
        if let Some(mut record) = self.records.get_mut(&event_id) {
            record.lease = Some(lease);
        }
        lease
    }

    /// Gives an entry that is held or asleep its deadline: field, indices and limits.
    pub(super) fn set_deadline(&mut self, event_id: &EventId, deadline: u64) {
        let Some(mut record) = self.records.get_mut(event_id) else {
            return;
        };
        let indices = &mut *self.indices;
        record.entry.deadline = deadline;
        indices.deadlines.set((*event_id, None), deadline);
        indices.entries.set(*event_id, deadline);
        let author = indices.authors.entry(record.entry.event.pubkey);
        author.or_default().add(*event_id, record.bytes);
        let source = indices.sources.entry(record.source_group.clone());
        source.or_default().add(*event_id, record.bytes);
        indices.all.add(*event_id, record.bytes);
        for coordinate in coordinates(&record.entry) {
            indices.announcements.insert(coordinate, *event_id);
        }
    }

    /// Takes an entry out of what counts and ends waiting ones.
    pub(super) fn clear_deadline(&mut self, event_id: &EventId) {
        let Some(record) = self.records.get(event_id) else {
            return;
        };
        let indices = &mut *self.indices;
        indices.deadlines.remove(&(*event_id, None));
        indices.entries.remove(event_id);
        let author = record.entry.event.pubkey;
        tally::remove_from(&mut indices.authors, &author, event_id, record.bytes);
        tally::remove_from(&mut indices.sources, &record.source_group, event_id, record.bytes);
        indices.all.remove(event_id, record.bytes);
        for coordinate in coordinates(&record.entry) {
            if indices.announcements.get(&coordinate) == Some(event_id) {
                indices.announcements.remove(&coordinate);
            }
        }
    }

    pub(super) fn add_entry(&mut self, record: Record) {
        let event_id = record.entry.event.id;
        for identifier in &record.entry.identifiers {
            let index = self.indices.identifiers.entry(identifier.clone());
            index.or_default().insert(event_id);
        }
        self.records.insert(event_id, record);
    }

    pub(super) fn remove_entry(&mut self, event_id: &EventId) {
        self.clear_deadline(event_id);
        let Some((_, record)) = self.records.remove(event_id) else {
            return;
        };
        let indices = &mut *self.indices;
        indices.releasing.remove(event_id);
        for identifier in &record.entry.identifiers {
            if let Some(event_ids) = indices.identifiers.get_mut(identifier) {
                event_ids.remove(event_id);
                if event_ids.is_empty() {
                    indices.identifiers.remove(identifier);
                }
            }
        }
    }

    /// Holds an entry at least until `deadline`; a sleeping one wakes with just that deadline and raises its
    /// identifiers. Returns whether it waits at all.
    pub(super) fn extend_entry(&mut self, event_id: &EventId, deadline: u64) -> bool {
        let Some(mut record) = self.records.get_mut(event_id) else {
            return false;
        };
        let is_short = match record.entry.status {
            EntryStatus::Releasing | EntryStatus::Stuck => return false,
            EntryStatus::Held => record.entry.deadline < deadline,
            EntryStatus::Asleep => {
                record.entry.status = EntryStatus::Held;
                self.raised.extend(record.entry.identifiers.iter().cloned());
                true
            }
        };
        drop(record);
        if is_short {
            self.set_deadline(event_id, deadline);
        }
        true
    }

    /// Whether the event's author has just asked to delete it.
    pub(super) fn is_deleted(&self, event: &Event, identifiers: &BTreeSet<Identifier>) -> bool {
        let gate = Gate::Event(event.pubkey, event.id);
        if self.indices.gates.score(&gate).is_some() {
            return true;
        }
        let is_gated = |gate: Gate| {
            let up_to = self.indices.gated_until.get(&gate);
            up_to.is_some_and(|up_to| event.created_at.as_secs() <= *up_to)
        };
        let kind = event.kind.as_u16();
        is_gated(Gate::Author(event.pubkey))
            || is_addressable(kind)
                && identifiers
                    .iter()
                    .any(|identifier| is_gated(Gate::Address(event.pubkey, kind, identifier.clone())))
    }
}

/// NIP-01: addressed by kind, author and `d` tag.
pub(super) fn is_addressable(kind: u16) -> bool {
    (30000..40000).contains(&kind)
}

/// Returns what an announcement announces; nothing for other events.
fn coordinates(entry: &Entry) -> impl Iterator<Item = Coordinate> {
    let is_announcement = entry.event.kind.as_u16() == ANNOUNCEMENT;
    let identifiers = entry.identifiers.iter().filter(move |_| is_announcement);
    identifiers.map(|identifier| Coordinate {
        owner: entry.event.pubkey,
        identifier: identifier.clone(),
    })
}
