//! The repositories of the events that were read: a deletion by id, and a request to vanish, do not name them.

use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::PublicKey;
use quick_cache::sync::Cache;
use shared::nip34::Coordinate;
use shared::rules::Facts;

/// Announcements and states by id, the least used forgotten first. One that is forgotten is known again after the next
/// reconcile of its coordinate, at the latest on the next day.
pub(crate) struct KnownEvents(Cache<EventId, Coordinate>);

impl KnownEvents {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self(Cache::new(EVENTS_MAX))
    }

    /// Remembers the events that facts were made of.
    pub(crate) fn note(&self, facts: &Facts) {
        for known in &facts.announcements {
            self.0
                .insert(known.item.revision.event_id, known.item.coordinate.clone());
        }
        for known in &facts.states {
            self.0.insert(known.item.revision.event_id, known.item.home());
        }
    }

    /// Returns the coordinate of an event.
    pub(crate) fn coordinate_of(&self, event_id: &EventId) -> Option<Coordinate> {
        self.0.get(event_id)
    }

    /// Returns the coordinates of an author's events.
    pub(crate) fn coordinates_by(&self, author: &PublicKey) -> BTreeSet<Coordinate> {
        let own = self.0.iter().filter(|(_, known)| known.owner == *author);
        own.map(|(_, known)| known).collect()
    }
}

/// Events remembered.
const EVENTS_MAX: usize = 500_000;
