//! The events that this gateway brings into the relay, completely in memory: a Redis that loses them gets them back
//! (docs/redis.md).

use std::collections::VecDeque;

use nostr::event::EventId;
use parking_lot::Mutex;
use shared::nip01::memory_bytes;
use shared::purgatory::Leased;
use shared::purgatory::Release;
use shared::rules::GitEvent;

/// Complete events that have not left yet, as far as this gateway knows, oldest first.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Releases>);

#[derive(Debug, Default)]
struct Releases {
    releases: VecDeque<Release>,
    bytes: usize,
}

impl InFlight {
    /// Remembers a release until it has left, and returns whether it was unknown. If too much is remembered, the oldest
    /// is forgotten; nothing is lost by that alone.
    pub(crate) fn remember(&self, release: &Release) -> bool {
        let mut known = self.0.lock();
        let is_new = !known.remove(&release.event.id);
        known.bytes += bytes_of(release);
        known.releases.push_back(release.clone());
        while known.bytes > BYTES_MAX {
            let Some(oldest) = known.releases.pop_front() else {
                break;
            };
            known.bytes -= bytes_of(&oldest);
        }
        is_new
    }

    /// Remembers an event that another gateway, or this one before its start, had found complete.
    pub(crate) fn remember_leased(&self, leased: &Leased) {
        let Leased { event, after, .. } = leased;
        let is_known = self.0.lock().releases.iter().any(|known| known.event.id == event.id);
        if !is_known {
            let git_event = GitEvent::parse(event).ok().flatten();
            self.remember(&Release {
                event: event.clone().into(),
                // A related event has none.
                coordinates: git_event.map(|git_event| git_event.coordinates()).unwrap_or_default(),
                after: after.clone(),
            });
        }
    }

    /// Forgets an event that has left, or must not leave.
    pub(crate) fn forget(&self, event_id: &EventId) {
        self.0.lock().remove(event_id);
    }

    /// Returns the remembered events, oldest first.
    pub(crate) fn all(&self) -> Vec<Release> {
        self.0.lock().releases.iter().cloned().collect()
    }
}

impl Releases {
    /// Returns whether it was known.
    fn remove(&mut self, event_id: &EventId) -> bool {
        let place = self.releases.iter().position(|known| known.event.id == *event_id);
        match place.and_then(|place| self.releases.remove(place)) {
            Some(removed) => {
                self.bytes -= bytes_of(&removed);
                true
            }
            None => false,
        }
    }
}

fn bytes_of(release: &Release) -> usize {
    memory_bytes(&release.event)
}

/// Most bytes of memory of events remembered.
const BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nostr::event::Event;
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use shared::purgatory::Lease;

    use super::*;

    fn state(content_bytes: usize) -> Event {
        EventBuilder::new(Kind::from_u16(30618), "x".repeat(content_bytes))
            .tag(Tag::parse(["d", "r"]).unwrap())
            .finalize(&Keys::generate())
            .unwrap()
    }

    fn release(event: &Event, after: &[EventId]) -> Release {
        Release {
            event: event.clone().into(),
            coordinates: GitEvent::parse(event).unwrap().unwrap().coordinates(),
            after: after.iter().copied().collect(),
        }
    }

    fn leased(event: &Event, after: &[EventId]) -> Leased {
        Leased {
            event: event.clone(),
            lease: Lease(1),
            after: after.iter().copied().collect(),
        }
    }

    #[test]
    fn what_has_not_left_is_known_in_order_with_what_it_waits_for() {
        let in_flight = InFlight::default();
        let [first, second, third] = [1, 2, 3].map(state);
        for event in [&first, &second, &third] {
            in_flight.remember(&release(event, &[first.id]));
        }

        in_flight.remember_leased(&leased(&third, &[]));
        in_flight.forget(&second.id);
        in_flight.forget(&second.id);

        assert_eq!(
            in_flight.all(),
            [&first, &third].map(|event| release(event, &[first.id]))
        );
    }

    #[test]
    fn what_others_found_complete_is_known_with_what_it_follows_and_related_events_without_coordinates() {
        let in_flight = InFlight::default();
        let event = state(1);
        let comment = EventBuilder::new(Kind::from_u16(1111), "")
            .finalize(&Keys::generate())
            .unwrap();

        in_flight.remember_leased(&leased(&event, &[]));
        in_flight.remember_leased(&leased(&comment, &[event.id]));

        let of_comment = Release {
            event: comment.into(),
            coordinates: BTreeSet::new(),
            after: BTreeSet::from([event.id]),
        };
        assert_eq!(in_flight.all(), [release(&event, &[]), of_comment]);
    }

    #[test]
    fn the_oldest_is_forgotten_when_too_much_is_known() {
        let in_flight = InFlight::default();
        let events: Vec<Event> = (0..20).map(|_| state(1 << 20)).collect();

        for event in &events {
            in_flight.remember(&release(event, &[]));
        }

        let known = in_flight.all();
        assert!((10..16).contains(&known.len()), "{}", known.len());
        assert_eq!(*known.last().unwrap().event, events[19]);
        for event in &events {
            in_flight.forget(&event.id);
        }
        assert_eq!(in_flight.0.lock().bytes, 0);
    }
}
