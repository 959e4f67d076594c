//! Tags that so many events have that a relay needs long to walk through them. strfry looks up a filter with a tag by
//! the tag alone, whatever authors and kinds it names (strfry `DBQuery.h`), and anybody can publish events with the
//! `d` of another's repository. Without the tag it looks the same filter up by its authors and kinds.

use std::collections::HashMap;
use std::time::Duration;

use nostr::event::Event;
use nostr::filter::Filter;
use nostr::filter::SingleLetterTag;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::nip01::memory_bytes;

/// The tags that took long.
#[derive(Debug, Default)]
pub(super) struct CrowdedTags(Mutex<HashMap<Tag, Crowd>>);

type Tag = (SingleLetterTag, String);

/// What is known of the events that have a tag.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    /// When it is forgotten that it took long.
    until: Instant,
    used_at: Instant,
}

/// What a relay is asked by some filters with tags, and since when. Dropped without an answer, it took long if it did
/// until then.
#[derive(Debug)]
pub(super) struct TagQuery<'c> {
    crowded: &'c CrowdedTags,
    tags: Vec<Tag>,
    begun: Instant,
}

impl CrowdedTags {
    /// Returns what to ask instead of `filters`, if tags are crowded: the same by authors and kinds alone. The answer
    /// has events of these authors that match none of `filters`.
    pub(super) fn without(&self, filters: &[Filter]) -> Option<Vec<Filter>> {
        let mut crowded = self.0.lock();
        if crowded.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut asked = filters.to_vec();
        let mut is_changed = false;
        for filter in asked.iter_mut().filter(|filter| has_authors_and_kinds(filter)) {
            let mut is_crowded = false;
            for tag in tags(filter) {
                if let Some(crowd) = crowded.get_mut(&tag).filter(|crowd| crowd.until > now) {
                    crowd.used_at = now;
                    is_crowded = true;
                }
            }
            if is_crowded {
                filter.generic_tags.clear();
            }
            is_changed |= is_crowded;
        }
        is_changed.then_some(asked)
    }

    pub(super) fn begin(&self, filters: &[Filter]) -> TagQuery<'_> {
        let filters = filters.iter().filter(|filter| has_authors_and_kinds(filter));
        TagQuery {
            crowded: self,
            tags: filters.flat_map(tags).collect(),
            begun: Instant::now(),
        }
    }
}

impl TagQuery<'_> {
    /// Takes the answer. One with much in it may take long.
    pub(super) fn end(mut self, events: &[Event]) {
        if events.iter().map(memory_bytes).sum::<usize>() > SMALL_BYTES {
            self.tags.clear();
        }
    }

    /// There is much in the answer: it says nothing of the tags.
    pub(super) fn forget(mut self) {
        self.tags.clear();
    }
}

impl Drop for TagQuery<'_> {
    fn drop(&mut self) {
        if self.tags.is_empty() || self.begun.elapsed() < LONG {
            return;
        }
        let mut crowded = self.crowded.0.lock();
        if crowded.len() + self.tags.len() > CROWDED_MAX {
            forget_unused(&mut crowded);
        }
        let now = Instant::now();
        let crowd = Crowd {
            until: now + CROWDED,
            used_at: now,
        };
        for tag in self.tags.drain(..) {
            tracing::debug!(tag.name = %tag.0, tag.value = tag.1, "many events have this tag: ask by author");
            crowded.insert(tag, crowd);
        }
    }
}

/// Forgets half of the tags, those that were asked for least recently: making some crowded forgets none that are in
/// use.
fn forget_unused(crowded: &mut HashMap<Tag, Crowd>) {
    let mut used: Vec<Instant> = crowded.values().map(|crowd| crowd.used_at).collect();
    used.sort_unstable();
    let median = used.get(used.len() / 2).copied();
    crowded.retain(|_, crowd| median.is_some_and(|median| crowd.used_at > median));
}

fn has_authors_and_kinds(filter: &Filter) -> bool {
    filter.ids.is_none() && filter.authors.is_some() && filter.kinds.is_some()
}

fn tags(filter: &Filter) -> impl Iterator<Item = Tag> {
    let tags = filter.generic_tags.iter();
    tags.flat_map(|(name, values)| values.iter().map(|value| (*name, value.clone())))
}

/// From here on an answer took long, if it is small.
const LONG: Duration = Duration::from_millis(50);
const SMALL_BYTES: usize = 64 << 10;
/// For how long a tag counts as crowded: the events of its authors that are read instead may be many.
const CROWDED: Duration = Duration::from_secs(600);
/// Tags that count as crowded at a time. Each took long before it did, alone or with those of the same request.
const CROWDED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag as EventTag;
    use nostr::key::Keys;

    use super::*;
    use crate::relay_client::RelayError;
    use crate::relay_client::tests::relay;
    use crate::relay_client::tests::stored;
    use crate::relay_client::tests::within;

    #[test]
    fn a_tag_that_took_long_is_asked_by_author_for_a_while() {
        let crowded = CrowdedTags::default();
        let author = Keys::generate().public_key();
        let by_author = Filter::new().author(author).kind(Kind::from_u16(30618));
        let filters = [
            by_author.clone().identifier("crowded"),
            Filter::new().identifier("anybody's"),
        ];

        drop(crowded.begin(&filters));
        assert_eq!(crowded.without(&filters), None, "it took no time");
        let mut query = crowded.begin(&filters);
        query.begun -= LONG;
        drop(query);

        let asked = crowded.without(&filters);
        assert_eq!(asked, Some(vec![by_author.clone(), filters[1].clone()]));
        let other = [by_author.identifier("other")];
        assert_eq!(crowded.without(&other), None);
        crowded
            .0
            .lock()
            .values_mut()
            .for_each(|crowd| crowd.until = Instant::now());
        assert_eq!(crowded.without(&filters), None);
    }

    /// Sixteen tags of each slow request filled the table, so that nobody else's were put there.
    #[test]
    fn tags_in_use_are_not_forgotten_for_others() {
        let crowded = CrowdedTags::default();
        let author = Keys::generate().public_key();
        let of = |identifier: String| {
            [Filter::new()
                .author(author)
                .kind(Kind::EventDeletion)
                .identifier(identifier)]
        };
        let took_long = |identifier: String| {
            let mut query = crowded.begin(&of(identifier));
            query.begun -= LONG;
        };
        took_long("in-use".to_owned());

        for number in 0..3 * CROWDED_MAX {
            took_long(number.to_string());
            assert!(crowded.without(&of("in-use".to_owned())).is_some());
        }

        assert!(crowded.without(&of((3 * CROWDED_MAX - 1).to_string())).is_some());
        assert!(crowded.without(&of("0".to_owned())).is_none());
        assert!(crowded.0.lock().len() <= CROWDED_MAX);
    }

    /// strfry walks through all events with a tag, by any author.
    #[tokio::test]
    async fn a_tag_that_too_many_events_have_is_asked_by_author_from_then_on() {
        let keys = Keys::generate();
        let state = |identifier: &str| {
            let state = EventBuilder::new(Kind::from_u16(30618), "").tag(EventTag::identifier(identifier));
            state.finalize(&keys).unwrap()
        };
        let (own, other) = (state("crowded"), state("other"));
        let both = [own.clone(), other];
        let client = relay(100, move |_, message| match message[2].get("#d") {
            Some(_) => Vec::new(),
            None => stored(&both, 100, message),
        })
        .await;
        let by_author = Filter::new().author(keys.public_key()).kind(Kind::from_u16(30618));
        let filters = vec![by_author.identifier("crowded")];

        let first = within(client.query(filters.clone())).await;

        assert!(matches!(first, Err(RelayError::Timeout)), "{first:?}");
        assert_eq!(
            within(client.query(filters.clone())).await.unwrap(),
            std::slice::from_ref(&own)
        );
        let deletions = Filter::new().author(keys.public_key()).kind(Kind::EventDeletion);
        let with_few = within(client.query_with(filters.clone(), deletions, 20)).await.unwrap();
        assert_eq!(with_few, Some(vec![own.clone()]));
        let few = || within(client.fewer_than(usize::MAX, 20, filters.clone()));
        assert_eq!(few().await.unwrap(), Some(vec![own]));
    }

    /// An issue with a hundred addresses kept the relay's only writer for a second, again and again.
    #[tokio::test]
    async fn whether_anything_has_a_crowded_tag_is_asked_by_author_too() {
        let keys = Keys::generate();
        let state = EventBuilder::new(Kind::from_u16(30618), "").tag(EventTag::identifier("crowded"));
        let state = state.finalize(&keys).unwrap();
        let client = relay(100, move |_, message| match message[2].get("#d") {
            Some(_) => Vec::new(),
            None => stored(std::slice::from_ref(&state), 100, message),
        })
        .await;
        let of = |author: &Keys| {
            let by_author = Filter::new().author(author.public_key()).kind(Kind::from_u16(30618));
            vec![by_author.identifier("crowded")]
        };

        let first = within(client.any(of(&keys))).await;

        assert!(matches!(first, Err(RelayError::Timeout)), "{first:?}");
        assert!(within(client.any(of(&keys))).await.unwrap());
        assert!(!within(client.any(of(&Keys::generate()))).await.unwrap());
    }
}
