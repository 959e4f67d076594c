//! Which repositories the events speak of that were read: a deletion by id, and a request to vanish, do not tell.

use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::PublicKey;
use quick_cache::sync::Cache;
use shared::nip34::Identifier;
use shared::rules::Facts;

/// Announcements and states by id, the least used forgotten first. One that is forgotten is known again after the next
/// reconcile of its identifier, at the latest on the next day.
pub(crate) struct KnownEvents(Cache<EventId, KnownEvent>);

/// Whose event it is, and of which identifier.
#[derive(Debug, Clone)]
struct KnownEvent {
    author: PublicKey,
    identifier: Identifier,
}

impl KnownEvents {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self(Cache::new(EVENTS_MAX))
    }

    /// Remembers the events that facts were made of.
    pub(crate) fn note(&self, facts: &Facts) {
        for known in &facts.announcements {
            let (author, identifier) = (known.item.coordinate.owner, known.item.coordinate.identifier.clone());
            self.0
                .insert(known.item.revision.event_id, KnownEvent { author, identifier });
        }
        for known in &facts.states {
            let (author, identifier) = (known.item.author, known.item.identifier.clone());
            self.0
                .insert(known.item.revision.event_id, KnownEvent { author, identifier });
        }
    }

    /// Returns the identifier of the repositories that an event speaks of.
    pub(crate) fn identifier_of(&self, event_id: &EventId) -> Option<Identifier> {
        self.0.get(event_id).map(|known| known.identifier)
    }

    /// Returns the identifiers of the repositories that an author's events speak of.
    pub(crate) fn identifiers_by(&self, author: &PublicKey) -> BTreeSet<Identifier> {
        let own = self.0.iter().filter(|(_, known)| known.author == *author);
        own.map(|(_, known)| known.identifier).collect()
    }
}

/// Events remembered.
const EVENTS_MAX: usize = 500_000;
