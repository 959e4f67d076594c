//! Authors who have many of what next to nobody has so many of, such as requests to delete, or large ones. To read them
//! all takes as long as the author chooses, while the relay's only writer waits: so it is remembered.

use std::collections::HashMap;
use std::time::Duration;

use nostr::event::Event;
use nostr::filter::Filter;
use nostr::filter::MatchEventOptions;
use nostr::key::PublicKey;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::nip01::memory_bytes;

/// What a relay has of something that is rare.
#[derive(Debug)]
pub(super) enum Few {
    /// All there is, and maybe others.
    All(Vec<Event>),
    /// There is more, or may be: what has come of it.
    More(Vec<Event>),
}

/// The authors, and until when they count as such. Who has little is none of them, unless many have.
#[derive(Debug, Default)]
pub(super) struct ProlificAuthors(Mutex<HashMap<PublicKey, Instant>>);

impl ProlificAuthors {
    /// Whether a filter names one of them.
    pub(super) fn are_named_by(&self, filters: &[Filter]) -> bool {
        let (known, now) = (self.0.lock(), Instant::now());
        let mut named = filters.iter().flat_map(|filter| filter.authors.iter().flatten());
        !known.is_empty() && named.any(|author| known.get(author).is_some_and(|until| *until > now))
    }

    /// Returns all there is, if that was found by `filters`, each with a limit of `count`; notes who has so many of it
    /// that there may be more, or large ones.
    pub(super) fn note(&self, found: Few, filters: &[Filter], count: usize) -> Option<Vec<Event>> {
        let (events, are_all) = match &found {
            Few::All(events) => (events, true),
            Few::More(events) => (events, false),
        };
        let is_one = |event: &&Event| {
            filters
                .iter()
                .any(|filter| filter.match_event(event, MatchEventOptions::new()))
        };
        let mut of_each: HashMap<PublicKey, (usize, usize)> = HashMap::new();
        for event in events.iter().filter(is_one) {
            let (events, bytes) = of_each.entry(event.pubkey).or_default();
            *events += 1;
            *bytes += memory_bytes(event);
        }
        let mut of_each: Vec<_> = of_each.into_iter().collect();
        of_each.sort_unstable_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
        let mut rest: usize = of_each.iter().map(|(_, (_, bytes))| bytes).sum();
        of_each.retain(|(_, (events, bytes))| {
            let are_too_much = !are_all && rest > ALL_BYTES_MAX;
            rest -= bytes;
            *bytes > BYTES_MAX || are_too_much || !are_all && *events > count / 2
        });
        self.add(of_each.into_iter().map(|(author, _)| author));
        match found {
            Few::All(events) => Some(events),
            Few::More(_) => None,
        }
    }

    fn add(&self, authors: impl ExactSizeIterator<Item = PublicKey>) {
        let (mut known, now) = (self.0.lock(), Instant::now());
        if known.len() + authors.len() > KNOWN_MAX {
            // Those who were found first, and half at least.
            let mut ends: Vec<Instant> = known.values().copied().collect();
            ends.sort_unstable();
            let median = ends.get(ends.len() / 2).copied();
            known.retain(|_, until| median.is_some_and(|median| *until > median));
        }
        known.extend(authors.map(|author| (author, now + KNOWN)));
    }
}

/// Most memory of one author's, and of all that are too many together without those who have most.
const BYTES_MAX: usize = 128 << 10;
const ALL_BYTES_MAX: usize = 4 * BYTES_MAX;
/// For how long an author is known: each time it has to be found out anew.
const KNOWN: Duration = Duration::from_secs(600);
/// Authors that are known at a time. Each has had many, or large ones, stored before.
const KNOWN_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;

    fn deletion(keys: &Keys, bytes: usize) -> Event {
        let deletion = EventBuilder::new(Kind::EventDeletion, "x".repeat(bytes));
        deletion.finalize(keys).unwrap()
    }

    fn by(keys: &Keys) -> [Filter; 2] {
        let deletions = Filter::new().kind(Kind::EventDeletion);
        [deletions.author(keys.public_key()), Filter::new().kind(Kind::TextNote)]
    }

    #[test]
    fn who_has_many_or_large_ones_is_known_for_a_while_and_nobody_who_is_read_with_them() {
        let keys = [(); 4].map(|()| Keys::generate());
        let [many, large, few, other] = &keys;
        let prolific = ProlificAuthors::default();
        let known = || [many, large, few].map(|keys| prolific.are_named_by(&by(keys)));
        let filters: Vec<Filter> = keys[..3].iter().flat_map(by).collect();

        let mut events = vec![
            deletion(few, 1),
            deletion(large, BYTES_MAX + 1),
            deletion(other, BYTES_MAX + 1),
        ];
        let all = prolific.note(Few::All(events.clone()), &filters, 4);
        assert_eq!(all.map(|all| all.len()), Some(3));
        assert_eq!(known(), [false, true, false]);
        assert!(!prolific.are_named_by(&by(other)), "he was not asked for");

        events.extend((0..3).map(|number| deletion(many, number)));
        assert_eq!(prolific.note(Few::More(events), &filters, 4), None);
        assert_eq!(known(), [true, true, false]);

        prolific.0.lock().values_mut().for_each(|until| *until = Instant::now());
        assert_eq!(known(), [false; 3]);

        // Many of whom each has little.
        let each: Vec<Keys> = (0..8).map(|_| Keys::generate()).collect();
        let mut events: Vec<Event> = each.iter().map(|keys| deletion(keys, BYTES_MAX / 2 + 10_000)).collect();
        events.push(deletion(few, 1));
        let filters: Vec<Filter> = each.iter().chain([few]).flat_map(by).collect();
        assert_eq!(prolific.note(Few::More(events), &filters, 20), None);
        let noted = each.iter().filter(|keys| prolific.are_named_by(&by(keys))).count();
        assert!(noted > 0 && noted < 8, "{noted}");
        assert!(!prolific.are_named_by(&by(few)));
    }

    #[test]
    fn of_too_many_the_first_are_forgotten() {
        let prolific = ProlificAuthors::default();
        let authors: Vec<PublicKey> = (0..KNOWN_MAX + 1).map(|_| Keys::generate().public_key()).collect();
        let named = |author: &PublicKey| prolific.are_named_by(&[Filter::new().author(*author)]);

        for author in &authors {
            prolific.add(std::iter::once(*author));
        }

        assert!(named(&authors[KNOWN_MAX]) && !named(&authors[0]));
        assert!(prolific.0.lock().len() <= KNOWN_MAX);
    }
}
