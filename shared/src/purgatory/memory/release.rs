//! Releasing in memory: what happens to an entry that is leaving.

use nostr::event::EventId;

use super::super::Entry;
use super::super::EntryStatus;
use super::super::Lease;
use super::super::Leased;
use super::super::Release;
use super::super::Settlement;
use super::super::bounds::LOOKED_AT_MAX;
use super::MemoryStore;
use super::step::Record;
use super::step::Step;

impl MemoryStore {
    pub(in super::super) fn mark_releasing(&self, releases: &[Release], lease_secs: u64) -> Vec<Leased> {
        self.step(|step| {
            let mut leased = Vec::new();
            for release in releases {
                let event_id = release.event.id;
                let retry = step.indices.releasing.score(&event_id);
                let is_anothers = step.counts_as_served(&event_id) && retry.is_some_and(|retry| retry > step.now);
                if is_anothers || step.is_deleted(&release.event, &release.identifiers) {
                    continue;
                }
                write_whole(step, release);
                leased.push(Leased {
                    event: release.event.clone(),
                    lease: step.lease(event_id, lease_secs),
                });
            }
            step.is_waking |= !leased.is_empty();
            leased
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
                if after.iter().any(|id| step.counts_as_served(id)) {
                    let time = step.after(1);
                    step.indices.releasing.set(event_id, time);
                } else {
                    let lease = step.lease(event_id, lease_secs);
                    leased.push(Leased { event, lease });
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
                Settlement::Done => {
                    step.raise_of(event_id);
                    step.remove_entry(event_id);
                    let_go_what_waited(step, event_id);
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

/// What only waited for the entry is due at once: `take_due` has pushed it on by a second.
fn let_go_what_waited(step: &mut Step<'_>, event_id: &EventId) {
    let indices = &mut *step.indices;
    let together = step.raised.iter().filter_map(|name| indices.identifiers.get(name));
    let (now, soon) = (step.now, step.now + 1);
    for other in together.flatten() {
        let is_near = indices.releasing.score(other) == Some(soon);
        let waits = |record: &Record| record.entry.after.contains(event_id);
        if is_near && step.records.get(other).is_some_and(|record| waits(&record)) {
            indices.releasing.set(*other, now);
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
