//! The repositories of the events that were read: a deletion by id, and a request to vanish, do not name them.

use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::PublicKey;
use shared::nip01::Revision;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::rules::Facts;

use crate::reconcile::by_author::ByAuthor;

/// Announcements and states. One that is forgotten is known again after the next reconcile of its coordinate, at the
/// latest on the next day.
pub(crate) struct KnownEvents(ByAuthor<KnownEvent>);

/// What is known of an announcement or a state.
#[derive(Clone)]
pub(crate) struct KnownEvent {
    pub(crate) identifier: Identifier,
    /// Unix seconds.
    pub(crate) created_at: u64,
}

impl KnownEvents {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self(ByAuthor::new(EVENTS_MAX))
    }

    /// Remembers the events that facts were made of.
    pub(crate) fn note(&self, facts: &Facts) {
        let announcements = facts.announcements.iter().map(|known| &known.item);
        let announced = announcements.map(|item| (&item.revision, item.coordinate.clone()));
        let states = facts.states.iter().map(|known| &known.item);
        let declared = states.map(|item| (&item.revision, item.home()));
        for (revision, coordinate) in announced.chain(declared) {
            self.note_event(revision, coordinate);
        }
    }

    fn note_event(&self, revision: &Revision, Coordinate { owner, identifier }: Coordinate) {
        let created_at = revision.created_at;
        let known = KnownEvent { identifier, created_at };
        self.0.note(&owner, revision.event_id, |_| known);
    }

    /// Forgets the events of an author that one of the author's requests ends, and returns their coordinates. So they
    /// are reconciled for one request, however many there are; what has not ended is known again by that reconcile.
    pub(crate) fn take(
        &self,
        author: &PublicKey,
        is_ended: impl Fn(&EventId, &KnownEvent) -> bool,
    ) -> BTreeSet<Coordinate> {
        let ended = self.0.take(author, is_ended).into_iter();
        ended
            .map(|known| Coordinate {
                owner: *author,
                identifier: known.identifier,
            })
            .collect()
    }
}

/// Events remembered, some 100 bytes each.
const EVENTS_MAX: u64 = 500_000;

#[cfg(test)]
mod tests {
    use nostr::key::Keys;

    use super::*;

    #[test]
    fn what_a_request_ends_is_concerned_once_and_what_is_later_never() {
        let known = KnownEvents::new();
        let [owner, other] = [(); 2].map(|()| Keys::generate().public_key());
        let note = |author, identifier: &str, created_at: u8| {
            let event_id = EventId::from_byte_array([created_at; 32]);
            let created_at = created_at.into();
            let identifier = identifier.parse().unwrap();
            let coordinate = Coordinate {
                owner: author,
                identifier,
            };
            known.note_event(&Revision { created_at, event_id }, coordinate);
        };
        for (author, identifier, created_at) in [(owner, "a", 5), (owner, "b", 9), (owner, "c", 10), (other, "d", 1)] {
            note(author, identifier, created_at);
        }
        let vanish = |asked_at| {
            let concerned = known.take(&owner, |_, known| known.created_at <= asked_at).into_iter();
            concerned
                .map(|coordinate| coordinate.identifier.to_string())
                .collect::<Vec<_>>()
        };

        assert_eq!(vanish(4), [""; 0]);
        assert_eq!(vanish(9), ["a", "b"]);
        assert_eq!(vanish(9), [""; 0], "they are forgotten");
        note(owner, "b", 9);
        assert_eq!(vanish(9), ["b"], "it was read again");
    }
}
