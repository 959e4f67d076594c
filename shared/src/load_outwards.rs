//! Reads announcements and states outwards from repositories, by their authors: nothing that strangers have stored
//! under the same identifier decides whether it can be read (docs/ARCHITECTURE.md rule 9).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::filter::Filter;
use nostr::key::PublicKey;

use crate::nip34;
use crate::nip34::PullRequest;
use crate::nip34::Roles;
use crate::purgatory::Reading;
use crate::relay_client::RelayClient;
use crate::relay_client::RelayError;

/// Where reading begins, and what is known before.
pub(crate) struct Start<'r> {
    /// What is read of each author.
    pub(crate) filter: Filter,
    /// How many identifiers that is about.
    pub(crate) identifiers: usize,
    /// The authors with whom it begins.
    pub(crate) owners: BTreeSet<PublicKey>,
    /// What the purgatory holds.
    pub(crate) reading: &'r Reading,
}

/// Returns the authors of events, and the owners of the repositories that PRs among them are offered to.
pub(crate) fn authors_of<'e>(events: impl IntoIterator<Item = &'e Event>) -> BTreeSet<PublicKey> {
    let mut authors = BTreeSet::new();
    for event in events {
        match event.kind.as_u16() {
            nip34::PULL_REQUEST | nip34::PULL_REQUEST_UPDATE => {
                let coordinates = PullRequest::parse(event).map(|pull_request| pull_request.coordinates);
                authors.extend(coordinates.into_iter().flatten().map(|offered| offered.owner));
            }
            _ => drop(authors.insert(event.pubkey)),
        }
    }
    authors
}

/// Returns the authors of held announcements that list one of these keys.
pub(crate) fn listing(keys: &BTreeSet<PublicKey>, reading: &Reading) -> BTreeSet<PublicKey> {
    let held = reading.entries.iter().map(|entry| &entry.event);
    let lists = |event: &&Event| listed_by(event).iter().any(|listed| keys.contains(listed));
    held.filter(lists).map(|event| event.pubkey).collect()
}

/// Reads what the owners have published, then what those have whom their announcements list, served or held, and so on.
///
/// # Errors
/// The relay did not answer in full.
pub(crate) async fn read(relay: &RelayClient, start: Start<'_>) -> Result<Vec<Event>, RelayError> {
    let mut held: BTreeMap<PublicKey, Vec<PublicKey>> = BTreeMap::new();
    for event in start.reading.entries.iter().map(|entry| &entry.event) {
        held.entry(event.pubkey).or_default().extend(listed_by(event));
    }
    let mut served = Vec::new();
    let mut seen = start.owners.clone();
    let mut next: Vec<PublicKey> = start.owners.into_iter().collect();
    for _ in 0..ROUNDS_MAX {
        if next.is_empty() {
            break;
        }
        // One announcement and one state of each: the relay keeps only the newest of an address.
        let events = relay
            .query_authors(start.filter.clone(), &next, 2 * start.identifiers)
            .await?;
        let listed = next.iter().filter_map(|author| held.remove(author));
        let listed: Vec<Vec<PublicKey>> = listed
            .chain(events.iter().map(|event| listed_by(event).into_iter().collect()))
            .collect();
        served.extend(events);
        next = in_turns(&listed, &mut seen);
    }
    Ok(served)
}

/// Takes those not seen yet, the first of each list, then the second of each: nobody's long list keeps another's out.
fn in_turns(lists: &[Vec<PublicKey>], seen: &mut BTreeSet<PublicKey>) -> Vec<PublicKey> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or_default();
    let in_turns = (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn)));
    let mut found = Vec::new();
    for key in in_turns {
        if seen.len() >= AUTHORS_MAX {
            break;
        }
        if seen.insert(*key) {
            found.push(*key);
        }
    }
    found
}

fn listed_by(event: &Event) -> BTreeSet<PublicKey> {
    match event.kind.as_u16() {
        nip34::ANNOUNCEMENT => Roles::of(event).listed,
        _ => BTreeSet::new(),
    }
}

/// How many times whoever is listed lists others: no honest set of maintainers is deeper.
const ROUNDS_MAX: usize = 16;

/// Most authors read: as many as may hold something under an identifier, each with some maintainers.
const AUTHORS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::pubkey;

    #[test]
    fn nobodys_long_list_keeps_another_out() {
        let (long, short) = ((1..9).map(pubkey).collect(), vec![pubkey(9), pubkey(1)]);
        let mut seen = BTreeSet::from([pubkey(2)]);

        let found = in_turns(&[long, short], &mut seen);

        assert_eq!(found[..3], [pubkey(1), pubkey(9), pubkey(3)]);
        assert!(in_turns(&[found], &mut seen).is_empty());
    }
}
