//! Everything known about some coordinates at one moment, assembled from the purgatory and the relay.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::Access;
use super::EventStatus;
use super::Hosting;
use super::MaintainerMode;
use super::Membership;
use super::Service;
use super::Staged;
use super::namesakes::Counted;
use super::namesakes::Namesake;
use super::namesakes::Namesakes;
use super::namesakes::RepositoryIndex;
use super::namesakes::StateIndex;
use super::namesakes::marked;
use crate::git::Oid;
use crate::nip01::DeletionRequests;
use crate::nip01::Revision;
use crate::nip01::is_expired;
use crate::nip34;
use crate::nip34::Announcement;
use crate::nip34::Coordinate;
use crate::nip34::Declared;
use crate::nip34::Defect;
use crate::nip34::Identifier;
use crate::nip34::PullRequest;
use crate::nip34::State;
use crate::purgatory::Entry;
use crate::purgatory::Placeholder;
use crate::purgatory::Reading;

/// A parsed event and its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known<T> {
    /// The event.
    pub item: T,
    /// Its status.
    pub status: EventStatus,
}

/// The coordinates that facts were read about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Covered {
    /// All of them.
    pub coordinates: BTreeSet<Coordinate>,
    /// Those whose owners are listed by others that were not read: nothing that their owners have signed ends by these
    /// facts.
    pub unsettled: BTreeSet<Coordinate>,
    /// Those whose members were not all read: nothing is decided about these repositories.
    pub partial: BTreeSet<Coordinate>,
    /// Events of which a part was left out: of states, the refs. Such coordinates are unsettled unless asked about.
    pub cut: BTreeSet<EventId>,
}

/// Everything known about some coordinates at one moment.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The purgatory's time, unix seconds.
    pub now: u64,
    /// This server.
    pub service: Service,
    /// The rule by which maintainers are resolved.
    pub mode: MaintainerMode,
    /// Whose repositories the operator hosts.
    pub access: Arc<Access>,
    /// The coordinates that were read.
    pub covered: Covered,
    /// Who lists the owners of these coordinates, as far as it is noted in the purgatory.
    pub listed_by: BTreeMap<Coordinate, BTreeSet<PublicKey>>,
    /// How many it is noted that the announcements of these coordinates list.
    pub noted: BTreeMap<Coordinate, usize>,
    /// Announcements of these coordinates.
    pub announcements: Vec<Known<Announcement>>,
    /// States by their owners, with their identifiers, newest first.
    pub states: Vec<Known<State>>,
    /// PRs: those that the facts were asked about, held or served.
    pub pull_requests: Vec<Known<PullRequest>>,
    /// PR commits in these repositories that came before their events.
    pub placeholders: Vec<Placeholder>,
    /// The purgatory's entries as they are, by event id.
    pub entries: BTreeMap<EventId, Entry>,
    /// Entries that a served deletion request of their author covers, and those that waited past their own expiration
    /// (NIP-40). Otherwise they are only in `entries`.
    pub deleted: BTreeSet<EventId>,
    /// The served requests to delete (NIP-09) and to vanish (NIP-62) by the authors of these events.
    pub deletion_requests: DeletionRequests,
    /// The repositories on this server of authors whom the operator's list denies. Their events do not count otherwise.
    pub taken_down: BTreeSet<Coordinate>,
    /// Answers about the announcements that many rules need, computed once.
    index: Index,
}

/// Which announcement counts where, by their places in `Facts::announcements`, and where to find the rest.
#[derive(Debug, Clone, Default)]
struct Index {
    /// The newest that is held or counts as served, by repository.
    current: BTreeMap<Coordinate, usize>,
    /// The newest that counts as served, by repository.
    served: BTreeMap<Coordinate, usize>,
    /// Every one, by repository.
    all: BTreeMap<Coordinate, Vec<usize>>,
    /// The repositories that this server hosts, of those whose members were all read, in order.
    hosted: Vec<Coordinate>,
    /// How it hosts each of them.
    hosting: Vec<Hosting>,
    /// Who belongs to the repositories of each identifier.
    namesakes: BTreeMap<Identifier, Namesakes>,
    /// The status of every well-formed event.
    status: BTreeMap<EventId, EventStatus>,
    /// The places of PRs in `Facts::pull_requests`.
    pull_requests: BTreeMap<EventId, usize>,
}

impl Facts {
    /// Assembles what was read: `reading` first, then `served`, the complete answer of the relay, because events move
    /// in that direction (docs/ARCHITECTURE.md rule 9).
    ///
    /// Malformed events count as absent: no repository could be hosted by them.
    pub fn assemble(
        service: Service,
        mode: MaintainerMode,
        access: Arc<Access>,
        covered: Covered,
        reading: Reading,
        served: Vec<Event>,
    ) -> Self {
        let mut facts = Self {
            now: reading.now,
            service,
            mode,
            access,
            covered,
            listed_by: reading.listed_by,
            noted: reading.noted,
            announcements: Vec::new(),
            states: Vec::new(),
            pull_requests: Vec::new(),
            placeholders: reading.placeholders,
            entries: BTreeMap::new(),
            deleted: BTreeSet::new(),
            deletion_requests: DeletionRequests::default(),
            taken_down: BTreeSet::new(),
            index: Index::default(),
        };
        let (requests, served): (Vec<Event>, Vec<Event>) = served
            .into_iter()
            .partition(|event| matches!(event.kind.as_u16(), nip34::DELETION | nip34::VANISH));
        for request in &requests {
            facts.deletion_requests.note(request);
            if facts.service.is_asked_to_forget(request) {
                facts.deletion_requests.note_vanished(request);
            }
        }
        let served_ids: BTreeSet<EventId> = served.iter().map(|event| event.id).collect();
        for entry in reading.entries {
            // The relay ends events that are being released into it.
            let has_expired =
                !EventStatus::from(entry.status).counts_as_served() && is_expired(&entry.event, facts.now);
            if has_expired || facts.is_deleted(&entry.event) {
                facts.deleted.insert(entry.event.id);
            } else if !served_ids.contains(&entry.event.id) {
                facts.learn(&entry.event, entry.status.into());
            }
            facts.entries.insert(entry.event.id, entry);
        }
        // Relays do not all act on a request to vanish (strfry keeps it as any other event).
        for event in &served {
            if !facts.deletion_requests.have_vanished(event) {
                facts.learn(event, EventStatus::Served);
            }
        }
        // Newest first: a search for the newest of some compares only their positions.
        facts.states.sort_by_key(|known| std::cmp::Reverse(known.item.revision));
        facts.build_index();
        facts
    }

    fn build_index(&mut self) {
        let mut index = Index::default();
        for (place, known) in self.announcements.iter().enumerate() {
            let coordinate = &known.item.coordinate;
            let note = |newest: &mut BTreeMap<Coordinate, usize>| {
                let noted = newest.entry(coordinate.clone()).or_insert(place);
                if self.announcements[*noted].item.revision < known.item.revision {
                    *noted = place;
                }
            };
            index.all.entry(coordinate.clone()).or_default().push(place);
            if known.status != EventStatus::Asleep {
                note(&mut index.current);
            }
            if known.status.counts_as_served() {
                note(&mut index.served);
            }
            index.status.insert(known.item.revision.event_id, known.status);
        }
        let states = self.states.iter();
        index
            .status
            .extend(states.map(|known| (known.item.revision.event_id, known.status)));
        for (place, known) in self.pull_requests.iter().enumerate() {
            index.status.insert(known.item.event_id, known.status);
            index.pull_requests.insert(known.item.event_id, place);
        }
        self.index = index;
        let coordinates = self.index.current.keys();
        let whole = coordinates.filter(|coordinate| !self.covered.partial.contains(coordinate));
        let hosted = whole.filter_map(|coordinate| match self.find_hosting(coordinate) {
            Hosting::Absent => None,
            hosting @ (Hosting::Waiting | Hosting::Announced) => Some((coordinate.clone(), hosting)),
        });
        (self.index.hosted, self.index.hosting) = hosted.collect();
        self.index.namesakes = self.namesakes();
    }

    fn namesakes(&self) -> BTreeMap<Identifier, Namesakes> {
        let mut by_identifier: BTreeMap<&Identifier, Namesake<'_>> = BTreeMap::new();
        let sleeping = self
            .announcements
            .iter()
            .filter(|known| known.status == EventStatus::Asleep);
        for known in sleeping {
            let namesake = by_identifier.entry(&known.item.coordinate.identifier).or_default();
            namesake.awake.get_or_insert_default();
        }
        for (coordinate, places) in &self.index.all {
            let namesake = by_identifier.entry(&coordinate.identifier).or_default();
            if let Some(place) = self.index.current.get(coordinate) {
                namesake.current.push(&self.announcements[*place].item);
            }
            let all = places.iter().map(|place| &self.announcements[*place].item);
            if let Some(awake) = &mut namesake.awake {
                awake.extend(all.max_by_key(|announcement| announcement.revision));
            }
        }
        for (place, hosted) in self.index.hosted.iter().enumerate() {
            let namesake = by_identifier.entry(&hosted.identifier).or_default();
            namesake.hosted.insert(hosted.owner, place);
        }
        for (place, known) in self.states.iter().enumerate() {
            let namesake = by_identifier.entry(&known.item.identifier).or_default();
            namesake.states.entry(known.item.author).or_default().push(place);
        }
        let build = |(identifier, namesake): (&Identifier, Namesake<'_>)| {
            let namesakes = Namesakes::new(identifier.clone(), self.mode, &namesake);
            (identifier.clone(), namesakes)
        };
        by_identifier.into_iter().map(build).collect()
    }

    fn learn(&mut self, event: &Event, status: EventStatus) {
        if self.access.denies_author(&event.pubkey) {
            let announcement = Announcement::parse(event)
                .ok()
                .filter(|_| event.kind.as_u16() == nip34::ANNOUNCEMENT);
            let ours = announcement.filter(|announcement| self.service.is_named_by(announcement));
            self.taken_down.extend(ours.map(|announcement| announcement.coordinate));
            return;
        }
        match event.kind.as_u16() {
            nip34::ANNOUNCEMENT => self.announcements.extend(known(Announcement::parse(event), status)),
            nip34::STATE if self.covered.cut.contains(&event.id) => {
                self.states
                    .extend(known(State::parse(event).map(State::unread), status));
            }
            nip34::STATE => self.states.extend(known(State::parse(event), status)),
            nip34::PULL_REQUEST | nip34::PULL_REQUEST_UPDATE => {
                self.pull_requests.extend(known(PullRequest::parse(event), status));
            }
            _ => {}
        }
    }

    /// Whether everything is known that decides about the events of the owner of a coordinate.
    pub fn is_settled(&self, coordinate: &Coordinate) -> bool {
        self.covered.coordinates.contains(coordinate) && !self.covered.unsettled.contains(coordinate)
    }

    /// Returns the status of an event; `None`: it is not among the facts, or malformed.
    pub fn status(&self, event_id: &EventId) -> Option<EventStatus> {
        self.index.status.get(event_id).copied()
    }

    /// Whether an event is on its way into the relay, or stuck there.
    pub(super) fn is_releasing(&self, event_id: &EventId) -> bool {
        let entry = self.entries.get(event_id);
        entry.is_some_and(|entry| entry.status.counts_as_served())
    }

    /// Whether a served request of its author, to delete it (NIP-09) or to vanish (NIP-62), covers an event.
    pub fn is_deleted(&self, event: &Event) -> bool {
        self.deletion_requests.cover(event)
    }

    /// Returns the announcement that counts for a repository: the newest that is held or counts as served.
    pub fn announcement(&self, coordinate: &Coordinate) -> Option<&Known<Announcement>> {
        let place = self.index.current.get(coordinate)?;
        Some(&self.announcements[*place])
    }

    /// Returns the newest announcement of a repository that counts as served, even if a newer one is held.
    pub fn served_announcement(&self, coordinate: &Coordinate) -> Option<&Known<Announcement>> {
        let place = self.index.served.get(coordinate)?;
        Some(&self.announcements[*place])
    }

    /// Whether this server hosts the repository.
    pub fn hosting(&self, coordinate: &Coordinate) -> Hosting {
        match self.index.hosted.binary_search(coordinate) {
            Ok(place) => self.index.hosting[place],
            Err(_) => self.find_hosting(coordinate),
        }
    }

    /// The same for the hosted repository at a position.
    pub(super) fn hosting_at(&self, at: RepositoryIndex) -> Hosting {
        self.index.hosting[at]
    }

    fn find_hosting(&self, coordinate: &Coordinate) -> Hosting {
        match self.announcement(coordinate) {
            _ if !self.access.permits(coordinate) => Hosting::Absent,
            Some(known) if !self.service.is_named_by(&known.item) => Hosting::Absent,
            Some(known) if known.status.counts_as_served() => Hosting::Announced,
            // A held replacement does not hide the announcement that it replaces.
            Some(_) => match self.served_announcement(coordinate) {
                Some(served) if self.service.is_named_by(&served.item) => Hosting::Announced,
                Some(_) | None => Hosting::Waiting,
            },
            None => Hosting::Absent,
        }
    }

    /// Returns every announcement of a repository, whatever its status.
    pub(super) fn announcements_of(&self, coordinate: &Coordinate) -> impl Iterator<Item = &Known<Announcement>> {
        let places = self.index.all.get(coordinate).into_iter().flatten();
        places.map(|place| &self.announcements[*place])
    }

    /// Returns the repositories that this server hosts, of those whose members were all read, in order.
    pub fn hosted(&self) -> &[Coordinate] {
        &self.index.hosted
    }

    /// The members of the repositories of an identifier; `None`: there are none.
    pub(super) fn namesakes_of(&self, identifier: &Identifier) -> Option<&Namesakes> {
        self.index.namesakes.get(identifier)
    }

    /// Resolves who belongs to a repository, by the announcements that count.
    pub fn membership(&self, coordinate: &Coordinate) -> Membership {
        let namesakes = self.namesakes_of(&coordinate.identifier);
        namesakes.map_or_else(Membership::default, |namesakes| {
            namesakes.membership(&coordinate.owner, Counted::Current)
        })
    }

    /// Whether a key is a confirmed maintainer of a repository.
    pub(super) fn confirms(&self, coordinate: &Coordinate, key: &PublicKey) -> bool {
        let namesakes = self.namesakes_of(&coordinate.identifier);
        namesakes.is_some_and(|namesakes| namesakes.confirms(&coordinate.owner, key))
    }

    /// Returns the states of those who are confirmed maintainers of a repository by these of its announcements, newest
    /// first.
    pub(super) fn states_authorised_by(&self, coordinate: &Coordinate, counted: Counted) -> Vec<&Known<State>> {
        let places = self.places_authorised_by(coordinate, counted).into_iter();
        places.map(|place| &self.states[place]).collect()
    }

    fn places_authorised_by(&self, coordinate: &Coordinate, counted: Counted) -> Vec<StateIndex> {
        let namesakes = self.namesakes_of(&coordinate.identifier).into_iter();
        let authorised = namesakes.flat_map(|namesakes| namesakes.authorised(&coordinate.owner, counted));
        // Marked instead of sorted: hundreds of maintainers may have a repository and a state each.
        let mut is_authorised = vec![false; self.states.len()];
        authorised.for_each(|place| is_authorised[place] = true);
        marked(&is_authorised)
    }

    /// Returns the state that governs a repository: the newest authorised one that counts as served. Its refs are the
    /// repository's refs.
    pub fn governing_state(&self, coordinate: &Coordinate) -> Option<&State> {
        let mut authorised = self.states_authorised_by(coordinate, Counted::Current).into_iter();
        let governing = authorised.find(|known| known.status.counts_as_served())?;
        Some(&governing.item)
    }

    /// Returns the refs that the governing state of a repository declares, unless they are malformed.
    pub fn declared(&self, coordinate: &Coordinate) -> Option<&Declared> {
        self.governing_state(coordinate)?.declared.as_ref().ok()
    }

    /// Whether the governing state of a repository declares any branch or tag.
    pub fn declares_refs(&self, coordinate: &Coordinate) -> bool {
        self.declared(coordinate)
            .is_some_and(|declared| !declared.refs.is_empty())
    }

    /// Returns the held states that could govern a repository next, newest first: authorised, and newer than the
    /// one that governs it.
    pub fn candidate_states(&self, coordinate: &Coordinate) -> Vec<&State> {
        let contenders = self.contenders(coordinate).into_iter().map(|place| &self.states[place]);
        let held = contenders.filter(|known| known.status == EventStatus::Held);
        held.map(|known| &known.item).collect()
    }

    /// Returns the places of these states, and at the end that of the one that governs the repository, if one does.
    pub(super) fn contenders(&self, coordinate: &Coordinate) -> Vec<StateIndex> {
        let mut places = self.places_authorised_by(coordinate, Counted::Current);
        let counts_as_served = |place: &StateIndex| self.states[*place].status.counts_as_served();
        if let Some(governing) = places.iter().position(counts_as_served) {
            places.truncate(governing + 1);
        }
        places
    }

    /// Returns the newest state by an author, of an identifier, that counts as served.
    pub fn served_state_by(&self, author: &PublicKey, identifier: &Identifier) -> Option<Revision> {
        let namesakes = self.namesakes_of(identifier).into_iter();
        let own = namesakes.flat_map(|namesakes| namesakes.states_by(author));
        own.map(|place| &self.states[place])
            .filter(|known| known.status.counts_as_served())
            .map(|known| known.item.revision)
            .max()
    }

    /// Whether a PR is offered to a repository: by its own coordinate, or by that of one of its maintainers.
    pub fn is_offered_to(&self, pull_request: &PullRequest, coordinate: &Coordinate) -> bool {
        pull_request.coordinates.iter().any(|offered| {
            offered == coordinate
                || (offered.identifier == coordinate.identifier && self.confirms(coordinate, &offered.owner))
        })
    }

    /// Whether a coordinate to which a PR is offered stands for a hosted repository: its own, or one of which its owner
    /// is a confirmed maintainer.
    pub(super) fn stands_for_a_repository(&self, offered: &Coordinate) -> bool {
        let namesakes = self.namesakes_of(&offered.identifier);
        self.index.hosted.binary_search(offered).is_ok()
            || namesakes.is_some_and(|namesakes| namesakes.is_confirmed(&offered.owner))
    }

    /// Returns the positions, in order, of the hosted repositories of an identifier of which a key is a confirmed
    /// maintainer. Resolves the maintainers of all of them: for decisions about all of them.
    pub(super) fn all_confirming(&self, identifier: &Identifier, key: &PublicKey) -> &[RepositoryIndex] {
        let namesakes = self.namesakes_of(identifier);
        namesakes.map_or(&[], |namesakes| namesakes.all_confirming(key))
    }

    /// Returns the objects whose presence decides: those that states and PRs name.
    pub fn referenced_objects(&self) -> BTreeSet<Oid> {
        let declared = self.states.iter().filter_map(|known| known.item.declared.as_ref().ok());
        let by_states = declared.flat_map(|declared| declared.refs.values().copied());
        let by_pull_requests = self.pull_requests.iter().map(|known| known.item.commit_oid);
        by_states.chain(by_pull_requests).collect()
    }

    /// Adds a placeholder that was recorded just now, for a commit that is staged, with the deadline that it has by
    /// these facts.
    pub fn note_placeholder(&mut self, staged: &Staged, hold_secs: u64) {
        let is_same = |other: &Placeholder| {
            (&other.event_id, &other.coordinate, &other.commit_oid)
                == (&staged.event_id, &staged.coordinate, &staged.commit_oid)
        };
        self.placeholders.retain(|other| !is_same(other));
        self.placeholders.push(Placeholder {
            event_id: staged.event_id,
            coordinate: staged.coordinate.clone(),
            commit_oid: staged.commit_oid,
            deadline: self.now.saturating_add(hold_secs),
        });
    }

    /// Returns a PR by its event id.
    pub fn pull_request(&self, event_id: &EventId) -> Option<&Known<PullRequest>> {
        let place = self.index.pull_requests.get(event_id)?;
        Some(&self.pull_requests[*place])
    }
}

fn known<T>(parsed: Result<T, Defect>, status: EventStatus) -> Option<Known<T>> {
    parsed.ok().map(|item| Known { item, status })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use nostr::key::SecretKey;
    use nostr::types::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::git::Oid;
    use crate::purgatory::EntryStatus;

    // The same in every run: which of two events of one second has the lower id depends on them.
    static KEYS: LazyLock<Vec<Keys>> = LazyLock::new(|| {
        let secret = |n: u8| SecretKey::from_slice(&[n; 32]).unwrap();
        (1..=17).map(|n| Keys::new(secret(n))).collect()
    });

    /// The n-th of seventeen public keys.
    pub(crate) fn pubkey(n: u8) -> PublicKey {
        KEYS[usize::from(n)].public_key()
    }

    pub(crate) fn coordinate(owner: u8, identifier: &str) -> Coordinate {
        Coordinate {
            owner: pubkey(owner),
            identifier: identifier.parse().unwrap(),
        }
    }

    /// The object id of forty times the digit.
    pub(crate) fn oid(digit: char) -> Oid {
        digit.to_string().repeat(40).parse().unwrap()
    }

    /// An event by the n-th key.
    pub(crate) fn event(author: u8, kind: u16, created_at: u64, tags: &[&[&str]]) -> Event {
        EventBuilder::new(Kind::from_u16(kind), "")
            .tags(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()))
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(&KEYS[usize::from(author)])
            .unwrap()
    }

    /// An announcement that names the server `svc`.
    pub(crate) fn announcement_event(owner: u8, identifier: &str, created_at: u64, more: &[&[&str]]) -> Event {
        let named: &[&[&str]] = &[&["clone", "https://svc/npub/r.git"], &["relays", "wss://svc"]];
        foreign_announcement_event(owner, identifier, created_at, &[named, more].concat())
    }

    /// An announcement that names no server.
    pub(crate) fn foreign_announcement_event(owner: u8, identifier: &str, created_at: u64, more: &[&[&str]]) -> Event {
        event(
            owner,
            nip34::ANNOUNCEMENT,
            created_at,
            &[&[&["d", identifier][..]], more].concat(),
        )
    }

    /// A state; each ref is written as a name below `refs/` and the digit of its oid.
    pub(crate) fn state_event(author: u8, identifier: &str, created_at: u64, refs: &[(&str, char)]) -> Event {
        let refs: Vec<(String, String)> = refs
            .iter()
            .map(|(name, digit)| (format!("refs/{name}"), oid(*digit).to_string()))
            .collect();
        let tags: Vec<[&str; 2]> = refs.iter().map(|(name, oid)| [name.as_str(), oid.as_str()]).collect();
        let identifier = ["d", identifier];
        let mut all: Vec<&[&str]> = vec![&identifier];
        all.extend(tags.iter().map(<[&str; 2]>::as_slice));
        event(author, nip34::STATE, created_at, &all)
    }

    /// A PR for one repository.
    pub(crate) fn pull_request_event(author: u8, offered_to: &Coordinate, digit: char) -> Event {
        let (address, commit) = (offered_to.to_string(), oid(digit).to_string());
        event(author, nip34::PULL_REQUEST, 1, &[&["a", &address], &["c", &commit]])
    }

    pub(crate) fn announcement(owner: u8, identifier: &str, created_at: u64) -> Announcement {
        Announcement::parse(&announcement_event(owner, identifier, created_at, &[])).unwrap()
    }

    /// The facts in a test: at second 1000, about identifier `r`, on the server `svc`.
    #[derive(Default)]
    pub(crate) struct Scene {
        pub(crate) served: Vec<Event>,
        pub(crate) entries: Vec<Entry>,
        pub(crate) placeholders: Vec<Placeholder>,
        pub(crate) access: Access,
    }

    /// The second at which every scene plays.
    pub(crate) const NOW: u64 = 1000;

    impl Scene {
        pub(crate) fn served(mut self, events: impl IntoIterator<Item = Event>) -> Self {
            self.served.extend(events);
            self
        }

        pub(crate) fn held(self, events: impl IntoIterator<Item = Event>) -> Self {
            self.held_until(NOW + 100, events)
        }

        pub(crate) fn held_until(self, deadline: u64, events: impl IntoIterator<Item = Event>) -> Self {
            self.with(EntryStatus::Held, deadline, events)
        }

        pub(crate) fn with(
            mut self,
            status: EntryStatus,
            deadline: u64,
            events: impl IntoIterator<Item = Event>,
        ) -> Self {
            self.entries.extend(events.into_iter().map(|event| Entry {
                coordinates: crate::rules::GitEvent::parse(&event).unwrap().unwrap().coordinates(),
                event: event.into(),
                status,
                source: String::new(),
                held_since: 1,
                deadline,
                waiting_for: String::new(),
                release_error: String::new(),
                releasing_since: None,
                after: BTreeSet::new(),
            }));
            self
        }

        pub(crate) fn placeholder(
            mut self,
            event_id: EventId,
            coordinate: Coordinate,
            digit: char,
            deadline: u64,
        ) -> Self {
            let commit_oid = oid(digit);
            self.placeholders.push(Placeholder {
                event_id,
                coordinate,
                commit_oid,
                deadline,
            });
            self
        }

        pub(crate) fn facts(self) -> Facts {
            self.facts_by(MaintainerMode::Hybrid)
        }

        pub(crate) fn facts_by(self, mode: MaintainerMode) -> Facts {
            Facts::assemble(
                "svc".parse().unwrap(),
                mode,
                Arc::new(self.access),
                Covered {
                    coordinates: (0..16).map(|owner| coordinate(owner, "r")).collect(),
                    ..Covered::default()
                },
                Reading {
                    now: NOW,
                    entries: self.entries,
                    placeholders: self.placeholders,
                    ..Reading::default()
                },
                self.served,
            )
        }
    }

    #[test]
    fn a_held_entry_that_is_served_too_counts_as_served() {
        let announced = announcement_event(1, "r", 1, &[]);

        let facts = Scene::default().held([announced.clone()]).served([announced]).facts();

        assert_eq!(facts.hosting(&coordinate(1, "r")), Hosting::Announced);
        assert_eq!(facts.announcements.len(), 1);
    }

    #[test]
    fn hosting() {
        let ours = |created_at| announcement_event(1, "r", created_at, &[]);
        let others = |created_at| foreign_announcement_event(1, "r", created_at, &[]);
        for (story, scene, hosting) in [
            ("nothing", Scene::default(), Hosting::Absent),
            ("held", Scene::default().held([ours(1)]), Hosting::Waiting),
            (
                "releasing",
                Scene::default().with(EntryStatus::Releasing, 0, [ours(1)]),
                Hosting::Announced,
            ),
            ("served", Scene::default().served([ours(1)]), Hosting::Announced),
            (
                "asleep",
                Scene::default().with(EntryStatus::Asleep, 2000, [ours(1)]),
                Hosting::Absent,
            ),
            (
                "served elsewhere",
                Scene::default().served([others(1)]),
                Hosting::Absent,
            ),
            (
                "a held replacement",
                Scene::default().served([ours(1)]).held([ours(2)]),
                Hosting::Announced,
            ),
            (
                "a held one after one of another server",
                Scene::default().served([others(1)]).held([ours(2)]),
                Hosting::Waiting,
            ),
            (
                "held de-listing",
                Scene::default().served([ours(1)]).held([others(2)]),
                Hosting::Absent,
            ),
        ] {
            assert_eq!(scene.facts().hosting(&coordinate(1, "r")), hosting, "{story}");
        }
    }

    #[test]
    fn candidates_are_held_authorised_and_newer_than_what_governs() {
        let refs = &[("heads/main", 'a')][..];
        let newer = state_event(1, "r", 30, refs);
        let facts = Scene::default()
            .served([announcement_event(1, "r", 1, &[]), state_event(1, "r", 20, refs)])
            .held([
                state_event(1, "r", 10, refs),
                newer.clone(),
                state_event(2, "r", 40, refs),
            ])
            .facts();

        let candidates = facts.candidate_states(&coordinate(1, "r"));

        assert_eq!(
            candidates
                .iter()
                .map(|state| state.revision.event_id)
                .collect::<Vec<_>>(),
            [newer.id]
        );
        assert_eq!(
            facts.governing_state(&coordinate(1, "r")).unwrap().revision.created_at,
            20
        );
    }

    #[test]
    fn an_entry_past_its_own_expiration_is_no_candidate_and_ends() {
        let expiring = |created_at, at: &str| {
            let tags: [&[&str]; 3] = [
                &["d", "r"],
                &["refs/heads/main", &oid('a').to_string()],
                &["expiration", at],
            ];
            event(1, nip34::STATE, created_at, &tags)
        };
        let (gone, here) = (expiring(30, "1000"), expiring(20, "1001"));
        let releasing = expiring(10, "999");
        let facts = Scene::default()
            .served([announcement_event(1, "r", 1, &[])])
            .held([gone.clone(), here.clone()])
            .with(EntryStatus::Releasing, 0, [releasing.clone()])
            .facts();

        let candidates = facts.candidate_states(&coordinate(1, "r"));

        let candidates: Vec<EventId> = candidates.iter().map(|state| state.revision.event_id).collect();
        assert_eq!(candidates, [here.id]);
        assert_eq!(facts.deleted, BTreeSet::from([gone.id]));
        assert_eq!(facts.status(&releasing.id), Some(EventStatus::Releasing));
    }

    /// The state with the higher id governed where two are of one second (ngit-grasp before 3.0.3).
    #[test]
    fn of_two_states_of_one_second_the_lower_id_governs() {
        let lists = announcement_event(1, "r", 1, &[&["maintainers", &pubkey(2).to_hex()]]);
        let mut states = [
            state_event(1, "r", 20, &[("heads/main", 'a')]),
            state_event(2, "r", 20, &[("heads/main", 'b')]),
        ];
        states.sort_by_key(|state| state.id);
        let [lower, higher] = states;
        let here = coordinate(1, "r");
        let announced = || Scene::default().served([lists.clone()]);

        let both_served = announced().served([higher.clone(), lower.clone()]).facts();
        let both_held = announced().held([higher.clone(), lower.clone()]).facts();
        let lower_served = announced().served([lower.clone()]).held([higher.clone()]).facts();
        let higher_served = announced().served([higher.clone()]).held([lower.clone()]).facts();

        let candidates = |facts: &Facts| -> Vec<EventId> {
            let states = facts.candidate_states(&here);
            states.iter().map(|state| state.revision.event_id).collect()
        };
        assert_eq!(both_served.governing_state(&here).unwrap().revision.event_id, lower.id);
        assert_eq!(candidates(&both_held), [lower.id, higher.id]);
        assert!(candidates(&lower_served).is_empty());
        assert_eq!(candidates(&higher_served), [lower.id]);
    }

    /// A tag by which an announcement gives one of five a role, or takes it away again.
    fn role_tag() -> impl Strategy<Value = Vec<String>> {
        let role = prop_oneof![Just("M"), Just("m"), Just("o"), Just("maintainers")];
        let history = prop_oneof![4 => Just(&[][..]), 1 => Just(&["1", "2"][..])];
        (role, 0_u8..5, history).prop_map(|(role, listed, history)| {
            let mut tag = vec![role.to_owned(), pubkey(listed).to_hex()];
            tag.extend(history.iter().map(|&boundary| boundary.to_owned()));
            tag
        })
    }

    /// An announcement by one of five, of this server or another one.
    fn any_announcement() -> impl Strategy<Value = Event> {
        let tags = proptest::collection::vec(role_tag(), 0..4);
        (0_u8..5, 1_u64..4, any::<bool>(), tags).prop_map(|(author, created_at, ours, tags)| {
            let tags: Vec<Vec<&str>> = tags
                .iter()
                .map(|tag| tag.iter().map(String::as_str).collect())
                .collect();
            let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
            match ours {
                true => announcement_event(author, "r", created_at, &tags),
                false => foreign_announcement_event(author, "r", created_at, &tags),
            }
        })
    }

    /// Who belongs to the repository of each of the five. Each event comes with its place: served, held or releasing.
    fn memberships(events: &[(Event, u8)], mode: MaintainerMode) -> Vec<Membership> {
        let mut scene = Scene::default();
        for (event, place) in events {
            let event = [event.clone()];
            scene = match place {
                0 => scene.served(event),
                1 => scene.held(event),
                _ => scene.with(EntryStatus::Releasing, 0, event),
            };
        }
        let facts = scene.facts_by(mode);
        let of = |owner| facts.membership(&coordinate(owner, "r"));
        (0..5).map(of).collect()
    }

    proptest! {
        /// Servers that got the same announcements in another order, or had released others of them, disagreed about
        /// who may push (ngit-grasp before 3.0.4).
        #[test]
        fn no_order_of_arrival_gives_another_membership(
            (events, shuffled) in proptest::collection::vec(any_announcement(), 1..9).prop_flat_map(|events| {
                let placed = |event: Event| (0_u8..3).prop_map(move |place| (event.clone(), place));
                let all = || events.iter().cloned().map(placed).collect::<Vec<_>>();
                (all(), all().prop_shuffle())
            }),
        ) {
            for mode in [MaintainerMode::Hybrid, MaintainerMode::Reciprocal, MaintainerMode::Recursive] {
                prop_assert_eq!(memberships(&events, mode), memberships(&shuffled, mode));
            }
        }
    }

    #[test]
    fn whoever_has_vanished_announces_and_declares_nothing_any_more() {
        let relay = |url| event(1, nip34::VANISH, 20, &[&["relay", url]]);
        for (story, request, vanished) in [
            ("from this server", relay("wss://svc/"), true),
            ("from everywhere", relay("ALL_RELAYS"), true),
            ("from another server", relay("wss://other/"), false),
            (
                "before the events",
                event(1, nip34::VANISH, 9, &[&["relay", "ALL_RELAYS"]]),
                false,
            ),
            (
                "somebody else",
                event(2, nip34::VANISH, 20, &[&["relay", "ALL_RELAYS"]]),
                false,
            ),
        ] {
            let state = state_event(1, "r", 10, &[("heads/main", 'a')]);
            let facts = Scene::default()
                .served([announcement_event(1, "r", 10, &[]), request])
                .held([state])
                .facts();

            assert_eq!(
                facts.hosting(&coordinate(1, "r")) == Hosting::Absent,
                vanished,
                "{story}"
            );
            assert_eq!(facts.deleted.len(), usize::from(vanished), "{story}");
        }
    }

    #[test]
    fn a_served_deletion_rules_out_what_is_held() {
        let state = state_event(1, "r", 10, &[("heads/main", 'a')]);
        let address = format!("30618:{}:r", pubkey(1).to_hex());
        for (story, author, created_at, tag, deleted) in [
            ("by id", 1, 5, ["e", &state.id.to_hex()], true),
            (
                "by id in upper case",
                1,
                5,
                ["e", &state.id.to_hex().to_uppercase()],
                true,
            ),
            ("by address", 1, 10, ["a", &address], true),
            (
                "by address in upper case",
                1,
                10,
                ["a", &format!("30618:{}:r", pubkey(1).to_hex().to_uppercase())],
                true,
            ),
            ("by address, made before the state", 1, 9, ["a", &address], false),
            ("by somebody else", 2, 50, ["e", &state.id.to_hex()], false),
            ("of another repository", 1, 50, ["a", &format!("{address}x")], false),
        ] {
            let request = event(author, nip34::DELETION, created_at, &[&tag]);

            let facts = Scene::default().held([state.clone()]).served([request]).facts();

            assert_eq!(facts.deleted.contains(&state.id), deleted, "{story}");
            assert_eq!(facts.states.is_empty(), deleted, "{story}");
        }
    }
}
