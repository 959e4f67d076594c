//! What is known about events, by their authors: what an author deletes is found without a look at what others have.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use nostr::event::EventId;
use nostr::key::PublicKey;
use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use quick_cache::OptionsBuilder;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use quick_cache::sync::DefaultLifecycle;

/// Something about each of an author's events. The author whose events are used least is forgotten first.
pub(crate) struct ByAuthor<T> {
    authors: Cache<PublicKey, EventsOf<T>, EventCount>,
    events_max: u64,
}

struct EventsOf<T> {
    events: Arc<Mutex<BTreeMap<EventId, T>>>,
    /// How many there were when they were weighed: the cache has to find the same weight again.
    weighed: u64,
}

impl<T> Clone for EventsOf<T> {
    fn clone(&self) -> Self {
        Self {
            events: Arc::clone(&self.events),
            weighed: self.weighed,
        }
    }
}

#[derive(Debug, Clone)]
struct EventCount;

impl<T> Weighter<PublicKey, EventsOf<T>> for EventCount {
    fn weight(&self, _: &PublicKey, events: &EventsOf<T>) -> u64 {
        1 + events.weighed
    }
}

impl<T: Clone> ByAuthor<T> {
    /// Remembers about so many events, of one author at most a sixteenth of them.
    pub(crate) fn new(events_max: u64) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(AUTHORS_EXPECTED)
            .weight_capacity(events_max)
            // Each has its part of the events, and those of one author have to fit into one.
            .shards(1)
            .build()
            .expect("both capacities are given");
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self {
            authors: Cache::with_options(options, EventCount, hasher, lifecycle),
            events_max,
        }
    }

    /// Remembers something about an event, `changed` from what is remembered.
    pub(crate) fn note(&self, author: &PublicKey, event_id: EventId, changed: impl FnOnce(Option<T>) -> T) {
        // The same for all who note something at the same time.
        let known = self.authors.get_or_insert_with(author, || {
            let (events, weighed) = (Arc::default(), 0);
            Ok::<_, Infallible>(EventsOf { events, weighed })
        });
        let Ok(EventsOf { events, .. }) = known;
        let (is_new, weighed) = {
            let mut events = events.lock();
            let before = events.remove(&event_id);
            let is_new = before.is_none();
            if is_new && events.len() as u64 >= self.events_max / 16 {
                events.pop_first();
            }
            events.insert(event_id, changed(before));
            (is_new, events.len() as u64)
        };
        if is_new {
            self.authors.insert(*author, EventsOf { events, weighed });
        }
    }

    fn events_of(&self, author: &PublicKey) -> Arc<Mutex<BTreeMap<EventId, T>>> {
        self.authors.get(author).map(|known| known.events).unwrap_or_default()
    }

    /// Returns what is remembered about an event of this author.
    pub(crate) fn get(&self, author: &PublicKey, event_id: &EventId) -> Option<T> {
        self.authors.get(author)?.events.lock().get(event_id).cloned()
    }

    /// Returns what is remembered about all events of an author.
    pub(crate) fn all_by(&self, author: &PublicKey) -> Vec<(EventId, T)> {
        let events = self.events_of(author);
        let events = events.lock();
        events
            .iter()
            .map(|(event_id, known)| (*event_id, known.clone()))
            .collect()
    }

    /// Forgets those of an author's events that `is_taken` names, and returns what was remembered about them.
    pub(crate) fn take(&self, author: &PublicKey, is_taken: impl Fn(&EventId, &T) -> bool) -> Vec<T> {
        let events = self.events_of(author);
        let mut events = events.lock();
        let taken = events.extract_if(.., |event_id, known| is_taken(event_id, known));
        taken.map(|(_, known)| known).collect()
    }

    /// Returns whose events are remembered.
    pub(crate) fn authors(&self) -> Vec<PublicKey> {
        self.authors.iter().map(|(author, _)| author).collect()
    }
}

const AUTHORS_EXPECTED: usize = 1000;

#[cfg(test)]
mod tests {
    use nostr::key::Keys;

    use super::*;

    fn id(number: u8) -> EventId {
        EventId::from_byte_array([number; 32])
    }

    #[test]
    fn each_author_has_own_events_and_no_more_than_a_part_of_all() {
        let (one, other) = (Keys::generate().public_key(), Keys::generate().public_key());
        let known = ByAuthor::new(64);
        for number in 0..9 {
            known.note(&one, id(number), |before: Option<u32>| before.unwrap_or_default() + 1);
        }
        known.note(&one, id(8), |before| before.unwrap_or_default() + 1);
        known.note(&other, id(8), |_| 7);

        assert_eq!(known.all_by(&one).len(), 4);
        assert_eq!(known.get(&one, &id(8)), Some(2));
        assert_eq!(known.all_by(&other), [(id(8), 7)]);
        assert_eq!(known.authors().len(), 2);
    }

    #[test]
    fn authors_leave_for_others_with_all_that_is_remembered_of_them() {
        let known = ByAuthor::new(64);
        for number in 0..200 {
            let author = Keys::generate().public_key();
            known.note(&author, id(number), |_| ());
        }

        assert!(known.authors().len() <= 32, "{}", known.authors().len());
    }
}
