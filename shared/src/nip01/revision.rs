//! Which of two versions of a replaceable event wins.

use std::cmp::Ordering;

use nostr::event::Event;
use nostr::event::EventId;

/// A version of an event in NIP-01's order: the greater one wins, which is the newer one, or of two from the same
/// second the one with the lower id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The event's own time, unix seconds.
    pub created_at: u64,
    /// The event's id.
    pub event_id: EventId,
}

impl Revision {
    /// Returns the place of `event` among its versions.
    pub fn of(event: &Event) -> Self {
        Self {
            created_at: event.created_at.as_secs(),
            event_id: event.id,
        }
    }
}

impl Ord for Revision {
    fn cmp(&self, other: &Self) -> Ordering {
        self.created_at
            .cmp(&other.created_at)
            .then_with(|| other.event_id.as_bytes().cmp(self.event_id.as_bytes()))
    }
}

impl PartialOrd for Revision {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(created_at: u64, first_byte: u8) -> Revision {
        let mut id = [0; 32];
        id[0] = first_byte;
        Revision {
            created_at,
            event_id: EventId::from_slice(&id).unwrap(),
        }
    }

    #[test]
    fn the_newer_wins() {
        assert!(revision(2, 9) > revision(1, 1));
    }

    #[test]
    fn of_one_second_the_lower_id_wins() {
        assert!(revision(1, 1) > revision(1, 9));
    }
}
