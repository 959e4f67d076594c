//! States whose refs were left out of the facts, because there are too many of them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use super::Facts;
use super::Known;
use crate::nip34::Coordinate;
use crate::nip34::State;
use crate::nip34::Unfulfillable;

impl Facts {
    /// Returns the states by the owners of these repositories, and those that may govern them, whose refs were left
    /// out.
    pub(crate) fn unread_states(&self, coordinates: &BTreeSet<Coordinate>) -> BTreeSet<EventId> {
        let places: BTreeSet<usize> = coordinates.iter().flat_map(|at| self.contenders(at)).collect();
        let states = self.states.iter().map(|known| &known.item).enumerate();
        let unread = states.filter(|(place, state)| {
            let is_needed = places.contains(place) || coordinates.contains(&state.home());
            is_needed && state.declared == Err(Unfulfillable::Unread)
        });
        unread.map(|(_, state)| state.revision.event_id).collect()
    }

    /// Adds the refs of states that were read again.
    pub(crate) fn complete_states<'e>(&mut self, events: impl Iterator<Item = &'e Event>) {
        let again: BTreeMap<EventId, &Event> = events.map(|event| (event.id, event)).collect();
        for Known { item, .. } in &mut self.states {
            let event = again.get(&item.revision.event_id);
            if let Some(state) = event.and_then(|event| State::parse(event).ok()) {
                *item = state;
            }
        }
    }
}
