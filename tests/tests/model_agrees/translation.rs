//! What the model's events, facts and disks are in this program: real events with real signatures, by keys that are the
//! same in every run.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::EventBuilder;
use nostr::event::EventId;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::key::PublicKey;
use nostr::key::SecretKey;
use nostr::types::Timestamp;
use protocol_model::Configuration;
use protocol_model::disk as model_disk;
use protocol_model::event::Coordinates;
use protocol_model::event::Event;
use protocol_model::event::Events;
use protocol_model::event::Parts;
use protocol_model::event::Push;
use protocol_model::redis as model_redis;
use protocol_model::rules as model_rules;
use protocol_model::scene::Scene;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::git::PushCommand;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::nip34::Coordinate;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::Expiry;
use shared::purgatory::Placeholder;
use shared::purgatory::Reading;
use shared::rules::Access;
use shared::rules::Alignment;
use shared::rules::Covered;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::Hosting;
use shared::rules::MaintainerMode;
use shared::rules::OnDisk;
use shared::rules::Plan;
use shared::rules::Staged;
use shared::rules::listings_to_note;

/// The second at which everything is decided.
pub(crate) const NOW: u64 = 1_000;

/// The events of the model, signed.
pub(crate) struct World {
    scene: Scene,
    /// By the model's events.
    events: [nostr::event::Event; 4],
    /// The author's deletion of each.
    deletions: [nostr::event::Event; 4],
    /// The announcements of X and Y, as far as they are served throughout.
    throughout: [nostr::event::Event; 2],
    x: Coordinate,
    y: Coordinate,
}

fn keys(n: u8) -> Keys {
    Keys::new(SecretKey::from_slice(&[n; 32]).unwrap())
}

fn event(author: u8, kind: u16, created_at: u64, tags: &[&[&str]]) -> nostr::event::Event {
    EventBuilder::new(Kind::from_u16(kind), "")
        .tags(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()))
        .custom_created_at(Timestamp::from_secs(created_at))
        .finalize(&keys(author))
        .unwrap()
}

fn announcement(owner: u8, identifier: &str, maintainers: &[&str]) -> nostr::event::Event {
    let clone = format!("https://svc/npub/{identifier}.git");
    let (d, clone, relays) = (["d", identifier], ["clone", &clone], ["relays", "wss://svc"]);
    let maintainers = [&["maintainers"][..], maintainers].concat();
    event(owner, 30617, 1, &[&d, &clone, &relays, &maintainers])
}

fn oid(digit: char) -> Oid {
    digit.to_string().repeat(40).parse().unwrap()
}

fn name(text: &str) -> RefName {
    text.parse().unwrap()
}

/// What the states declare: each has a ref that the other has not.
fn declared(state: Event) -> BTreeMap<RefName, Oid> {
    let refs = match state {
        Event::Older => [("refs/heads/main", 'a'), ("refs/heads/old", 'd')],
        Event::Newer => [("refs/heads/main", 'b'), ("refs/tags/new", 'e')],
        Event::Announcement | Event::PullRequest => panic!("{state:?} declares nothing"),
    };
    refs.into_iter().map(|(text, digit)| (name(text), oid(digit))).collect()
}

/// The state of the repositories called x.
fn state_event(author: u8, created_at: u64, state: Event) -> nostr::event::Event {
    let refs: Vec<[String; 2]> = declared(state)
        .iter()
        .map(|(name, oid)| [name.to_string(), oid.to_string()])
        .collect();
    let refs: Vec<[&str; 2]> = refs.iter().map(|[name, oid]| [name.as_str(), oid.as_str()]).collect();
    let mut tags: Vec<&[&str]> = vec![&["d", "x"], &["HEAD", "ref: refs/heads/main"]];
    tags.extend(refs.iter().map(<[&str; 2]>::as_slice));
    event(author, 30618, created_at, &tags)
}

const COMMIT: char = 'c';
const OWNER: u8 = 1;
/// The second maintainer, or the owner of the other repository.
const OTHER: u8 = 2;
const CONTRIBUTOR: u8 = 4;

impl World {
    /// Signs the events of a scene.
    pub(crate) fn new(scene: Scene) -> Self {
        // Two repositories of one owner, or of two who list each other: a stranger's would get nothing from it.
        let (owner_of_y, name_of_y) = match scene {
            Scene::Apart => (OWNER, "y"),
            Scene::Maintainer | Scene::Set | Scene::Listing => (OTHER, "x"),
        };
        let coordinate = |owner: u8, identifier: &str| Coordinate {
            owner: keys(owner).public_key(),
            identifier: identifier.parse().unwrap(),
        };
        let (x, y) = (coordinate(OWNER, "x"), coordinate(owner_of_y, name_of_y));
        let announcement_of = |one: Coordinates| {
            let (owner, identifier, other) = match one {
                Coordinates::X => (OWNER, "x", OTHER),
                _ => (owner_of_y, name_of_y, OWNER),
            };
            let listed = keys(other).public_key().to_hex();
            let listed = (!scene.lists(one).is_empty()).then_some(listed.as_str());
            announcement(owner, identifier, listed.as_slice())
        };
        let author_of_newer = if scene.is_one_author() { OWNER } else { OTHER };
        let owner_of_announced = if scene.announced() == Coordinates::Y {
            owner_of_y
        } else {
            OWNER
        };
        let (offered_to_x, offered_to_y, commit) = (x.to_string(), y.to_string(), oid(COMMIT).to_string());
        let offers: [&[&str]; 3] = [&["a", &offered_to_x], &["a", &offered_to_y], &["c", &commit]];
        let announced = if scene.announced() == Coordinates::Y {
            Coordinates::Y
        } else {
            Coordinates::X
        };
        let events = [
            announcement_of(announced),
            state_event(OWNER, 10, Event::Older),
            state_event(author_of_newer, 20, Event::Newer),
            event(CONTRIBUTOR, 1618, 5, &offers),
        ];
        let authors = [owner_of_announced, OWNER, author_of_newer, CONTRIBUTOR];
        let deletion = |at: usize| event(authors[at], 5, 50, &[&["e", &events[at].id.to_hex()]]);
        Self {
            scene,
            deletions: [0, 1, 2, 3].map(deletion),
            throughout: Coordinates::EACH.map(announcement_of),
            events,
            x,
            y,
        }
    }

    pub(crate) fn event(&self, event: Event) -> &nostr::event::Event {
        &self.events[event.index()]
    }

    pub(crate) fn id(&self, event: Event) -> EventId {
        self.event(event).id
    }

    pub(crate) fn ids(&self, events: Events) -> BTreeSet<EventId> {
        events.iter().map(|event| self.id(event)).collect()
    }

    /// # Panics
    /// The id is of none of them.
    pub(crate) fn model_event(&self, id: &EventId) -> Event {
        let same = |event: &Event| self.id(*event) == *id;
        Event::ALL.into_iter().find(same).expect("an event of the model")
    }

    pub(crate) fn model_events<'a>(&self, ids: impl IntoIterator<Item = &'a EventId>) -> Events {
        ids.into_iter().map(|id| self.model_event(id)).collect()
    }

    pub(crate) fn coordinate(&self, one: Coordinates) -> &Coordinate {
        if one == Coordinates::X { &self.x } else { &self.y }
    }

    /// The coordinates that stand for these of the model, of the repositories themselves.
    pub(crate) fn coordinates(&self, coordinates: Coordinates) -> BTreeSet<Coordinate> {
        let coordinates = coordinates.iter().map(|one| self.coordinate(one).clone());
        coordinates.collect()
    }

    /// # Panics
    /// One is of none of them.
    pub(crate) fn model_coordinates<'a>(&self, coordinates: impl IntoIterator<Item = &'a Coordinate>) -> Coordinates {
        let one = |coordinate: &Coordinate| {
            let same = |one: &Coordinates| self.coordinate(*one) == coordinate;
            let found = Coordinates::EACH.into_iter().find(same);
            found.expect("a coordinate of the model")
        };
        coordinates
            .into_iter()
            .map(one)
            .fold(Coordinates::NONE, Coordinates::with)
    }

    /// Whose announcements list one of these, by the program's notes.
    pub(crate) fn model_notes(&self, listed_by: &BTreeMap<Coordinate, BTreeSet<PublicKey>>) -> Coordinates {
        let listing = listed_by
            .iter()
            .flat_map(|(listed, owners)| owners.iter().map(|owner| listed.of(*owner)));
        let listing: Vec<Coordinate> = listing.collect();
        self.model_coordinates(&listing)
    }

    /// Whom the announcement of a coordinate lists.
    pub(crate) fn listed(&self, one: Coordinates) -> BTreeSet<PublicKey> {
        let listed = self.scene.lists(one).iter();
        listed.map(|listed| self.coordinate(listed).owner).collect()
    }

    /// The program's notes of whom these list.
    fn listed_by(&self, noted: Coordinates) -> BTreeMap<Coordinate, BTreeSet<PublicKey>> {
        let mut listed_by = BTreeMap::<Coordinate, BTreeSet<PublicKey>>::new();
        for one in noted.iter() {
            for listed in self.scene.lists(one).iter() {
                let owners = listed_by.entry(self.coordinate(listed).clone()).or_default();
                owners.insert(self.coordinate(one).owner);
            }
        }
        listed_by
    }

    pub(crate) fn placeholder(&self, one: Coordinates, deadline: u64) -> Placeholder {
        Placeholder {
            event_id: self.id(Event::PullRequest),
            coordinate: self.coordinate(one).clone(),
            commit_oid: oid(COMMIT),
            deadline,
        }
    }

    fn staged(&self, one: Coordinates) -> Staged {
        Staged {
            coordinate: self.coordinate(one).clone(),
            event_id: self.id(Event::PullRequest),
            commit_oid: oid(COMMIT),
        }
    }

    /// The program's facts, as `FactLoader::load` puts together what it reads.
    pub(crate) fn facts(&self, model: &Configuration, facts: &model_rules::Facts) -> Facts {
        let covered = facts.covered;
        let known = || {
            Event::ALL
                .into_iter()
                .filter(|event| self.scene.coordinates(*event).meets(covered))
        };
        let placeholders = facts.reading.placeholders.within(covered).iter();
        let mut listed_by = self.listed_by(facts.reading.noted);
        listed_by.retain(|listed, _| self.model_coordinates([listed]).meets(covered));
        let noted = facts.reading.noted.within(covered).iter();
        let noted = noted.map(|one| (self.coordinate(one).clone(), self.listed(one).len()));
        let reading = Reading {
            now: NOW,
            listed_by,
            noted: noted.collect(),
            entries: known().filter_map(|event| self.entry(event, &facts.reading)).collect(),
            placeholders: placeholders.map(|one| self.placeholder(one, NOW + 100)).collect(),
            ..Reading::default()
        };
        let mut served: Vec<nostr::event::Event> = known()
            .filter(|event| facts.relay.served.has(*event))
            .map(|event| self.event(event).clone())
            .collect();
        let throughout = self.scene.announced_throughout().within(covered).iter();
        served.extend(throughout.map(|one| self.throughout[one.index()].clone()));
        if let Some(deleted) = model.deletes.filter(|_| facts.relay.has_deletion) {
            served.push(self.deletions[deleted.index()].clone());
        }
        let covered = Covered {
            coordinates: self.coordinates(covered),
            unsettled: self.coordinates(covered.without(facts.settled)),
            ..Covered::default()
        };
        Facts::assemble(
            "svc".parse().unwrap(),
            MaintainerMode::Hybrid,
            Arc::new(Access::default()),
            covered,
            reading,
            served,
        )
    }

    fn entry(&self, event: Event, reading: &model_redis::Reading) -> Option<Entry> {
        let status = match reading.statuses[event.index()] {
            model_redis::EntryStatus::Absent => return None,
            model_redis::EntryStatus::Held => EntryStatus::Held,
            model_redis::EntryStatus::Asleep => EntryStatus::Asleep,
            model_redis::EntryStatus::Releasing => EntryStatus::Releasing,
        };
        let deadline = if reading.overdue.has(event) { NOW } else { NOW + 100 };
        Some(Entry {
            event: self.event(event).clone().into(),
            coordinates: self.coordinates(self.scene.coordinates(event)),
            status,
            source: String::new(),
            held_since: 1,
            deadline,
            waiting_for: String::new(),
            release_error: String::new(),
            releasing_since: None,
            after: BTreeSet::new(),
        })
    }

    /// What a reconcile on these facts finds on disk.
    pub(crate) fn disk(&self, facts: &Facts, disk: &model_disk::Disk, errors: model_disk::DiskErrors) -> Disk {
        let coordinates = self.model_coordinates(&facts.covered.coordinates);
        let mut found = Disk::default();
        for one in coordinates.iter() {
            let coordinate = self.coordinate(one);
            if errors.uninstallable.meets(one) {
                let uninstallable = (coordinate.clone(), self.id(Event::PullRequest));
                found.uninstallable.insert(uninstallable);
            }
            if disk.staged.meets(one) {
                found.staged.insert(self.staged(one));
            }
            if one == Coordinates::X && disk.parts != Parts::NONE {
                found.parts.insert(coordinate.clone(), self.parts(disk.parts));
            }
            // Nobody looks for a repository that is not hosted.
            if facts.hosting(coordinate) == Hosting::Absent {
                continue;
            }
            if errors.broken().meets(one) {
                found.broken.insert(coordinate.clone());
            }
            if !errors.unreadable.meets(one) {
                let repository = self.repository(one, disk);
                found
                    .repositories
                    .extend(repository.map(|on_disk| (coordinate.clone(), on_disk)));
            }
        }
        found
    }

    /// What is kept of the newer state.
    fn parts(&self, parts: Parts) -> shared::rules::Parts {
        let refs = declared(Event::Newer).into_values();
        let each = [Parts::FIRST, Parts::SECOND].into_iter().zip(refs);
        let kept = each
            .filter(|(part, _)| parts.has(*part))
            .map(|(_, oid)| (oid, ObjectKind::Commit));
        BTreeMap::from([(self.id(Event::Newer), kept.collect())])
    }

    /// What one repository has; `None`: there is none.
    fn repository(&self, one: Coordinates, disk: &model_disk::Disk) -> Option<OnDisk> {
        let mut on_disk = OnDisk {
            refs: BTreeMap::new(),
            head: Some(name("refs/heads/main")),
            objects: BTreeMap::new(),
            ..OnDisk::default()
        };
        on_disk.refs = disk.refs[one.index()].map(declared).unwrap_or_default();
        let oids = disk.objects[one.index()]
            .iter()
            .flat_map(|state| declared(state).into_values());
        on_disk.objects = oids.map(|oid| (oid, ObjectKind::Commit)).collect();
        if disk.installed.meets(one) {
            on_disk.refs.insert(self.pull_request_ref(), oid(COMMIT));
            on_disk.objects.insert(oid(COMMIT), ObjectKind::Commit);
        }
        let is_there = !on_disk.refs.is_empty() || !on_disk.objects.is_empty();
        is_there.then_some(on_disk)
    }

    fn pull_request_ref(&self) -> RefName {
        RefName::pull_request(&self.id(Event::PullRequest))
    }

    /// The refs of the repository that a push goes to, and the commands of the push: a client names what is there.
    pub(crate) fn push(
        &self,
        push: Push,
        disk: &model_disk::Disk,
    ) -> (Option<BTreeMap<RefName, Oid>>, Vec<PushCommand>) {
        let refs = self.repository(push.coordinate(), disk).map(|on_disk| on_disk.refs);
        let none = BTreeMap::new();
        let current = refs.as_ref().unwrap_or(&none);
        let is_part = matches!(push, Push::FirstPart | Push::SecondPart);
        let wanted = match push.state() {
            Some(state) if is_part => {
                let each = [Parts::FIRST, Parts::SECOND].into_iter().zip(declared(state));
                let pushed = each.filter(|(part, _)| push.parts() == *part);
                pushed.map(|(_, declared)| declared).collect()
            }
            Some(state) => declared(state),
            None => BTreeMap::from([(self.pull_request_ref(), oid(COMMIT))]),
        };
        let is_governed = |name: &RefName| push.state().is_some() && !is_part && name.is_branch_or_tag();
        let names: BTreeSet<&RefName> = current
            .keys()
            .filter(|name| is_governed(name))
            .chain(wanted.keys())
            .collect();
        let updates = names.into_iter().map(|name| RefUpdate {
            name: name.clone(),
            old: current.get(name).copied(),
            new: wanted.get(name).copied(),
        });
        let commands = updates.map(|update| PushCommand {
            name: update.name.to_string(),
            update: Ok(update),
        });
        let commands = commands.collect();
        (refs, commands)
    }

    /// The state that an alignment brings its repository to.
    fn aligned(&self, alignment: &Alignment, disk: &Disk) -> Event {
        let state = self.model_event(&alignment.state_id);
        let on_disk = disk.repositories.get(&alignment.coordinate);
        let mut refs = on_disk.map(|on_disk| on_disk.refs.clone()).unwrap_or_default();
        for update in &alignment.updates {
            assert_eq!(refs.get(&update.name).copied(), update.old);
            match update.new {
                Some(oid) => refs.insert(update.name.clone(), oid),
                None => refs.remove(&update.name),
            };
        }
        refs.retain(|name, _| name.is_branch_or_tag());
        assert_eq!(refs, declared(state), "the refs after the alignment");
        state
    }

    /// The plan as the model has it.
    ///
    /// # Panics
    /// It has no counterpart in the model.
    pub(crate) fn model_plan(&self, facts: &Facts, plan: &Plan, disk: &Disk) -> model_rules::Plan {
        let mut align = [None; 2];
        for alignment in &plan.alignments {
            let one = self.model_coordinates([&alignment.coordinate]);
            align[one.index()] = Some(self.aligned(alignment, disk));
        }
        let (note, take_off): (Vec<_>, Vec<_>) = listings_to_note(facts, plan)
            .into_iter()
            .partition(|(_, listing)| listing.keys().next().is_some());
        let (note, note_held): (Vec<_>, Vec<_>) = note
            .into_iter()
            .partition(|(_, listing)| listing.of_kinds()[1].is_empty());
        let at = |coordinate: &Coordinate| self.model_coordinates([coordinate]);
        let all =
            |coordinates: &mut dyn Iterator<Item = Coordinates>| coordinates.fold(Coordinates::NONE, Coordinates::with);
        let announcement = BTreeSet::from([self.id(Event::Announcement)]);
        for release in &plan.releases {
            assert!(release.after.is_empty() || release.after == announcement, "{release:?}");
        }
        for (event_id, expiry) in &plan.expired {
            let may_sleep = *event_id == self.id(Event::Announcement);
            assert!(may_sleep || *expiry == Expiry::Gone, "{event_id} {expiry:?}");
        }
        // What moves in by this plan ends by the next, which is made at once.
        let mut move_in = plan.alignments.iter().filter(|one| !one.parts.is_empty());
        let after = plan.releases.iter().filter(|release| !release.after.is_empty());
        model_rules::Plan {
            align,
            install: all(&mut plan.installations.iter().map(|one| at(&one.coordinate))),
            releases: self.model_events(plan.releases.iter().map(|release| &release.event.id)),
            after_announcement: self.model_events(after.map(|release| &release.event.id)),
            ended: self.model_events(&plan.ended),
            expired: self.model_events(plan.expired.iter().map(|(event_id, _)| event_id)),
            undecided: self.model_events(&plan.undecided),
            placeholders_ended: all(&mut plan.placeholders_ended.iter().map(|one| at(&one.coordinate))),
            unstage: all(&mut plan.unstage.iter().map(|one| at(&one.coordinate))),
            ends_parts: !plan.parts_ended.is_empty() || move_in.any(|one| facts.is_settled(&one.coordinate)),
            relies_on: self.model_coordinates(&plan.relies_on),
            widen: self.model_coordinates(&plan.also_lock),
            note: self.model_coordinates(note.iter().map(|(at, _)| at)),
            note_held: self.model_coordinates(note_held.iter().map(|(at, _)| at)),
            take_off: self.model_coordinates(take_off.iter().map(|(at, _)| at)),
        }
    }
}
