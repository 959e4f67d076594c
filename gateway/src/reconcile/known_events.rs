//! The repositories of the events that were read: a deletion by id, and a request to vanish, do not name them.

use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::PublicKey;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::rules::Facts;

use crate::reconcile::by_author::ByAuthor;

/// Announcements and states. One that is forgotten is known again after the next reconcile of its coordinate, at the
/// latest on the next day.
pub(crate) struct KnownEvents(ByAuthor<Identifier>);

impl KnownEvents {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self(ByAuthor::new(EVENTS_MAX))
    }

    /// Remembers the events that facts were made of.
    pub(crate) fn note(&self, facts: &Facts) {
        let announcements = facts.announcements.iter().map(|known| &known.item);
        let announced = announcements.map(|item| (item.revision.event_id, item.coordinate.clone()));
        let declared = facts
            .states
            .iter()
            .map(|known| (known.item.revision.event_id, known.item.home()));
        for (event_id, Coordinate { owner, identifier }) in announced.chain(declared) {
            self.0.note(&owner, event_id, |_| identifier);
        }
    }

    /// Returns the coordinate of an event of this author.
    pub(crate) fn coordinate_of(&self, author: &PublicKey, event_id: &EventId) -> Option<Coordinate> {
        let identifier = self.0.get(author, event_id)?;
        Some(Coordinate {
            owner: *author,
            identifier,
        })
    }

    /// Returns the coordinates of an author's events.
    pub(crate) fn coordinates_by(&self, author: &PublicKey) -> BTreeSet<Coordinate> {
        let own = self.0.all_by(author).into_iter();
        own.map(|(_, identifier)| Coordinate {
            owner: *author,
            identifier,
        })
        .collect()
    }
}

/// Events remembered, some 100 bytes each.
const EVENTS_MAX: u64 = 500_000;
