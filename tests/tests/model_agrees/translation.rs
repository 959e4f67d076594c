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
use nostr::key::SecretKey;
use nostr::types::Timestamp;
use protocol_model::Configuration;
use protocol_model::disk as model_disk;
use protocol_model::event::Event;
use protocol_model::event::Events;
use protocol_model::event::Identifiers;
use protocol_model::event::Push;
use protocol_model::redis as model_redis;
use protocol_model::rules as model_rules;
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
use shared::rules::Covered;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::Hosting;
use shared::rules::MaintainerMode;
use shared::rules::OnDisk;
use shared::rules::Plan;
use shared::rules::Staged;

/// The second at which everything is decided.
pub(crate) const NOW: u64 = 1_000;

/// The events of the model, signed.
pub(crate) struct World {
    /// By the model's events.
    events: [nostr::event::Event; 4],
    /// The author's deletion of each.
    deletions: [nostr::event::Event; 4],
    /// The announcement of the repository at Y, which is served throughout.
    announcement_of_y: nostr::event::Event,
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

const COMMIT: char = 'c';
const OWNER: u8 = 1;
const SECOND_MAINTAINER: u8 = 2;
const OWNER_OF_Y: u8 = 3;
const CONTRIBUTOR: u8 = 4;

impl World {
    /// Signs the events: by one author both states, or the newer one by a second maintainer.
    pub(crate) fn new(is_one_author: bool) -> Self {
        let second = keys(SECOND_MAINTAINER).public_key().to_hex();
        let coordinate = |owner: u8, identifier: &str| Coordinate {
            owner: keys(owner).public_key(),
            identifier: identifier.parse().unwrap(),
        };
        let (x, y) = (coordinate(OWNER, "x"), coordinate(OWNER_OF_Y, "y"));
        let (offered_to_x, offered_to_y) = (x.to_string(), y.to_string());
        let state = |author, created_at, state| {
            let refs: Vec<[String; 2]> = declared(state)
                .iter()
                .map(|(name, oid)| [name.to_string(), oid.to_string()])
                .collect();
            let refs: Vec<[&str; 2]> = refs.iter().map(|[name, oid]| [name.as_str(), oid.as_str()]).collect();
            let mut tags: Vec<&[&str]> = vec![&["d", "x"], &["HEAD", "ref: refs/heads/main"]];
            tags.extend(refs.iter().map(<[&str; 2]>::as_slice));
            event(author, 30618, created_at, &tags)
        };
        let (maintainers, author_of_newer) = if is_one_author {
            (vec![], OWNER)
        } else {
            (vec![second.as_str()], SECOND_MAINTAINER)
        };
        let commit = oid(COMMIT).to_string();
        let offers: [&[&str]; 3] = [&["a", &offered_to_x], &["a", &offered_to_y], &["c", &commit]];
        let events = [
            announcement(OWNER, "x", &maintainers),
            state(OWNER, 10, Event::Older),
            state(author_of_newer, 20, Event::Newer),
            event(CONTRIBUTOR, 1618, 5, &offers),
        ];
        let authors = [OWNER, OWNER, author_of_newer, CONTRIBUTOR];
        let deletion = |at: usize| event(authors[at], 5, 50, &[&["e", &events[at].id.to_hex()]]);
        Self {
            deletions: [0, 1, 2, 3].map(deletion),
            events,
            announcement_of_y: announcement(OWNER_OF_Y, "y", &[]),
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

    pub(crate) fn coordinate(&self, one: Identifiers) -> &Coordinate {
        if one == Identifiers::X { &self.x } else { &self.y }
    }

    /// The coordinates that stand for these of the model, of the repositories themselves.
    pub(crate) fn coordinates(&self, identifiers: Identifiers) -> BTreeSet<Coordinate> {
        let coordinates = identifiers.iter().map(|one| self.coordinate(one).clone());
        coordinates.collect()
    }

    /// The coordinates that are read for these of the model: those of the second maintainer too.
    fn covered(&self, identifiers: Identifiers) -> Covered {
        let mut coordinates = self.coordinates(identifiers);
        if Identifiers::X.meets(identifiers) {
            coordinates.insert(self.x.of(keys(SECOND_MAINTAINER).public_key()));
        }
        Covered {
            coordinates,
            ..Covered::default()
        }
    }

    pub(crate) fn model_identifiers<'a>(&self, coordinates: impl IntoIterator<Item = &'a Coordinate>) -> Identifiers {
        let one = |coordinate: &Coordinate| {
            let same = |one: &Identifiers| self.coordinate(*one).identifier == coordinate.identifier;
            Identifiers::EACH
                .into_iter()
                .find(same)
                .expect("a coordinate of the model")
        };
        coordinates
            .into_iter()
            .map(one)
            .fold(Identifiers::NONE, Identifiers::with)
    }

    pub(crate) fn placeholder(&self, one: Identifiers, deadline: u64) -> Placeholder {
        Placeholder {
            event_id: self.id(Event::PullRequest),
            coordinate: self.coordinate(one).clone(),
            commit_oid: oid(COMMIT),
            deadline,
        }
    }

    fn staged(&self, one: Identifiers) -> Staged {
        Staged {
            coordinate: self.coordinate(one).clone(),
            event_id: self.id(Event::PullRequest),
            commit_oid: oid(COMMIT),
        }
    }

    /// The facts about some identifiers, as `FactLoader::load` reads them.
    pub(crate) fn facts(&self, model: &Configuration, identifiers: Identifiers, facts: &model_rules::Facts) -> Facts {
        let known = || {
            Event::ALL
                .into_iter()
                .filter(|event| event.identifiers().meets(identifiers))
        };
        let placeholders = facts.reading.placeholders.within(identifiers).iter();
        let reading = Reading {
            now: NOW,
            dirty: BTreeMap::new(),
            listed_by: BTreeMap::new(),
            entries: known().filter_map(|event| self.entry(event, &facts.reading)).collect(),
            placeholders: placeholders.map(|one| self.placeholder(one, NOW + 100)).collect(),
        };
        let mut served: Vec<nostr::event::Event> = known()
            .filter(|event| facts.served.has(*event))
            .map(|event| self.event(event).clone())
            .collect();
        if Identifiers::Y.meets(identifiers) {
            served.push(self.announcement_of_y.clone());
        }
        if let Some(deleted) = model.deletes.filter(|_| facts.has_deletion) {
            served.push(self.deletions[deleted.index()].clone());
        }
        Facts::assemble(
            "svc".parse().unwrap(),
            MaintainerMode::Hybrid,
            Arc::new(Access::default()),
            self.covered(identifiers),
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
            event: self.event(event).clone(),
            coordinates: self.coordinates(event.identifiers()),
            status,
            source: String::new(),
            held_since: 1,
            deadline,
            waiting_for: String::new(),
            release_error: String::new(),
            after: BTreeSet::new(),
        })
    }

    /// What a reconcile on these facts finds on disk.
    pub(crate) fn disk(&self, facts: &Facts, disk: &model_disk::Disk, errors: model_disk::DiskErrors) -> Disk {
        let identifiers = self.model_identifiers(&facts.covered.coordinates);
        let mut found = Disk::default();
        for one in identifiers.iter() {
            let coordinate = self.coordinate(one);
            if errors.uninstallable.meets(one) {
                let uninstallable = (coordinate.clone(), self.id(Event::PullRequest));
                found.uninstallable.insert(uninstallable);
            }
            if disk.staged.meets(one) {
                found.staged.insert(self.staged(one));
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

    /// What one repository has; `None`: there is none.
    fn repository(&self, one: Identifiers, disk: &model_disk::Disk) -> Option<OnDisk> {
        let mut on_disk = OnDisk {
            refs: BTreeMap::new(),
            head: Some(name("refs/heads/main")),
            objects: BTreeMap::new(),
        };
        if one == Identifiers::X {
            on_disk.refs = disk.refs.map(declared).unwrap_or_default();
            let oids = disk.objects.iter().flat_map(|state| declared(state).into_values());
            on_disk.objects = oids.map(|oid| (oid, ObjectKind::Commit)).collect();
        }
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
        let refs = self.repository(push.identifier(), disk).map(|on_disk| on_disk.refs);
        let none = BTreeMap::new();
        let current = refs.as_ref().unwrap_or(&none);
        let wanted = match push.state() {
            Some(state) => declared(state),
            None => BTreeMap::from([(self.pull_request_ref(), oid(COMMIT))]),
        };
        let is_governed = |name: &RefName| push.state().is_some() && name.is_branch_or_tag();
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

    /// The plan as the model has it; the marks are no part of it.
    ///
    /// # Panics
    /// It has no counterpart in the model.
    pub(crate) fn model_plan(&self, plan: &Plan, disk: &Disk) -> model_rules::Plan {
        let align = match plan.alignments.as_slice() {
            [] => None,
            [alignment] => {
                assert_eq!(alignment.coordinate, self.x);
                let state = self.model_event(&alignment.state_id);
                let none = OnDisk::default();
                let mut refs = disk.repositories.get(&self.x).unwrap_or(&none).refs.clone();
                for update in &alignment.updates {
                    assert_eq!(refs.get(&update.name).copied(), update.old);
                    match update.new {
                        Some(oid) => refs.insert(update.name.clone(), oid),
                        None => refs.remove(&update.name),
                    };
                }
                refs.retain(|name, _| name.is_branch_or_tag());
                assert_eq!(refs, declared(state), "the refs after the alignment");
                Some(state)
            }
            several => panic!("{several:?}"),
        };
        let at = |coordinate: &Coordinate| self.model_identifiers([coordinate]);
        let all =
            |identifiers: &mut dyn Iterator<Item = Identifiers>| identifiers.fold(Identifiers::NONE, Identifiers::with);
        let announcement = BTreeSet::from([self.id(Event::Announcement)]);
        for release in &plan.releases {
            assert!(release.after.is_empty() || release.after == announcement, "{release:?}");
        }
        for (event_id, expiry) in &plan.expired {
            let may_sleep = *event_id == self.id(Event::Announcement);
            assert!(may_sleep || *expiry == Expiry::Gone, "{event_id} {expiry:?}");
        }
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
            widen: self.model_identifiers(&plan.also_lock),
            dirty: [0; 2],
        }
    }
}
