//! The purgatory in this process's memory: the same steps as in Redis, one at a time, and gone with the process.
//!
//! The entries stand in a map that can be looked into at any time; one lock over everything else makes a step atomic,
//! and is never held while waiting. What each step does is said in `scripts/`, file by file.

mod hold;
mod release;
mod scores;
mod step;
mod tally;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use dashmap::DashMap;
use nostr::event::EventId;
use nostr::key::PublicKey;
use tokio::sync::watch;

use self::step::Gate;
use self::step::Indices;
use self::step::Record;
use self::step::Step;
use self::step::is_addressable;
use super::Clock;
use super::Deletion;
use super::DirtyNumber;
use super::Epoch;
use super::Limits;
use super::Notifications;
use super::Placeholder;
use super::PlaceholderOutcome;
use super::Reading;
use super::bounds::GATE_SECS;
use crate::git::Oid;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// The purgatory in memory. Clones are the same one.
#[derive(Clone)]
pub(super) struct MemoryStore(Arc<Memory>);

struct Memory {
    records: DashMap<EventId, Record>,
    indices: Mutex<Indices>,
    limits: Limits,
    clock: Clock,
    wakings: watch::Sender<u64>,
}

impl MemoryStore {
    pub(super) fn new(limits: Limits, clock: Clock) -> Self {
        Self(Arc::new(Memory {
            records: DashMap::new(),
            indices: Mutex::default(),
            limits,
            clock,
            wakings: watch::Sender::new(0),
        }))
    }

    /// Makes one step: nobody sees half of it.
    fn step<T>(&self, work: impl FnOnce(&mut Step<'_>) -> T) -> T {
        let memory = &*self.0;
        let mut step = Step {
            records: &memory.records,
            // A panic elsewhere must not stop everybody else; steps leave the indices usable at any point.
            indices: memory.indices.lock().unwrap_or_else(PoisonError::into_inner),
            now: (memory.clock)(),
            raised: BTreeSet::new(),
            is_waking: false,
        };
        step.sweep();
        let result = work(&mut step);
        if step.finish() {
            memory.wakings.send_modify(|count| *count = count.wrapping_add(1));
        }
        result
    }

    pub(super) fn read(&self, identifiers: &BTreeSet<Identifier>) -> Reading {
        self.step(|step| {
            let indices = &*step.indices;
            let event_ids: BTreeSet<EventId> = identifiers
                .iter()
                .filter_map(|identifier| indices.identifiers.get(identifier))
                .flatten()
                .copied()
                .collect();
            let records = event_ids.iter().filter_map(|id| step.records.get(id));
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
                now: step.now,
                dirty: dirty.collect(),
                entries,
                placeholders,
            }
        })
    }

    pub(super) fn mark_dirty(&self, identifiers: &BTreeSet<Identifier>) {
        self.step(|step| step.raised.extend(identifiers.iter().cloned()));
    }

    pub(super) fn dirty(&self, count_max: usize) -> Vec<(Identifier, DirtyNumber)> {
        self.step(|step| {
            let dirty = step.indices.dirty.iter().take(count_max);
            dirty
                .map(|(identifier, number)| (identifier.clone(), DirtyNumber(number)))
                .collect()
        })
    }

    pub(super) fn dirty_number(&self, identifier: &Identifier) -> Option<DirtyNumber> {
        self.step(|step| step.indices.dirty.score(identifier).map(DirtyNumber))
    }

    pub(super) fn clear_dirty(&self, identifier: &Identifier, seen: DirtyNumber) -> bool {
        self.step(|step| {
            let dirty = &mut step.indices.dirty;
            dirty.score(identifier) == Some(seen.0) && dirty.remove(identifier)
        })
    }

    pub(super) fn mark_overdue(&self, count_max: usize, recheck_secs: u64) -> usize {
        self.step(|step| {
            let overdue = step.indices.deadlines.until(step.now, count_max);
            let again = step.after(recheck_secs);
            for awaited in &overdue {
                step.raise_awaited(awaited);
                step.indices.deadlines.set(awaited.clone(), again);
            }
            overdue.len()
        })
    }

    pub(super) fn delete(&self, deletion: &Deletion) -> usize {
        self.step(|step| {
            let ends = step.after(GATE_SECS);
            let mut event_ids = deletion.event_ids.clone();
            for event_id in &deletion.event_ids {
                let gate = Gate::Event(deletion.author, *event_id);
                step.indices.gates.set(gate, ends);
            }
            for (kind, identifier) in &deletion.addresses {
                if !is_addressable(*kind) {
                    continue;
                }
                let gate = Gate::Address(deletion.author, *kind, identifier.clone());
                let indices = &mut *step.indices;
                let up_to = indices.gated_until.entry(gate.clone()).or_default();
                *up_to = deletion.created_at.max(*up_to);
                indices.gates.set(gate, ends);
                let indexed = indices.identifiers.get(identifier).into_iter().flatten();
                event_ids.extend(indexed.filter(|id| {
                    step.records.get(id).is_some_and(|record| {
                        let event = &record.entry.event;
                        event.kind.as_u16() == *kind && event.created_at.as_secs() <= deletion.created_at
                    })
                }));
            }
            let mut deleted = 0;
            for event_id in &event_ids {
                let record = step.records.get(event_id);
                if record.is_some_and(|record| record.entry.event.pubkey == deletion.author) {
                    step.raise_of(event_id);
                    step.remove_entry(event_id);
                    deleted += 1;
                }
            }
            deleted
        })
    }

    pub(super) fn vanish(&self, author: &PublicKey, created_at: u64) -> usize {
        self.step(|step| {
            let (gate, ends) = (Gate::Author(*author), step.after(GATE_SECS));
            let indices = &mut *step.indices;
            let up_to = indices.gated_until.entry(gate.clone()).or_default();
            *up_to = created_at.max(*up_to);
            indices.gates.set(gate, ends);
            let own = indices
                .authors
                .get(author)
                .map(|own| own.event_ids.clone())
                .unwrap_or_default();
            let mut vanished = 0;
            for event_id in &own {
                let record = step.records.get(event_id);
                if record.is_some_and(|record| record.entry.event.created_at.as_secs() <= created_at) {
                    step.raise_of(event_id);
                    step.remove_entry(event_id);
                    vanished += 1;
                }
            }
            vanished
        })
    }

    /// Changes nothing that a decision rests on, so it takes no part in the steps.
    pub(super) fn note_waiting(&self, notes: &BTreeMap<EventId, String>) {
        for (event_id, text) in notes {
            if let Some(mut record) = self.0.records.get_mut(event_id) {
                record.entry.waiting_for.clone_from(text);
            }
        }
    }

    pub(super) fn put_placeholder(
        &self,
        event_id: &EventId,
        coordinate: &Coordinate,
        commit_oid: Oid,
        hold_secs: u64,
    ) -> PlaceholderOutcome {
        self.step(|step| {
            let deadline = step.after(hold_secs);
            let key = (*event_id, coordinate.clone());
            let indices = &mut *step.indices;
            let is_full = indices.placeholder_ends.len() as u64 >= self.0.limits.placeholders_max;
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
        })
    }

    pub(super) fn drop_placeholder(&self, event_id: &EventId, coordinate: &Coordinate, commit_oid: Oid) -> bool {
        self.step(|step| {
            let placeholders = step.indices.placeholders.get(&coordinate.identifier);
            let found = placeholders.and_then(|all| all.get(&(*event_id, coordinate.clone())));
            if found.is_none_or(|found| found.commit_oid != commit_oid) {
                return false;
            }
            step.remove_placeholder(event_id, coordinate);
            true
        })
    }

    /// It never loses anything but itself.
    pub(super) fn epoch(&self) -> Epoch {
        let server = "memory".to_owned();
        Epoch {
            name: format!("{server}:1"),
            server,
        }
    }

    pub(super) fn begin_epoch(&self, found: &Epoch) -> String {
        found.name.clone()
    }

    pub(super) fn mark_held(&self) {
        self.step(|step| {
            let held = step.indices.deadlines.until(u64::MAX, usize::MAX);
            for awaited in &held {
                step.raise_awaited(awaited);
            }
        });
    }

    pub(super) fn notifications(&self) -> Notifications {
        Notifications::new(self.0.wakings.subscribe())
    }
}
