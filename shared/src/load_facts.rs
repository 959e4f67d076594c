//! Reads the facts that decisions are made on: the purgatory first, the relay after it, because events move from the
//! one into the other (docs/ARCHITECTURE.md rule 9). About an event that arrives, for whose answer a relay waits, both
//! are read at once, and the relay again if anything has left the purgatory meanwhile.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::key::PublicKey;

pub use crate::facts_scope::FactsScope;
pub use crate::facts_scope::Reach;
use crate::load_outwards::Outwards;
use crate::load_outwards::ROUNDS_MAX;
use crate::nip01::memory_bytes;
use crate::nip34;
use crate::nip34::Coordinate;
use crate::nip34::Identifier;
use crate::options::access_files::AccessFiles;
use crate::purgatory::DirtyNumber;
use crate::purgatory::Purgatory;
use crate::purgatory::PurgatoryError;
use crate::purgatory::Reading;
use crate::relay_client::RelayClient;
use crate::relay_client::RelayError;
use crate::request_filters::NEWEST_BYTES_MAX;
use crate::request_filters::deletions;
use crate::request_filters::deletions_of_long_addresses;
use crate::request_filters::deletions_together;
use crate::request_filters::vanished;
use crate::request_filters::vanished_together;
use crate::rules::Covered;
use crate::rules::Facts;
use crate::rules::MaintainerMode;
use crate::rules::Service;

/// Loads facts from the purgatory and the relay.
#[derive(Clone)]
pub struct FactLoader {
    /// The purgatory, read first.
    pub purgatory: Purgatory,
    /// The relay, read second.
    pub relay: RelayClient,
    /// This server.
    pub service: Service,
    /// The rule by which maintainers are resolved.
    pub mode: MaintainerMode,
    /// Whose repositories the operator hosts.
    pub access: AccessFiles,
}

/// Why facts could not be loaded. Nothing may be decided then.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The purgatory did not answer.
    #[error("cannot read the purgatory")]
    Purgatory(#[from] PurgatoryError),
    /// The relay did not answer, or not completely.
    #[error("cannot read the relay")]
    Relay(#[from] RelayError),
    /// There is more than may be loaded.
    #[error("the events about the repository and its maintainers take more memory than they may, {bytes_max} bytes")]
    TooLarge {
        /// How many bytes of memory they may take.
        bytes_max: usize,
    },
    /// A maintainer's events cannot be read, whatever is left out.
    #[error("the events of a maintainer of the repository are too many to be read")]
    MemberUnread,
    /// It is decided on what replaces it.
    #[error("a state was replaced while the facts were read")]
    Replaced,
    /// Others have used all slots for loads for as long as somebody may wait.
    #[error("too many repositories are being looked up, try again later")]
    Busy,
}

impl FactsError {
    /// Whether Redis or the relay is down: other facts cannot be read now either.
    pub fn is_of_a_neighbour(&self) -> bool {
        match self {
            Self::Purgatory(_) | Self::Replaced | Self::Busy => true,
            Self::Relay(error) => error.is_passing(),
            Self::TooLarge { .. } | Self::MemberUnread => false,
        }
    }

    /// Whether there is more than was to be read.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Relay(RelayError::TooLarge { .. }))
    }
}

impl FactLoader {
    /// Loads the facts about `scope`, and the dirty numbers of its coordinates.
    ///
    /// # Errors
    /// See [`FactsError`]; there are no partial facts.
    pub async fn load(&self, scope: &FactsScope) -> Result<(Facts, BTreeMap<Coordinate, DirtyNumber>), FactsError> {
        match self.load_within(WHOLE_BYTES_MAX, scope).await {
            Err(error) if error.is_too_large() => self.load_in_parts(scope).await,
            loaded => loaded,
        }
    }

    /// Loads the same, unless all events together take more than about so many bytes of memory.
    ///
    /// # Errors
    /// See [`FactsError`]; there are no partial facts.
    pub async fn load_within(
        &self,
        bytes_max: usize,
        scope: &FactsScope,
    ) -> Result<(Facts, BTreeMap<Coordinate, DirtyNumber>), FactsError> {
        let (facts, dirty, _) = self.load_outwards(Some(bytes_max), scope).await?;
        Ok((facts, dirty))
    }

    /// Returns about how many bytes of memory the events take that [`FactLoader::load_within`] loads.
    ///
    /// # Errors
    /// See [`FactsError`].
    pub async fn bytes_within(&self, bytes_max: usize, scope: &FactsScope) -> Result<usize, FactsError> {
        let (.., bytes) = self.load_outwards(Some(bytes_max), scope).await?;
        Ok(bytes)
    }

    /// Loads what is known of an event that arrives, and of no other: whether it is being released, or deleted.
    ///
    /// # Errors
    /// See [`FactsError`].
    pub async fn load_arriving(&self, scope: &FactsScope, arriving: &Event) -> Result<Facts, FactsError> {
        let alone = FactsScope {
            pull_request_ids: [arriving.id].into(),
            ..scope.clone()
        };
        let nothing = BTreeSet::new();
        let (reading, served) = self.read_at_once(WHOLE_BYTES_MAX, (&alone, arriving), &nothing).await?;
        let (service, access) = (self.service.clone(), self.access.current());
        Ok(Facts::assemble(
            service,
            self.mode,
            access,
            Covered::default(),
            reading,
            served,
        ))
    }

    /// Loads facts round by round, and returns about how many bytes the events take; `bytes_max`: `None` is in parts.
    pub(crate) async fn load_outwards(
        &self,
        bytes_max: Option<usize>,
        scope: &FactsScope,
    ) -> Result<(Facts, BTreeMap<Coordinate, DirtyNumber>, usize), FactsError> {
        let (is_in_parts, bytes_max) = (bytes_max.is_none(), bytes_max.unwrap_or(usize::MAX));
        tracing::debug!(coordinates = scope.coordinates.len(), is_in_parts, "load facts");
        let mut next = scope.coordinates.clone();
        if let Reach::Listing { most } = scope.reach {
            next.extend(self.listing(&scope.coordinates, most).await?);
        }
        let mut found = Outwards::from(&next);
        let mut left = bytes_max;
        for round in 0..ROUNDS_MAX {
            if next.is_empty() {
                break;
            }
            if next.len() > bytes_max / AUTHOR_BYTES {
                return Err(FactsError::TooLarge { bytes_max });
            }
            // PRs are read once: none of them leads anywhere.
            let of_round = if round == 0 { scope } else { &FactsScope::default() };
            let (reading, served) = match &of_round.arriving {
                _ if is_in_parts => self.read_in_parts(of_round, scope, &next, &mut found.left_out).await?,
                Some(arriving) => self.read_at_once(left, (of_round, arriving), &next).await?,
                None => self.read_in_turn(left, of_round, &next).await?,
            };
            // However many rounds there are, and however little each of them reads.
            left = (left.checked_sub(taken(&reading, &served))).ok_or(FactsError::TooLarge { bytes_max })?;
            next = found.add(next, reading, served);
        }
        if found.lacks_a_member(scope) {
            return Err(FactsError::MemberUnread);
        }
        let covered = found.covered(scope);
        let (mut reading, served) = (found.reading, found.served);
        let mut dirty = std::mem::take(&mut reading.dirty);
        dirty.retain(|coordinate, _| scope.coordinates.contains(coordinate));
        let (service, access) = (self.service.clone(), self.access.current());
        let facts = Facts::assemble(service, self.mode, access, covered, reading, served);
        Ok((facts, dirty, bytes_max - left))
    }

    /// Returns the repositories that list the owner of one of these, those that list one of theirs, and so on.
    async fn listing(
        &self,
        coordinates: &BTreeSet<Coordinate>,
        most: usize,
    ) -> Result<BTreeSet<Coordinate>, PurgatoryError> {
        let access = self.access.current();
        let (mut listing, mut next) = (BTreeSet::new(), coordinates.clone());
        for _ in 0..ROUNDS_MAX {
            if next.is_empty() || listing.len() >= most {
                break;
            }
            next = self.purgatory.listing(&next, most - listing.len()).await?;
            next.retain(|found| !access.denies_author(&found.owner) && listing.insert(found.clone()));
        }
        Ok(listing)
    }

    async fn read_in_turn(
        &self,
        bytes_max: usize,
        scope: &FactsScope,
        coordinates: &BTreeSet<Coordinate>,
    ) -> Result<(Reading, Vec<Event>), FactsError> {
        let ids = &scope.pull_request_ids;
        let reading = self.purgatory.read_within(bytes_max, coordinates, ids).await?;
        let reading = reading.ok_or(FactsError::TooLarge { bytes_max })?;
        let rest = bytes_max.saturating_sub(taken(&reading, &[]));
        let served = self.served(rest, scope, coordinates, &reading).await?;
        Ok((reading, served))
    }

    /// Reads the same for an event that arrives. What has left the purgatory before it was read, and reached the relay
    /// after that was read, would be missed in both: not if nothing has left since an answer that was here before both
    /// were asked.
    async fn read_at_once(
        &self,
        bytes_max: usize,
        (scope, arriving): (&FactsScope, &Event),
        coordinates: &BTreeSet<Coordinate>,
    ) -> Result<(Reading, Vec<Event>), FactsError> {
        let last_lease = self.purgatory.last_lease_read();
        let mut authors: BTreeSet<PublicKey> = coordinates.iter().map(|coordinate| coordinate.owner).collect();
        authors.insert(arriving.pubkey);
        let requests = of_kinds([nip34::DELETION, nip34::VANISH]).authors(authors.iter().copied());
        let filters = git_events(coordinates).into_iter();
        let filters = filters.chain(pull_requests(&scope.pull_request_ids)).collect();
        let (reading, served) = tokio::try_join!(
            async {
                let read = self
                    .purgatory
                    .read_within(bytes_max, coordinates, &scope.pull_request_ids);
                read.await?.ok_or(FactsError::TooLarge { bytes_max })
            },
            async { Ok(self.relay.query_with(filters, requests, FEW).await?) },
        )?;
        if let Some(mut served) = served {
            if is_releasing(&reading, arriving) {
                // It has its pass, unless its author has deleted it: nothing else counts.
                served.retain(|event| matches!(event.kind.as_u16(), nip34::DELETION | nip34::VANISH));
                return Ok((reading, served));
            }
            let is_same = last_lease == reading.last_lease && !last_lease.is_empty();
            let held = reading.entries.iter().map(|entry| entry.event.as_ref());
            if is_same && held.chain(&served).all(|event| authors.contains(&event.pubkey)) {
                return Ok((reading, served));
            }
        }
        let rest = bytes_max.saturating_sub(taken(&reading, &[]));
        let served = self.served(rest, scope, coordinates, &reading).await?;
        Ok((reading, served))
    }

    /// Reads the relay's events about coordinates, and about the purgatory's events for them.
    pub(crate) async fn served(
        &self,
        bytes_max: usize,
        scope: &FactsScope,
        coordinates: &BTreeSet<Coordinate>,
        reading: &Reading,
    ) -> Result<Vec<Event>, FactsError> {
        let held = reading.entries.iter().map(|entry| entry.event.as_ref());
        let (filters, unserved): (Vec<Filter>, Vec<&Event>) =
            match (scope.arriving.as_ref()).filter(|event| is_releasing(reading, event)) {
                // It has its pass, unless its author has deleted it: nothing else is asked (docs/ARCHITECTURE.md, rule
                // 3).
                Some(releasing) => (Vec::new(), vec![releasing]),
                None => {
                    let awaited = pull_requests(&scope.pull_request_ids);
                    let filters = git_events(coordinates).into_iter().chain(awaited);
                    (filters.collect(), held.chain(&scope.arriving).collect())
                }
            };
        let mut authors: BTreeSet<PublicKey> = unserved.iter().map(|event| event.pubkey).collect();
        if !filters.is_empty() {
            authors.extend(coordinates.iter().map(|coordinate| coordinate.owner));
        }
        let (entries, asked) = (reading.entries.len(), filters.len());
        tracing::debug!(
            pull_requests = scope.pull_request_ids.len(),
            entries,
            asked,
            "query the relay for facts"
        );
        let few_bytes_max = bytes_max / FEW_SHARE;
        let (mut served, few) = tokio::try_join!(
            self.relay.query_within(bytes_max - few_bytes_max, filters),
            self.few_requests(few_bytes_max, &unserved, &authors),
        )?;
        let rest = left(bytes_max, &served);
        let requested = self.requests(few, rest, &unserved, &authors).await?;
        // Of PRs that are served already only their ids were known.
        let others = served.iter().map(|event| event.pubkey);
        let others: BTreeSet<PublicKey> = others.filter(|author| !authors.contains(author)).collect();
        served.extend(requested);
        if !others.is_empty() {
            let rest = left(bytes_max, &served);
            let few = self.few_requests(rest, &[], &others).await?;
            served.extend(self.requests(few, rest, &[], &others).await?);
        }
        Ok(served)
    }

    /// Reads the requests to delete these events, and the requests to vanish of these authors, with a few filters that
    /// match all of them: there are next to never any. `None`: there are more than a few.
    async fn few_requests(
        &self,
        bytes_max: usize,
        events: &[&Event],
        authors: &BTreeSet<PublicKey>,
    ) -> Result<Option<Vec<Event>>, RelayError> {
        let together = deletions_together(events).chain(vanished_together(authors));
        let together = together.map(|filter| filter.limit(FEW)).collect();
        self.relay.fewer_than(bytes_max, FEW, together).await
    }

    /// Returns the `few` that these are, or reads the same however many there are. Each event and each author has
    /// filters of its own then, which no others can fill: hundreds, if an announcement lists 200 keys.
    async fn requests(
        &self,
        few: Option<Vec<Event>>,
        bytes_max: usize,
        events: &[&Event],
        authors: &BTreeSet<PublicKey>,
    ) -> Result<Vec<Event>, RelayError> {
        if let Some(few) = few {
            return Ok(few);
        }
        let each = deletions(events).into_iter().chain(vanished(authors)).collect();
        let bytes_max = bytes_max.min(REQUESTS_BYTES_MAX);
        let mut requests = self.relay.newest(bytes_max, each).await?;
        for newest in deletions_of_long_addresses(events) {
            let rest = left(bytes_max, &requests);
            let (newest, are_all) = self.relay.newest_cut(rest.min(NEWEST_BYTES_MAX), newest).await?;
            if !are_all && rest < NEWEST_BYTES_MAX {
                return Err(RelayError::TooLarge { bytes_max });
            }
            requests.extend(newest);
        }
        Ok(requests)
    }

    /// Whether the author of an event has asked this server to forget what was made up to a time (NIP-62) that is not
    /// before the event's.
    pub async fn has_vanished(&self, event: &Event) -> Result<bool, FactsError> {
        let later = |filter: Filter| filter.since(event.created_at);
        let requests = vanished(&[event.pubkey].into()).map(later).collect();
        let requests = self.relay.newest(REQUESTS_BYTES_MAX, requests).await?;
        Ok(requests.iter().any(|request| self.service.is_asked_to_forget(request)))
    }
}

/// Returns how much memory is left when events take some of it.
fn left(bytes_max: usize, events: &[Event]) -> usize {
    bytes_max.saturating_sub(events.iter().map(memory_bytes).sum())
}

/// Returns about how much memory events take.
fn taken(reading: &Reading, served: &[Event]) -> usize {
    let held = reading.entries.iter().map(|entry| entry.event.as_ref());
    held.chain(served).map(memory_bytes).sum()
}

/// Whether the purgatory is releasing an event.
fn is_releasing(reading: &Reading, event: &Event) -> bool {
    let mut entries = reading.entries.iter();
    entries.any(|entry| entry.event.id == event.id && entry.status.counts_as_served())
}

/// Returns filters for the announcements and states of these coordinates: by author, so that nothing that others have
/// stored under the same identifier is read, and of so few at a time that they cannot fill a page.
fn git_events(coordinates: &BTreeSet<Coordinate>) -> Vec<Filter> {
    let mut owners: BTreeMap<&Identifier, Vec<PublicKey>> = BTreeMap::new();
    for coordinate in coordinates {
        owners.entry(&coordinate.identifier).or_default().push(coordinate.owner);
    }
    let filters = owners.iter().flat_map(|(identifier, owners)| {
        let git_events = of_kinds([nip34::ANNOUNCEMENT, nip34::STATE]).identifier(identifier.as_str());
        let chunks = owners.chunks(OWNERS_PER_FILTER_MAX);
        chunks.map(move |owners| git_events.clone().authors(owners.iter().copied()))
    });
    filters.collect()
}

fn of_kinds<const N: usize>(kinds: [u16; N]) -> Filter {
    Filter::new().kinds(kinds.map(Kind::from_u16))
}

fn pull_requests(ids: &BTreeSet<EventId>) -> Vec<Filter> {
    let ids: Vec<EventId> = ids.iter().copied().collect();
    let chunks = ids.chunks(PULL_REQUESTS_PER_FILTER_MAX);
    chunks
        .map(|ids| of_kinds(nip34::PULL_REQUESTS).ids(ids.iter().copied()))
        .collect()
}

/// What a load takes that is not read in parts: thirty small repositories fit, or two with thousands of refs.
pub const WHOLE_BYTES_MAX: usize = 2 << 20;

/// What an author's announcement and state are expected to take: as much as a state with 150 refs.
const AUTHOR_BYTES: usize = 32 << 10;

/// Owners in one filter, each with one announcement and one state of an identifier: no page of a relay is that small,
/// and the largest such events that are accepted fit the memory of an answer.
const OWNERS_PER_FILTER_MAX: usize = 12;

/// Requests to delete and to vanish that are read together.
const FEW: usize = 20;

/// One part in so many of the memory of a load is for these: they are read at the same time as what they are about.
const FEW_SHARE: usize = 8;

/// Most memory of the requests to delete and to vanish of a repository's members, which are read for each decision.
const REQUESTS_BYTES_MAX: usize = 64 << 20;

/// PRs in one filter: the largest fit into an answer.
const PULL_REQUESTS_PER_FILTER_MAX: usize = 25;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;
    use crate::decision_counts::DecisionCounts;
    use crate::options::access_files::AccessPaths;
    use crate::purgatory::Hold;
    use crate::purgatory::HoldOutcome;
    use crate::purgatory::Limits;
    use crate::purgatory::Release;
    use crate::purgatory::Room;
    use crate::refusal_log::RefusalLog;
    use crate::relay_client::tests::relay;
    use crate::relay_client::tests::relay_waited_for;
    use crate::relay_client::tests::stored;
    use crate::request_filters::tests::match_any;
    use crate::rules::EventStatus;
    use crate::rules::OtherKinds;
    use crate::rules::tests::announcement_event;
    use crate::rules::tests::coordinate;
    use crate::rules::tests::pubkey;
    use crate::rules::tests::state_event;
    use crate::too_large::TooLarge;
    use crate::write_policy::Answer;
    use crate::write_policy::HELD_MESSAGE;
    use crate::write_policy::RecentlyAccepted;
    use crate::write_policy::WritePolicy;

    #[tokio::test]
    async fn facts_of_many_authors_or_of_many_bytes_are_not_loaded_within_few() {
        let relay = relay(500, |_, message| match message[0] == "REQ" {
            true => stored(&[], 500, message),
            false => Vec::new(),
        })
        .await;
        let loader = loader(relay);
        let listed: Vec<String> = (2..10).map(|owner| pubkey(owner).to_hex()).collect();
        let tag: Vec<&str> = ["maintainers"]
            .into_iter()
            .chain(listed.iter().map(String::as_str))
            .collect();
        let many = announcement_event(1, "many", 1, &[&tag]);
        let large = announcement_event(1, "large", 1, &[&["description", &"x".repeat(200_000)]]);
        for (event, identifier, is_loaded_within) in [
            (many, "many", [false, true]),
            (large, "large", [false, true]),
            (announcement_event(1, "small", 1, &[]), "small", [true, true]),
        ] {
            let hold = held(&event, coordinate(1, identifier));
            assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
            let scope = FactsScope::of(&coordinate(1, identifier));
            for (bytes_max, is_loaded) in [100_000, 10_000_000].into_iter().zip(is_loaded_within) {
                let loaded = loader.load_within(bytes_max, &scope).await;

                let is_too_large = loaded.as_ref().is_err_and(FactsError::is_too_large);
                assert_eq!((loaded.is_ok(), is_too_large), (is_loaded, !is_loaded), "{identifier}");
            }
        }
    }

    /// A relay that serves these events.
    async fn serving(events: Vec<Event>) -> RelayClient {
        serving_counted(events).await.0
    }

    /// The same, and how many requests it had.
    async fn serving_counted(events: Vec<Event>) -> (RelayClient, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&requests);
        // It takes its time for the largest events.
        let client = relay_waited_for(Duration::from_secs(60), 500, move |_, message| {
            if message[0] != "REQ" {
                return Vec::new();
            }
            asked.fetch_add(1, Ordering::SeqCst);
            let filters = &message.as_array().unwrap()[2..];
            let limit = filters.iter().filter_map(|filter| filter["limit"].as_u64()).max();
            let asked: Vec<Filter> = filters
                .iter()
                .map(|filter| serde_json::from_value(filter.clone()).unwrap())
                .collect();
            let matching = events.iter().filter(|event| match_any(&asked, event));
            let found: Vec<Event> = matching.cloned().collect();
            stored(&found, 500, &serde_json::json!(["REQ", message[1], {"limit": limit}]))
        })
        .await;
        (client, requests)
    }

    #[tokio::test]
    async fn what_a_chain_of_announcements_takes_counts_as_one() {
        let long = "x".repeat(30_000);
        let chain = (1..12).map(|owner| {
            let next = pubkey(owner + 1).to_hex();
            announcement_event(owner, "r", 1, &[&["description", &long], &["maintainers", &next]])
        });
        let loader = loader(serving(chain.collect()).await);
        let scope = FactsScope::of(&coordinate(1, "r"));

        let [small, large] = [200_000, 400_000].map(|bytes_max| loader.load_within(bytes_max, &scope));
        let (small, large) = (small.await, large.await);

        assert!(small.is_err_and(|error| error.is_too_large()));
        assert!(large.is_ok(), "{:?}", large.err());
    }

    #[tokio::test]
    async fn what_a_decision_reads_of_deletions_counts_too() {
        let owner = Keys::generate();
        let long = "n".repeat(200);
        let own = |kind, tags: &[[&str; 2]]| {
            let tags = tags.iter().map(|tag| Tag::parse(*tag).unwrap());
            EventBuilder::new(Kind::from_u16(kind), "")
                .tags(tags)
                .finalize(&owner)
                .unwrap()
        };
        let announced = own(nip34::ANNOUNCEMENT, &[["d", &long]]);
        let padding = "x".repeat(10_000);
        let deletion = |number: u32| own(nip34::DELETION, &[["pad", &padding], ["n", &number.to_string()]]);
        let (relay, requests) = serving_counted((0..10).map(deletion).collect()).await;
        let loader = loader(relay);
        let at = Coordinate {
            owner: owner.public_key(),
            identifier: long.parse().unwrap(),
        };
        let hold = held(&announced, at.clone());
        assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        let scope = FactsScope::of(&at);

        let mut asked = 0;
        for (bytes_max, requests_made) in [
            (90_000, None),
            // They are too many to be read beside the events: one after the other.
            (200_000, Some(4)),
            (1_000_000, Some(2)),
        ] {
            let loaded = loader.load_within(bytes_max, &scope).await;

            let before = std::mem::replace(&mut asked, requests.load(Ordering::SeqCst));
            let is_too_large = loaded.as_ref().is_err_and(FactsError::is_too_large);
            assert_eq!(is_too_large, requests_made.is_none(), "{bytes_max}");
            let made = loaded.is_ok().then(|| asked - before);
            assert_eq!(made, requests_made, "{bytes_max}");
        }
    }

    /// An announcement and a state under `r`, each as large as any that is accepted.
    fn largest(owner: u8) -> [Event; 2] {
        let (long, victim) = ("x".repeat(180_000), pubkey(1).to_hex());
        let (short, last) = (["t", "", "", ""], ["t", "", "", &long]);
        let padding: Vec<&[&str]> = std::iter::repeat_n(&short[..], 4_990).chain([&last[..]]).collect();
        let listed = ["maintainers", &victim];
        let listing = [&[&listed[..]], padding.as_slice()].concat();
        let declaring = [&[&["d", "r"][..]], padding.as_slice()].concat();
        let state = crate::rules::tests::event(owner, nip34::STATE, 1, &declaring);
        [announcement_event(owner, "r", 1, &listing), state]
    }

    #[tokio::test]
    async fn the_largest_events_of_strangers_keep_nobodys_own_from_being_read() {
        let strangers = 2..16;
        let own = announcement_event(1, "r", 1, &[]);
        let events: Vec<Event> = strangers.flat_map(largest).chain([own.clone()]).collect();
        let all: usize = events.iter().map(memory_bytes).sum();
        assert!(all > 32 << 20, "{all}: it is more than one answer may take");
        let count = events.len();
        let loader = loader(serving(events).await);
        let scope = FactsScope {
            coordinates: (1..16).map(|owner| coordinate(owner, "r")).collect(),
            arriving: Some(state_event(1, "r", 2, &[])),
            ..FactsScope::default()
        };

        let loaded = loader.load(&scope).await;
        let together = Filter::new().authors((1..16).map(pubkey));
        let queried = loader.relay.query(vec![together.clone()]).await;
        let within = loader.relay.query_within(all / 2, vec![together]).await;

        assert_eq!(loaded.unwrap().0.status(&own.id), Some(EventStatus::Served));
        assert_eq!(queried.unwrap().len(), count);
        assert!(matches!(within, Err(RelayError::TooLarge { .. })), "{within:?}");
    }

    /// Their announcements are too many to be read for an answer; that they list the author is known without.
    #[tokio::test]
    async fn a_maintainer_whom_the_largest_announcements_list_is_answered() {
        let loader = loader(serving(Vec::new()).await);
        for owner in 2..9 {
            let [announcement, _] = largest(owner);
            let hold = held(&announcement, coordinate(owner, "r"));
            assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        }
        let policy = policy(loader);

        let listed = policy.answer(&state_event(1, "r", 2, &[]), "IP4 192.0.2.1").await;
        let other = policy.answer(&state_event(9, "r", 2, &[]), "IP4 192.0.2.1").await;

        assert_eq!(listed, Answer::Hold(HELD_MESSAGE.into()));
        assert!(matches!(other, Answer::Refuse(_)), "{other:?}");
        let asked: BTreeSet<Coordinate> = (1..9).map(|owner| coordinate(owner, "r")).collect();
        let all = policy.loader.purgatory.read(&asked).await.unwrap();
        let all: usize = all.entries.iter().map(|entry| memory_bytes(&entry.event)).sum();
        assert!(all > WHOLE_BYTES_MAX, "{all}");
    }

    fn policy(loader: FactLoader) -> WritePolicy {
        WritePolicy {
            refusals: RefusalLog::new(loader.purgatory.clone()),
            decisions: DecisionCounts::begin(loader.purgatory.clone()),
            loader,
            other_kinds: OtherKinds::Accept,
            answer_timeout: Duration::from_secs(60),
            recently_accepted: RecentlyAccepted::default(),
            too_large: TooLarge::default(),
        }
    }

    /// A PR to a large repository and ever another one was decided each time on all that there is.
    #[tokio::test]
    async fn what_is_too_large_is_known_whatever_else_an_event_names() {
        let (relay, requests) = serving_counted(Vec::new()).await;
        let loader = loader(relay);
        let large = coordinate(1, "r");
        let states: Vec<Event> = (1..20).map(|at| largest_state(1, at)).collect();
        for event in [announcement_event(1, "r", 1, &[])].iter().chain(&states) {
            let hold = held(event, large.clone());
            assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        }
        let policy = policy(loader);
        let answer = async |other: &Coordinate| {
            let (commit, named) = ("1".repeat(40), [&large, other].map(Coordinate::to_string));
            let tags = [["a", &named[0]], ["a", &named[1]], ["c", &commit]];
            let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
            let pull_request = crate::rules::tests::event(9, 1618, 1, &tags);
            let before = requests.load(Ordering::SeqCst);
            let answer = policy.answer(&pull_request, "IP4 192.0.2.1").await;
            assert!(
                matches!(&answer, Answer::Refuse(text) if text.contains("8 MiB")),
                "{answer:?}"
            );
            requests.load(Ordering::SeqCst) - before
        };

        let first = answer(&coordinate(2, "a")).await;
        let second = answer(&coordinate(2, "b")).await;

        assert!(second < first, "{second} of {first}");
        let known = |coordinate: Coordinate| policy.too_large.bytes_of(&[coordinate].into());
        assert_eq!([known(coordinate(2, "a")), known(coordinate(2, "b"))], [0, 0]);
        assert!(known(large) > 8 << 20);
    }

    #[tokio::test]
    async fn what_is_released_passes_however_much_its_author_has_held() {
        let loader = loader(serving(Vec::new()).await);
        let (own, states) = (coordinate(1, "r"), (1..20).map(|at| largest_state(1, at)));
        let states: Vec<Event> = states.collect();
        for event in [announcement_event(1, "r", 1, &[])].iter().chain(&states) {
            let hold = held(event, own.clone());
            assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        }
        let release = Release {
            event: states[3].clone().into(),
            coordinates: [own].into(),
            after: BTreeSet::new(),
        };
        let marked = loader.purgatory.mark_releasing(&[release], 100).await.unwrap();
        assert_eq!(marked.leased.len(), 1);
        let policy = policy(loader);

        for _ in 0..2 {
            let released = policy.answer(&states[3], "IP4 192.0.2.1").await;
            let other = policy.answer(&largest_state(1, 30), "IP4 192.0.2.1").await;

            assert_eq!(released, Answer::Accept);
            assert!(
                matches!(&other, Answer::Refuse(reason) if reason.contains("8 MiB")),
                "{other:?}"
            );
        }
    }

    /// A state of `r` with one branch, of the largest size that is accepted.
    fn largest_state(author: u8, created_at: u64) -> Event {
        let oid = format!("{author:040x}");
        let (declared, padding) = ([["d", "r"], ["refs/heads/main", &oid]], ["t", "", "", ""]);
        let tags = declared.iter().map(<[&str; 2]>::as_slice);
        let tags: Vec<&[&str]> = tags.chain(std::iter::repeat_n(&padding[..], 4_990)).collect();
        crate::rules::tests::event(author, nip34::STATE, created_at, &tags)
    }

    #[tokio::test]
    async fn what_is_too_much_to_be_read_at_once_decides_the_same_and_takes_little() {
        let (own, others) = (coordinate(1, "r"), 2..9);
        let listed: Vec<String> = others.clone().map(|owner| pubkey(owner).to_hex()).collect();
        let lists: Vec<&str> = ["maintainers"]
            .into_iter()
            .chain(listed.iter().map(String::as_str))
            .collect();
        let padded = others
            .clone()
            .flat_map(|owner| [largest(owner)[0].clone(), largest_state(owner, owner.into())]);
        let served: Vec<Event> = padded.chain([announcement_event(1, "r", 1, &[&lists])]).collect();
        let loader = loader(serving(served).await);
        let held = [largest_state(1, 20), largest_state(3, 30), largest_state(4, 3)];
        for event in &held {
            let hold = self::held(
                event,
                Coordinate {
                    owner: event.pubkey,
                    ..own.clone()
                },
            );
            assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        }
        let scope = FactsScope {
            reach: Reach::FULL,
            ..FactsScope::of(&own)
        };

        let (parts, _) = loader.load(&scope).await.unwrap();
        let (whole, _) = loader.load_within(usize::MAX, &scope).await.unwrap();

        assert!(whole.covered.cut.is_empty());
        for at in (1..9).map(|owner| coordinate(owner, "r")) {
            assert_eq!(parts.membership(&at), whole.membership(&at));
            assert_eq!(parts.hosting(&at), whole.hosting(&at));
        }
        assert_eq!(parts.governing_state(&own), whole.governing_state(&own));
        assert_eq!(parts.candidate_states(&own), whole.candidate_states(&own));
        assert!(parts.declares_refs(&own) && parts.candidate_states(&own).len() == 2);
        // Of others it is not decided here.
        assert_eq!(parts.covered.cut.len(), 2 * others.len() + held.len());
        assert!(parts.is_settled(&own) && others.clone().all(|at| !parts.is_settled(&coordinate(at, "r"))));
        let unread = parts.states.iter().filter(|known| known.item.declared.is_err());
        assert_eq!(
            unread.count(),
            7,
            "six served ones, and a held one, that decide nothing"
        );
        let taken = parts
            .entries
            .values()
            .map(|entry| memory_bytes(&entry.event))
            .sum::<usize>();
        assert!(taken < 10_000, "{taken}");
    }

    #[tokio::test]
    async fn tags_of_few_characters_count_with_the_memory_that_they_take() {
        let tags: Vec<Vec<String>> = (0..4_000).map(|_| vec!["t".to_owned()]).collect();
        let tags: Vec<Vec<&str>> = tags
            .iter()
            .map(|tag| tag.iter().map(String::as_str).collect())
            .collect();
        let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
        let event = announcement_event(1, "r", 1, &tags);
        let text = event.as_json().len();
        assert!(memory_bytes(&event) > 10 * text, "{text}");
        let loader = loader(serving(vec![event]).await);

        let loaded = loader.load_within(3 * text, &FactsScope::of(&coordinate(1, "r"))).await;

        assert!(loaded.is_err_and(|error| error.is_too_large()));
    }

    fn loader(relay: RelayClient) -> FactLoader {
        FactLoader {
            purgatory: Purgatory::in_memory(Limits::DEFAULT, Arc::new(|| 1_000)),
            relay,
            service: "svc".parse().unwrap(),
            mode: MaintainerMode::default(),
            access: AccessFiles::open(AccessPaths::default()).unwrap(),
        }
    }

    fn held(event: &Event, coordinate: Coordinate) -> Hold {
        Hold {
            event: event.clone(),
            coordinates: [coordinate].into(),
            source: "IP4 192.0.2.1".to_owned(),
            hold_secs: 100,
            extend: BTreeSet::new(),
            room: Room::WithinLimits,
            is_new_repository: false,
            behind: None,
        }
    }

    #[tokio::test]
    async fn an_event_that_is_releasing_needs_nothing_of_whom_its_announcement_lists() {
        let listed = pubkey(2).to_hex();
        let announced = announcement_event(1, "r", 1, &[&["maintainers", &listed]]);
        let requests = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&requests);
        let relay = relay(500, move |_, message| {
            if message[0] != "REQ" {
                return Vec::new();
            }
            asked.fetch_add(1, Ordering::SeqCst);
            stored(std::slice::from_ref(&announced), 500, message)
        })
        .await;
        let loader = loader(relay);
        let (state, at) = (state_event(1, "r", 2, &[]), coordinate(1, "r"));
        let hold = held(&state, at.clone());
        assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        let release = Release {
            event: state.clone().into(),
            coordinates: [at.clone()].into(),
            after: BTreeSet::new(),
        };
        let marked = loader.purgatory.mark_releasing(&[release], 100).await.unwrap();
        assert_eq!(marked.leased.len(), 1);
        let scope = FactsScope {
            arriving: Some(state.clone()),
            ..FactsScope::of(&at)
        };

        let (facts, _) = loader.load(&scope).await.unwrap();

        assert_eq!(facts.status(&state.id), Some(EventStatus::Releasing));
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_has_left_the_purgatory_while_both_were_read_is_read_from_the_relay_again() {
        let announced = announcement_event(1, "r", 1, &[]);
        let requests = Arc::new(AtomicUsize::new(0));
        // Which of the requests are answered before the announcement is stored.
        let stored_after = Arc::new(AtomicUsize::new(usize::MAX));
        let (asked, is_stored_after, stored_event) =
            (Arc::clone(&requests), Arc::clone(&stored_after), announced.clone());
        let relay = relay(500, move |_, message| {
            if message[0] != "REQ" {
                return Vec::new();
            }
            let is_stored = asked.fetch_add(1, Ordering::SeqCst) >= is_stored_after.load(Ordering::SeqCst);
            stored(&[stored_event.clone()][..usize::from(is_stored)], 500, message)
        })
        .await;
        let loader = loader(relay);
        let at = coordinate(1, "r");
        let hold = held(&announced, at.clone());
        assert_eq!(loader.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        let scope = FactsScope {
            coordinates: [at].into(),
            arriving: Some(state_event(1, "r", 2, &[])),
            ..FactsScope::default()
        };

        loader.load(&scope).await.unwrap();
        let before = requests.load(Ordering::SeqCst);
        let (held, _) = loader.load(&scope).await.unwrap();

        assert_eq!(held.status(&announced.id), Some(EventStatus::Held));
        assert_eq!(requests.load(Ordering::SeqCst), before + 1);

        loader.purgatory.end(&[announced.id].into()).await.unwrap();
        stored_after.store(before + 2, Ordering::SeqCst);
        let (served, _) = loader.load(&scope).await.unwrap();

        assert_eq!(served.status(&announced.id), Some(EventStatus::Served));
    }
}
