//! Deletion requests in memory.

use nostr::key::PublicKey;

use super::transaction::Gate;
use super::transaction::Transaction;
use super::transaction::is_addressable;
use crate::nip01::Deletion;
use crate::purgatory::bounds::GATE_SECS;

impl Transaction<'_> {
    pub(in crate::purgatory) fn delete(&mut self, deletion: &Deletion) -> usize {
        let ends = self.after(GATE_SECS);
        let mut event_ids = deletion.event_ids.clone();
        for event_id in &deletion.event_ids {
            let gate = Gate::Event(deletion.author, *event_id);
            self.indices.gates.set(gate, ends);
        }
        for (kind, identifier) in &deletion.addresses {
            if !is_addressable(*kind) {
                continue;
            }
            let gate = Gate::Address(deletion.author, *kind, identifier.clone());
            let indices = &mut *self.indices;
            let up_to = indices.gated_until.entry(gate.clone()).or_default();
            *up_to = deletion.created_at.max(*up_to);
            indices.gates.set(gate, ends);
            let indexed = indices.identifiers.get(identifier).into_iter().flatten();
            event_ids.extend(indexed.filter(|id| {
                self.records.get(id).is_some_and(|record| {
                    let event = &record.entry.event;
                    event.kind.as_u16() == *kind && event.created_at.as_secs() <= deletion.created_at
                })
            }));
        }
        let mut deleted = 0;
        for event_id in &event_ids {
            let record = self.records.get(event_id);
            if record.is_some_and(|record| record.entry.event.pubkey == deletion.author) {
                self.raise_of(event_id);
                self.remove_entry(event_id);
                deleted += 1;
            }
        }
        deleted
    }

    pub(in crate::purgatory) fn vanish(&mut self, author: &PublicKey, created_at: u64) -> usize {
        let (gate, ends) = (Gate::Author(*author), self.after(GATE_SECS));
        let indices = &mut *self.indices;
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
            let record = self.records.get(event_id);
            if record.is_some_and(|record| record.entry.event.created_at.as_secs() <= created_at) {
                self.raise_of(event_id);
                self.remove_entry(event_id);
                vanished += 1;
            }
        }
        vanished
    }
}
