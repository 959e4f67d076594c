//! Holding, extending and ending in memory: what happens to an entry that waits.

use std::collections::BTreeSet;

use nostr::event::EventId;

use super::super::Entry;
use super::super::EntryStatus;
use super::super::Expiry;
use super::super::Hold;
use super::super::HoldOutcome;
use super::super::Limit;
use super::super::Limits;
use super::super::source_group::source_group;
use super::MemoryStore;
use super::step::Record;
use super::step::Step;
use super::tally::Tally;
use crate::nip01::Revision;
use crate::nip34::ANNOUNCEMENT;
use crate::nip34::Coordinate;

impl MemoryStore {
    pub(in super::super) fn hold(&self, hold: &Hold) -> HoldOutcome {
        self.step(|step| {
            if step.is_deleted(&hold.event, &hold.identifiers) {
                return HoldOutcome::Deleted;
            }
            if let Some(status) = step.status(&hold.event.id) {
                hold_again(step, hold, status);
                return HoldOutcome::AlreadyHeld(status);
            }
            let old = waiting_announcement(step, hold);
            if old.is_some_and(|old| old > Revision::of(&hold.event)) {
                return HoldOutcome::Replaced;
            }
            let old_id = old.as_ref().map(|old| old.event_id);
            if let Some(limit) = limit_reached(step, hold, old_id, &self.0.limits) {
                return HoldOutcome::Full(limit);
            }
            if let Some(old) = old {
                step.remove_entry(&old.event_id);
            }
            hold_first(step, hold);
            HoldOutcome::Held
        })
    }

    pub(in super::super) fn extend(&self, event_ids: &BTreeSet<EventId>, hold_secs: u64) -> usize {
        self.step(|step| {
            let deadline = step.after(hold_secs);
            let extended = event_ids.iter().filter(|id| step.extend_entry(id, deadline));
            extended.count()
        })
    }

    pub(in super::super) fn expire(&self, event_id: &EventId, expiry: Expiry) -> bool {
        self.step(|step| {
            let Some(mut record) = step.records.get_mut(event_id) else {
                return false;
            };
            let status = record.entry.status;
            if status.counts_as_served() || record.entry.deadline > step.now {
                return false;
            }
            match (expiry, status) {
                (Expiry::Gone, _) => {
                    drop(record);
                    step.remove_entry(event_id);
                    true
                }
                (Expiry::Sleep { secs }, EntryStatus::Held) => {
                    record.entry.status = EntryStatus::Asleep;
                    drop(record);
                    let deadline = step.after(secs);
                    step.set_deadline(event_id, deadline);
                    true
                }
                (Expiry::Sleep { .. }, EntryStatus::Asleep | EntryStatus::Releasing | EntryStatus::Stuck) => false,
            }
        })
    }

    pub(in super::super) fn end(&self, event_ids: &BTreeSet<EventId>) -> usize {
        self.step(|step| {
            let mut ended = 0;
            for event_id in event_ids {
                if step.status(event_id).is_some_and(|status| !status.counts_as_served()) {
                    step.remove_entry(event_id);
                    ended += 1;
                }
            }
            ended
        })
    }
}

fn hold_again(step: &mut Step<'_>, hold: &Hold, status: EntryStatus) {
    // OK is said about a whole hold: what is past its deadline and has not been looked at yet counts as gone.
    if status == EntryStatus::Asleep || status == EntryStatus::Held && step.is_past_deadline(&hold.event.id) {
        let deadline = step.after(hold.hold_secs);
        step.extend_entry(&hold.event.id, deadline);
        extend_others(step, hold);
    }
    step.raised.extend(hold.identifiers.iter().cloned());
    step.raise_of(&hold.event.id);
}

fn hold_first(step: &mut Step<'_>, hold: &Hold) {
    let deadline = step.after(hold.hold_secs);
    let entry = Entry {
        event: hold.event.clone(),
        identifiers: hold.identifiers.clone(),
        status: EntryStatus::Held,
        source: hold.source.clone(),
        held_since: step.now,
        deadline,
        waiting_for: String::new(),
        release_error: String::new(),
        after: BTreeSet::new(),
    };
    step.add_entry(Record::new(entry));
    step.set_deadline(&hold.event.id, deadline);
    extend_others(step, hold);
    step.raised.extend(hold.identifiers.iter().cloned());
}

fn extend_others(step: &mut Step<'_>, hold: &Hold) {
    let deadline = step.after(hold.hold_secs);
    for event_id in &hold.extend {
        step.extend_entry(event_id, deadline);
    }
}

/// Returns the announcement of the same coordinate that is held or asleep.
fn waiting_announcement(step: &Step<'_>, hold: &Hold) -> Option<Revision> {
    if hold.event.kind.as_u16() != ANNOUNCEMENT {
        return None;
    }
    let coordinate = Coordinate {
        owner: hold.event.pubkey,
        identifier: hold.identifiers.first()?.clone(),
    };
    let event_id = step.indices.announcements.get(&coordinate)?;
    let record = step.records.get(event_id)?;
    Some(Revision::of(&record.entry.event))
}

/// Names the limit that the event goes beyond; `old`, which it would replace, does not count.
fn limit_reached(step: &Step<'_>, hold: &Hold, old: Option<EventId>, limits: &Limits) -> Option<Limit> {
    let bytes = hold.event.as_json().len() as u64;
    let old_bytes = old.and_then(|old| step.records.get(&old)).map_or(0, |old| old.bytes);
    let full = |tally: &Tally, maxima: (u64, u64), names: (Limit, Limit)| {
        let is_freed = old.is_some_and(|old| tally.event_ids.contains(&old));
        let (freed, freed_bytes) = if is_freed { (1, old_bytes) } else { (0, 0) };
        let entries = tally.event_ids.len() as u64 - freed;
        let bytes = tally.bytes - freed_bytes + bytes;
        let of_entries = (entries >= maxima.0).then_some(names.0);
        of_entries.or_else(|| (bytes > maxima.1).then_some(names.1))
    };
    if bytes > limits.event_bytes_max {
        return Some(Limit::EventBytes);
    }
    let indices = &*step.indices;
    let empty = Tally::default();
    let author = indices.authors.get(&hold.event.pubkey).unwrap_or(&empty);
    let of_author = (limits.entries_per_author_max, limits.bytes_per_author_max);
    let source = indices.sources.get(&source_group(&hold.source)).unwrap_or(&empty);
    let of_source = (limits.entries_per_source_max, limits.bytes_per_source_max);
    let of_all = (limits.entries_max, limits.bytes_max);
    let entries_with = |identifier| indices.identifiers.get(identifier).map_or(0, BTreeSet::len);
    let fullest = hold.identifiers.iter().map(entries_with).max().unwrap_or(0);
    let identifier = || {
        let is_full = (fullest - old.iter().len().min(fullest)) as u64 >= limits.entries_per_identifier_max;
        is_full.then_some(Limit::EntriesPerIdentifier)
    };
    full(author, of_author, (Limit::EntriesPerAuthor, Limit::BytesPerAuthor))
        .or_else(|| full(source, of_source, (Limit::EntriesPerSource, Limit::BytesPerSource)))
        .or_else(identifier)
        .or_else(|| full(&indices.all, of_all, (Limit::Entries, Limit::Bytes)))
}
