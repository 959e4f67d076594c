//! Releasing in memory.

use std::collections::BTreeSet;

use nostr::event::EventId;

use super::transaction::Record;
use super::transaction::Transaction;
use crate::purgatory::bounds::SCANNED_MAX;
use crate::purgatory::entry::Entry;
use crate::purgatory::entry::EntryStatus;
use crate::purgatory::release::Lease;
use crate::purgatory::release::Leased;
use crate::purgatory::release::MarkedReleasing;
use crate::purgatory::release::Release;
use crate::purgatory::release::Settlement;

impl Transaction<'_> {
    pub(in crate::purgatory) fn mark_releasing(&mut self, releases: &[Release], lease_secs: u64) -> MarkedReleasing {
        let is_marked = |release: &&Release| mark(self, release);
        // All are marked before any is leased: what is ordered after one of them finds it marked.
        let marked: Vec<&Release> = releases.iter().filter(is_marked).collect();
        self.is_waking |= !marked.is_empty();
        let (mut result, mut own) = (MarkedReleasing::default(), BTreeSet::new());
        for Release { event, after, .. } in marked {
            if is_blocked(self, after, &own) {
                result.waiting.insert(event.id);
            } else {
                own.insert(event.id);
                result.leased.push(Leased {
                    event: event.clone(),
                    lease: self.lease(event.id, lease_secs),
                    after: after.clone(),
                });
            }
        }
        result
    }

    pub(in crate::purgatory) fn take_due(&mut self, count_max: usize, lease_secs: u64) -> Vec<Leased> {
        let mut leased = Vec::new();
        for event_id in self.indices.releasing.until(self.now, SCANNED_MAX) {
            if leased.len() >= count_max {
                break;
            }
            let found = self.records.get(&event_id);
            let found = found.map(|record| (record.entry.event.clone(), record.entry.after.clone()));
            let Some((event, after)) = found else {
                self.indices.releasing.remove(&event_id);
                continue;
            };
            if is_blocked(self, &after, &BTreeSet::new()) {
                let time = self.after(1);
                self.indices.releasing.set(event_id, time);
            } else {
                let lease = self.lease(event_id, lease_secs);
                leased.push(Leased { event, lease, after });
            }
        }
        leased
    }

    pub(in crate::purgatory) fn settle(&mut self, event_id: &EventId, lease: Lease, settlement: &Settlement) -> bool {
        let record = self.records.get(event_id);
        if record.and_then(|record| record.lease) != Some(lease) {
            return false;
        }
        match settlement {
            Settlement::Served => remove(self, event_id),
            Settlement::Dropped => {
                self.raise_of(event_id);
                remove(self, event_id);
            }
            Settlement::GiveBack => {
                if let Some(mut record) = self.records.get_mut(event_id) {
                    record.lease = None;
                }
                self.indices.releasing.set(*event_id, self.now);
            }
            Settlement::Retry { after_secs, error } => {
                put_off(self, event_id, EntryStatus::Releasing, (*after_secs, error));
            }
            Settlement::Stuck { after_secs, error } => {
                put_off(self, event_id, EntryStatus::Stuck, (*after_secs, error));
            }
        }
        true
    }
}

/// Marks an event as releasing, and returns whether it did: not what is another's, or deleted.
fn mark(transaction: &mut Transaction<'_>, release: &Release) -> bool {
    let event_id = release.event.id;
    let retry = transaction.indices.releasing.score(&event_id);
    let is_anothers = transaction.counts_as_served(&event_id) && retry.is_some_and(|retry| retry > transaction.now);
    if is_anothers || transaction.is_deleted(&release.event, &release.identifiers) {
        return false;
    }
    write_whole(transaction, release);
    transaction.indices.releasing.set(event_id, transaction.now);
    true
}

/// Whether one of the events in `after` is releasing, those in `own` left out.
fn is_blocked(transaction: &Transaction<'_>, after: &BTreeSet<EventId>, own: &BTreeSet<EventId>) -> bool {
    after
        .difference(own)
        .any(|event_id| transaction.counts_as_served(event_id))
}

/// Removes an entry that has left. What is ordered after it is due at once: `take_due` puts it off by a second.
fn remove(transaction: &mut Transaction<'_>, event_id: &EventId) {
    let Some(identifiers) = transaction
        .records
        .get(event_id)
        .map(|record| record.entry.identifiers.clone())
    else {
        return;
    };
    transaction.remove_entry(event_id);
    let indices = &mut *transaction.indices;
    let together = identifiers.iter().filter_map(|name| indices.identifiers.get(name));
    for other in together.flatten() {
        let time = indices
            .releasing
            .score(other)
            .filter(|time| *time <= transaction.now + 1);
        let waits = |record: &Record| record.entry.after.contains(event_id);
        if let Some(time) = time
            && transaction.records.get(other).is_some_and(|record| waits(&record))
        {
            indices.releasing.set(*other, time.min(transaction.now));
            transaction.is_waking = true;
        }
    }
}

/// Records an attempt that failed: after how many seconds it is retried, and why.
fn put_off(transaction: &mut Transaction<'_>, event_id: &EventId, status: EntryStatus, failure: (u64, &str)) {
    let (after_secs, error) = failure;
    if let Some(mut record) = transaction.records.get_mut(event_id) {
        record.entry.status = status;
        error.clone_into(&mut record.entry.release_error);
        record.lease = None;
    }
    let time = transaction.after(after_secs);
    transaction.indices.releasing.set(*event_id, time);
}

/// Writes the entry of a release again, and keeps what only the earlier one has.
fn write_whole(transaction: &mut Transaction<'_>, release: &Release) {
    let event_id = release.event.id;
    transaction.clear_deadline(&event_id);
    let old = transaction.records.get(&event_id).map(|old| old.entry.clone());
    let entry = Entry {
        event: release.event.clone(),
        identifiers: release.identifiers.clone(),
        status: EntryStatus::Releasing,
        source: old.as_ref().map_or_else(String::new, |old| old.source.clone()),
        held_since: old.as_ref().map_or(transaction.now, |old| old.held_since),
        deadline: old.as_ref().map_or(transaction.now, |old| old.deadline),
        waiting_for: String::new(),
        release_error: old.map_or_else(String::new, |old| old.release_error),
        after: release.after.clone(),
    };
    transaction.add_entry(Record::new(entry));
}
