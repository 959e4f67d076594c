//! Releasing in memory: what happens to an entry that is leaving.

use std::collections::BTreeSet;

use nostr::event::EventId;

use super::super::Entry;
use super::super::EntryStatus;
use super::super::Lease;
use super::super::Leased;
use super::super::MarkedReleasing;
use super::super::Release;
use super::super::Settlement;
use super::super::bounds::LOOKED_AT_MAX;
use super::MemoryStore;
use super::step::Record;
use super::step::Step;

impl MemoryStore {
    pub(in super::super) fn mark_releasing(&self, releases: &[Release], lease_secs: u64) -> MarkedReleasing {
        self.step(|step| {
            let is_marked = |release: &&Release| mark(step, release);
            // All are marked before any is leased: what is ordered after one of them finds it marked.
            let marked: Vec<&Release> = releases.iter().filter(is_marked).collect();
            step.is_waking |= !marked.is_empty();
            let (mut result, mut own) = (MarkedReleasing::default(), BTreeSet::new());
            for Release { event, after, .. } in marked {
                if is_blocked(step, after, &own) {
                    result.waiting.insert(event.id);
                } else {
                    own.insert(event.id);
                    result.leased.push(Leased {
                        event: event.clone(),
                        lease: step.lease(event.id, lease_secs),
                        after: after.clone(),
                    });
                }
            }
            result
        })
    }

    pub(in super::super) fn take_due(&self, count_max: usize, lease_secs: u64) -> Vec<Leased> {
        self.step(|step| {
            let mut leased = Vec::new();
            for event_id in step.indices.releasing.until(step.now, LOOKED_AT_MAX) {
                if leased.len() >= count_max {
                    break;
                }
                let found = step.records.get(&event_id);
                let found = found.map(|record| (record.entry.event.clone(), record.entry.after.clone()));
                let Some((event, after)) = found else {
                    step.indices.releasing.remove(&event_id);
                    continue;
                };
                if is_blocked(step, &after, &BTreeSet::new()) {
                    let time = step.after(1);
                    step.indices.releasing.set(event_id, time);
                } else {
                    let lease = step.lease(event_id, lease_secs);
                    leased.push(Leased { event, lease, after });
                }
            }
            leased
        })
    }

    pub(in super::super) fn settle(&self, event_id: &EventId, lease: Lease, settlement: &Settlement) -> bool {
        self.step(|step| {
            let record = step.records.get(event_id);
            if record.and_then(|record| record.lease) != Some(lease) {
                return false;
            }
            match settlement {
                Settlement::Served => remove(step, event_id),
                Settlement::Dropped => {
                    step.raise_of(event_id);
                    remove(step, event_id);
                }
                Settlement::GiveBack => {
                    if let Some(mut record) = step.records.get_mut(event_id) {
                        record.lease = None;
                    }
                    step.indices.releasing.set(*event_id, step.now);
                }
                Settlement::Retry { after_secs, error } => {
                    put_off(step, event_id, EntryStatus::Releasing, (*after_secs, error));
                }
                Settlement::Stuck { after_secs, error } => {
                    put_off(step, event_id, EntryStatus::Stuck, (*after_secs, error));
                }
            }
            true
        })
    }
}

/// Marks an event as releasing, and returns whether it did: not what is another's, or deleted.
fn mark(step: &mut Step<'_>, release: &Release) -> bool {
    let event_id = release.event.id;
    let retry = step.indices.releasing.score(&event_id);
    let is_anothers = step.counts_as_served(&event_id) && retry.is_some_and(|retry| retry > step.now);
    if is_anothers || step.is_deleted(&release.event, &release.identifiers) {
        return false;
    }
    write_whole(step, release);
    step.indices.releasing.set(event_id, step.now);
    true
}

/// Tells whether one of the events in `after` is releasing, those in `own` left out.
fn is_blocked(step: &Step<'_>, after: &BTreeSet<EventId>, own: &BTreeSet<EventId>) -> bool {
    after.difference(own).any(|event_id| step.counts_as_served(event_id))
}

/// Removes an entry that has left. What is ordered after it is due at once: `take_due` puts it off by a second.
fn remove(step: &mut Step<'_>, event_id: &EventId) {
    let Some(identifiers) = step
        .records
        .get(event_id)
        .map(|record| record.entry.identifiers.clone())
    else {
        return;
    };
    step.remove_entry(event_id);
    let indices = &mut *step.indices;
    let together = identifiers.iter().filter_map(|name| indices.identifiers.get(name));
    for other in together.flatten() {
        let time = indices.releasing.score(other).filter(|time| *time <= step.now + 1);
        let waits = |record: &Record| record.entry.after.contains(event_id);
        if let Some(time) = time
            && step.records.get(other).is_some_and(|record| waits(&record))
        {
            indices.releasing.set(*other, time.min(step.now));
            step.is_waking = true;
        }
    }
}

/// Records an attempt that failed: for how many seconds nobody tries again, and why.
fn put_off(step: &mut Step<'_>, event_id: &EventId, status: EntryStatus, failure: (u64, &str)) {
    let (after_secs, error) = failure;
    if let Some(mut record) = step.records.get_mut(event_id) {
        record.entry.status = status;
        error.clone_into(&mut record.entry.release_error);
        record.lease = None;
    }
    let time = step.after(after_secs);
    step.indices.releasing.set(*event_id, time);
}

/// Writes the entry of a release anew, keeping what only an earlier one can know.
fn write_whole(step: &mut Step<'_>, release: &Release) {
    let event_id = release.event.id;
    step.clear_deadline(&event_id);
    let old = step.records.get(&event_id).map(|old| old.entry.clone());
    let entry = Entry {
        event: release.event.clone(),
        identifiers: release.identifiers.clone(),
        status: EntryStatus::Releasing,
        source: old.as_ref().map_or_else(String::new, |old| old.source.clone()),
        held_since: old.as_ref().map_or(step.now, |old| old.held_since),
        deadline: old.as_ref().map_or(step.now, |old| old.deadline),
        waiting_for: String::new(),
        release_error: old.map_or_else(String::new, |old| old.release_error),
        after: release.after.clone(),
    };
    step.add_entry(Record::new(entry));
}
