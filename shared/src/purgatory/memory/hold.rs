//! Holding, extending, expiring and ending in memory.

use std::collections::BTreeSet;

use nostr::event::EventId;

use super::tally::Tally;
use super::transaction::Record;
use super::transaction::Transaction;
use crate::nip01::Revision;
use crate::nip34::ANNOUNCEMENT;
use crate::nip34::Coordinate;
use crate::purgatory::entry::Entry;
use crate::purgatory::entry::EntryStatus;
use crate::purgatory::hold::Expiry;
use crate::purgatory::hold::Hold;
use crate::purgatory::hold::HoldOutcome;
use crate::purgatory::hold::Room;
use crate::purgatory::limits::Limit;
use crate::purgatory::source_group::source_group;

impl Transaction<'_> {
    pub(in crate::purgatory) fn hold(&mut self, hold: &Hold) -> HoldOutcome {
        if self.is_deleted(&hold.event, &hold.identifiers) {
            return HoldOutcome::Deleted;
        }
        if let Some(status) = self.status(&hold.event.id) {
            hold_again(self, hold, status);
            return HoldOutcome::AlreadyHeld(status);
        }
        let old = waiting_announcement(self, hold);
        if old.is_some_and(|old| old > Revision::of(&hold.event)) {
            return HoldOutcome::Replaced;
        }
        let old_id = old.as_ref().map(|old| old.event_id);
        if let Some(limit) = limit_reached(self, hold, old_id) {
            return HoldOutcome::Full(limit);
        }
        if let Some(old) = old {
            self.remove_entry(&old.event_id);
        }
        hold_first(self, hold);
        HoldOutcome::Held
    }

    pub(in crate::purgatory) fn extend(&mut self, event_ids: &BTreeSet<EventId>, hold_secs: u64) -> usize {
        let deadline = self.after(hold_secs);
        let extended = event_ids.iter().filter(|id| self.extend_entry(id, deadline));
        extended.count()
    }

    pub(in crate::purgatory) fn expire(&mut self, event_id: &EventId, expiry: Expiry) -> bool {
        let Some(mut record) = self.records.get_mut(event_id) else {
            return false;
        };
        let status = record.entry.status;
        if status.counts_as_served() || record.entry.deadline > self.now {
            return false;
        }
        match (expiry, status) {
            (Expiry::Gone, _) => {
                drop(record);
                self.remove_entry(event_id);
                true
            }
            (Expiry::Sleep { secs }, EntryStatus::Held) => {
                record.entry.status = EntryStatus::Asleep;
                drop(record);
                let deadline = self.after(secs);
                self.set_deadline(event_id, deadline);
                true
            }
            (Expiry::Sleep { .. }, EntryStatus::Asleep | EntryStatus::Releasing | EntryStatus::Stuck) => false,
        }
    }

    pub(in crate::purgatory) fn end(&mut self, event_ids: &BTreeSet<EventId>) -> usize {
        let mut ended = 0;
        for event_id in event_ids {
            if self.status(event_id).is_some_and(|status| !status.counts_as_served()) {
                self.remove_entry(event_id);
                ended += 1;
            }
        }
        ended
    }
}

fn hold_again(transaction: &mut Transaction<'_>, hold: &Hold, status: EntryStatus) {
    // OK is said about a whole hold: what is past its deadline and has not been looked at yet counts as gone.
    if status == EntryStatus::Asleep || status == EntryStatus::Held && transaction.is_past_deadline(&hold.event.id) {
        let deadline = transaction.after(hold.hold_secs);
        transaction.extend_entry(&hold.event.id, deadline);
        extend_others(transaction, hold);
    }
    transaction.raised.extend(hold.identifiers.iter().cloned());
    transaction.raise_of(&hold.event.id);
}

fn hold_first(transaction: &mut Transaction<'_>, hold: &Hold) {
    let deadline = transaction.after(hold.hold_secs);
    let entry = Entry {
        event: hold.event.clone(),
        identifiers: hold.identifiers.clone(),
        status: EntryStatus::Held,
        source: hold.source.clone(),
        held_since: transaction.now,
        deadline,
        waiting_for: String::new(),
        release_error: String::new(),
        after: BTreeSet::new(),
    };
    transaction.add_entry(Record::new(entry));
    transaction.set_deadline(&hold.event.id, deadline);
    extend_others(transaction, hold);
    transaction.raised.extend(hold.identifiers.iter().cloned());
}

fn extend_others(transaction: &mut Transaction<'_>, hold: &Hold) {
    let deadline = transaction.after(hold.hold_secs);
    for event_id in &hold.extend {
        transaction.extend_entry(event_id, deadline);
    }
}

/// Returns the announcement of the same coordinate that is held or asleep.
fn waiting_announcement(transaction: &Transaction<'_>, hold: &Hold) -> Option<Revision> {
    if hold.event.kind.as_u16() != ANNOUNCEMENT {
        return None;
    }
    let coordinate = Coordinate {
        owner: hold.event.pubkey,
        identifier: hold.identifiers.first()?.clone(),
    };
    let event_id = transaction.indices.announcements.get(&coordinate)?;
    let record = transaction.records.get(event_id)?;
    Some(Revision::of(&record.entry.event))
}

/// Names the limit that the event goes beyond; `old`, which it would replace, does not count.
fn limit_reached(transaction: &Transaction<'_>, hold: &Hold, old: Option<EventId>) -> Option<Limit> {
    let bytes = hold.event.as_json().len() as u64;
    let old_bytes = old
        .and_then(|old| transaction.records.get(&old))
        .map_or(0, |old| old.bytes);
    let full = |tally: &Tally, maxima: (u64, u64), names: (Limit, Limit)| {
        let is_freed = old.is_some_and(|old| tally.event_ids.contains(&old));
        let (freed, freed_bytes) = if is_freed { (1, old_bytes) } else { (0, 0) };
        let entries = tally.event_ids.len() as u64 - freed;
        let bytes = tally.bytes - freed_bytes + bytes;
        let of_entries = (entries >= maxima.0).then_some(names.0);
        of_entries.or_else(|| (bytes > maxima.1).then_some(names.1))
    };
    let limits = match hold.room {
        Room::WithinLimits => transaction.limits,
        Room::Always => return None,
    };
    if bytes > limits.event_bytes_max {
        return Some(Limit::EventBytes);
    }
    let indices = &*transaction.indices;
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
