//! An open subscription of a connection: each stored event reaches it exactly once, by request or live.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Tags;
use nostr::filter::Filter;
use nostr::filter::MatchEventOptions;
use nostr::filter::SingleLetterTag;

use crate::event_store::json_of;
use crate::shares::Occupied;

/// An event that subscribers are sent if it matches.
#[derive(Debug)]
pub(super) struct Served {
    /// Without content and tags, which are in the other fields.
    pub(super) event: Event,
    /// The event as it is sent.
    pub(super) json: String,
    /// The batch it was stored in.
    batch: u64,
    /// The values of its tags of one letter. `Filter::match_event` would gather them for each filter again.
    tags: BTreeMap<SingleLetterTag, BTreeSet<String>>,
}

impl Served {
    pub(super) fn new(mut event: Event, batch: u64) -> Self {
        let mut tags: BTreeMap<SingleLetterTag, BTreeSet<String>> = BTreeMap::new();
        for tag in event.tags.iter() {
            if let (Some(name), Some(value)) = (tag.single_letter_tag(), tag.content()) {
                tags.entry(name).or_default().insert(value.to_owned());
            }
        }
        let json = json_of(&event);
        event.content = String::new();
        event.tags = Tags::new();
        Self {
            event,
            json,
            batch,
            tags,
        }
    }

    /// How much it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let values = self.tags.values().flatten();
        let of_values: usize = values.map(|value| value.len() + VALUE_BYTES).sum();
        size_of::<Self>() + self.json.len() + of_values
    }

    fn matches(&self, filter: &Filter) -> bool {
        let tags_match = |(name, wanted)| self.tags.get(name).is_some_and(|values| !values.is_disjoint(wanted));
        filter.match_event(&self.event, MatchEventOptions::new().tags(false))
            && filter.generic_tags.iter().all(tags_match)
    }
}

/// Of a value in a set, in addition to its text.
const VALUE_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct OpenSubscription {
    pub(super) filters: Vec<Filter>,
    /// Events that were sent as stored and may still arrive live.
    pub(super) sent: HashSet<EventId>,
    /// The last batch that was begun when the stored events had been read: later ones were not among them.
    pub(super) last_batch: u64,
    /// What it has of its connection's and its address's share.
    pub(super) _occupied: Option<Occupied>,
}

impl OpenSubscription {
    /// Forgets which events were sent, if all that could be among them were stored and have arrived.
    pub(super) fn forget_sent(&mut self, stored_batches: u64) {
        if stored_batches >= self.last_batch {
            self.sent = HashSet::new();
        }
    }

    /// Whether to send an event that arrives live.
    pub(super) fn takes(&mut self, served: &Served) -> bool {
        if served.batch > self.last_batch {
            self.sent = HashSet::new();
        }
        self.filters.iter().any(|filter| served.matches(filter)) && !self.sent.contains(&served.event.id)
    }
}

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    #[test]
    fn event_is_sent_once_whichever_way_it_comes() {
        let event = EventBuilder::new(Kind::TextNote, "")
            .finalize(&Keys::generate())
            .unwrap();
        let served = |batch| Served::new(event.clone(), batch);
        let open = |kind, sent: &[EventId]| OpenSubscription {
            filters: vec![Filter::new().kind(kind)],
            sent: sent.iter().copied().collect(),
            last_batch: 7,
            _occupied: None,
        };
        let mut stored = open(Kind::TextNote, &[event.id]);
        let mut not_yet = open(Kind::TextNote, &[]);
        let mut other = open(Kind::Reaction, &[]);

        let mut all = [&mut stored, &mut not_yet, &mut other];
        assert_eq!(all.each_mut().map(|one| one.takes(&served(7))), [false, true, false]);
        assert!(stored.takes(&served(8)));

        let mut quiet = open(Kind::TextNote, &[event.id]);
        quiet.forget_sent(6);
        assert!(!quiet.takes(&served(7)));
        // Without any event since then.
        quiet.forget_sent(7);
        assert_eq!(quiet.sent.capacity(), 0);
    }

    /// Each filter with tags gathered all values of an event's 2,000 tags.
    #[test]
    fn filters_with_tags_match_as_nostr_says() {
        let event = EventBuilder::new(Kind::TextNote, "")
            .tags([["t", "x"], ["t", "y"], ["p", "z"], ["title", "t"]].map(|tag| Tag::parse(tag).unwrap()))
            .finalize(&Keys::generate())
            .unwrap();
        let served = Served::new(event.clone(), 1);
        let (t, p) = (SingleLetterTag::LOWERCASE_T, SingleLetterTag::LOWERCASE_P);

        let rows = [
            (Filter::new().custom_tag(t, "x"), true),
            (Filter::new().custom_tags(t, ["a", "b", "c", "y"]), true),
            (Filter::new().custom_tags(t, ["a", "b", "c"]), false),
            (Filter::new().custom_tag(t, "z"), false),
            (Filter::new().custom_tag(t, "y").custom_tag(p, "z"), true),
            (Filter::new().custom_tag(t, "y").custom_tag(p, "x"), false),
            (Filter::new().custom_tag(t, "y").kind(Kind::Reaction), false),
        ];
        for (filter, matches) in rows {
            assert_eq!(served.matches(&filter), matches, "{filter:?}");
            assert_eq!(
                filter.match_event(&event, MatchEventOptions::new()),
                matches,
                "{filter:?}"
            );
        }
    }
}
