//! Filters for the requests of authors to delete (NIP-09) and to vanish (NIP-62): for each event and author its own,
//! which no others can fill, or a few for all.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::filter::SingleLetterTag;
use nostr::key::PublicKey;
use nostr::types::Timestamp;

use crate::nip01::Address;
use crate::nip34;

/// Returns filters for the requests to vanish (NIP-62) of these authors, the newest few of each: a request that names
/// other relays only must not hide an earlier one.
pub(crate) fn vanished(authors: &BTreeSet<PublicKey>) -> impl Iterator<Item = Filter> {
    let requests = vanish_requests().limit(VANISH_REQUESTS_MAX);
    authors.iter().map(move |author| requests.clone().author(*author))
}

/// Returns filters that match all that [`vanished`] does.
pub(crate) fn vanished_together(authors: &BTreeSet<PublicKey>) -> Vec<Filter> {
    let authors: Vec<PublicKey> = authors.iter().copied().collect();
    let chunks = authors.chunks(AUTHORS_TOGETHER_MAX);
    chunks
        .map(|authors| vanish_requests().authors(authors.iter().copied()))
        .collect()
}

/// Returns filters whose every match is a deletion request that covers one of these events, so that one match each is
/// enough. Events of others, or of the author about other events, cannot fill the page.
pub(crate) fn deletions(events: &[&Event]) -> Vec<Filter> {
    let mut filters = Vec::with_capacity(2 * events.len());
    for event in events {
        let own = deletion_requests().author(event.pubkey);
        let by_id = own.clone().custom_tag(SingleLetterTag::LOWERCASE_E, event.id.to_hex());
        filters.push(by_id.limit(1));
        let Some([address, upper]) = Address::of(event).map(|address| address.spellings()) else {
            continue;
        };
        if address.len() <= FILTER_VALUE_BYTES_MAX {
            let own = own.since(event.created_at).limit(1);
            filters.push(own.custom_tags(SingleLetterTag::LOWERCASE_A, [address, upper]));
        }
    }
    filters
}

/// Returns filters for the newest deletion requests of authors whose events have a longer address: strfry neither
/// indexes it nor accepts a filter with it.
pub(crate) fn deletions_of_long_addresses(events: &[&Event]) -> Vec<Filter> {
    let mut since: BTreeMap<PublicKey, Timestamp> = BTreeMap::new();
    for event in events {
        let address = Address::of(event).map(|address| address.spellings());
        if address.is_some_and(|[address, _]| address.len() > FILTER_VALUE_BYTES_MAX) {
            let since = since.entry(event.pubkey).or_insert(event.created_at);
            *since = event.created_at.min(*since);
        }
    }
    let own = deletion_requests().limit(DELETIONS_READ_MAX);
    let of_each = since.into_iter();
    of_each
        .map(|(author, since)| own.clone().author(author).since(since))
        .collect()
}

/// Returns filters that match all that [`deletions`] does.
pub(crate) fn deletions_together(events: &[&Event]) -> impl Iterator<Item = Filter> {
    events.chunks(DELETED_TOGETHER_MAX).flat_map(|events| {
        let authors = events.iter().map(|event| event.pubkey);
        let own = deletion_requests().authors(authors);
        let ids = events.iter().map(|event| event.id.to_hex());
        let by_id = own.clone().custom_tags(SingleLetterTag::LOWERCASE_E, ids);
        let addresses = events.iter().filter_map(|event| Address::of(event));
        let addresses: Vec<String> = addresses.flat_map(|address| address.spellings()).collect();
        let by_address = if addresses.iter().all(|address| address.len() <= FILTER_VALUE_BYTES_MAX) {
            (!addresses.is_empty()).then(|| own.custom_tags(SingleLetterTag::LOWERCASE_A, addresses))
        } else {
            Some(own)
        };
        [by_id].into_iter().chain(by_address)
    })
}

fn deletion_requests() -> Filter {
    Filter::new().kind(Kind::from_u16(nip34::DELETION))
}

fn vanish_requests() -> Filter {
    Filter::new().kind(Kind::from_u16(nip34::VANISH))
}

/// Requests to vanish read of one author.
const VANISH_REQUESTS_MAX: usize = 20;

/// Deletion requests read of one author where a filter cannot name the address, and about how much memory of them: only
/// the author's own newer ones can hide another.
const DELETIONS_READ_MAX: usize = 25;
pub(crate) const NEWEST_BYTES_MAX: usize = 512 << 10;

/// Authors whose requests to vanish are asked for together.
const AUTHORS_TOGETHER_MAX: usize = 100;

/// Events whose deletions are asked for together: a relay looks up each of them by each of their authors.
const DELETED_TOGETHER_MAX: usize = 16;

/// Longest tag value that strfry accepts in a filter (strfry `filters.h`).
pub(crate) const FILTER_VALUE_BYTES_MAX: usize = 255;

#[cfg(test)]
pub(crate) mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::filter::MatchEventOptions;
    use nostr::key::Keys;

    use super::*;

    fn event(author: &Keys, kind: u16, tag: [&str; 2]) -> Event {
        EventBuilder::new(Kind::from_u16(kind), "")
            .tag(Tag::parse(tag).unwrap())
            .finalize(author)
            .unwrap()
    }

    pub(crate) fn match_any(filters: &[Filter], event: &Event) -> bool {
        let matches = |filter: &Filter| filter.match_event(event, MatchEventOptions::new());
        filters.iter().any(matches)
    }

    #[test]
    fn what_is_asked_for_each_is_asked_for_together_with_few_filters() {
        let long = "n".repeat(FILTER_VALUE_BYTES_MAX);
        let (mut events, mut requests, mut authors) = (Vec::new(), Vec::new(), BTreeSet::new());
        for number in 0..3 * DELETED_TOGETHER_MAX {
            let author = Keys::generate();
            let event = match number % 3 {
                0 => event(&author, Kind::TextNote.as_u16(), ["t", "x"]),
                1 => event(&author, nip34::STATE, ["d", "r"]),
                // One chunk has none of these.
                _ => event(
                    &author,
                    nip34::STATE,
                    ["d", if number > DELETED_TOGETHER_MAX { &long } else { "s" }],
                ),
            };
            requests.push(self::event(&author, nip34::DELETION, ["e", &event.id.to_hex()]));
            if let Some(address) = Address::of(&event) {
                let spellings = address.spellings();
                requests.extend(
                    spellings
                        .iter()
                        .map(|a| self::event(&author, nip34::DELETION, ["a", a])),
                );
            }
            requests.push(self::event(&author, nip34::VANISH, ["relay", "ALL_RELAYS"]));
            authors.insert(author.public_key());
            events.push(event);
        }
        let events: Vec<&Event> = events.iter().collect();
        let own = deletions(&events).into_iter().chain(vanished(&authors));
        let each: Vec<Filter> = own.chain(deletions_of_long_addresses(&events)).collect();
        let together: Vec<Filter> = deletions_together(&events).chain(vanished_together(&authors)).collect();

        for request in &requests {
            assert!(match_any(&each, request), "{request:?}");
            assert!(match_any(&together, request), "{request:?}");
        }
        assert_eq!((each.len(), together.len()), (128, 7));
    }
}
