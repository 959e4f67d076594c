//! Which pushes signed states allow, and what a reconcile makes of them: the two decisions against a second, plainer
//! reading of the same rules (docs/ARCHITECTURE.md rule 5).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arbitrary::Arbitrary;
use arbitrary::Result;
use arbitrary::Unstructured;
use nostr::event::Event;
use nostr::event::EventId;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::git::PushCommand;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::nip34::ANNOUNCEMENT;
use shared::nip34::Coordinate;
use shared::nip34::STATE;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::Reading;
use shared::rules::Access;
use shared::rules::Atomicity;
use shared::rules::Covered;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::MaintainerMode;
use shared::rules::OnDisk;
use shared::rules::PlanSettings;
use shared::rules::PullRequestLimits;
use shared::rules::PushTarget;
use shared::rules::Verdict;
use shared::rules::decide_push;
use shared::rules::plan;

use crate::input::AUTHORS_LEN;
use crate::input::author;
use crate::input::event;

/// Makes announcements, states, a repository and a push of the bytes, and compares what is decided about them.
pub fn state_matching(data: &[u8]) {
    // Bytes that do not suffice for a scene are none.
    if let Ok(scene) = Scene::arbitrary(&mut Unstructured::new(data)) {
        scene.check_push();
        scene.check_plan();
    }
}

/// Refs by the place of their names in [`NAMES`].
type Refs = [Option<Oid>; NAMES.len()];

/// The second name is below the first: no repository can have both.
const NAMES: [&str; 4] = ["refs/heads/a", "refs/heads/a/b", "refs/heads/main", "refs/tags/v1"];

/// What one author says of the repository.
struct Announcement {
    status: Option<EntryStatus>,
    names_service: bool,
    lists: [bool; AUTHORS_LEN],
}

struct State {
    number: u8,
    author: usize,
    created_at: u64,
    status: Option<EntryStatus>,
    refs: Refs,
}

/// One repository, of the first author, and a push to it.
struct Scene {
    announcements: Vec<Option<Announcement>>,
    states: Vec<State>,
    local: Refs,
    commands: Vec<RefUpdate>,
    atomicity: Atomicity,
    here: BTreeSet<Oid>,
}

impl<'a> Arbitrary<'a> for Scene {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let announcements = (0..AUTHORS_LEN).map(|_| announcement(u)).collect::<Result<_>>()?;
        let states = (0..u.int_in_range(0..=4)?)
            .map(|n| state(u, n))
            .collect::<Result<_>>()?;
        let mut local = refs(u)?;
        if local[0].is_some() {
            local[1] = None;
        }
        let mut commands = Vec::new();
        for (name, at) in NAMES.iter().zip(local) {
            if u.arbitrary()? {
                let old = if u.ratio(1, 8)? { optional_oid(u)? } else { at };
                let new = optional_oid(u)?;
                let name = ref_name(name);
                commands.push(RefUpdate { name, old, new });
            }
        }
        let atomicity = if u.arbitrary()? {
            Atomicity::AllOrNothing
        } else {
            Atomicity::PerRef
        };
        let here = (0..u.int_in_range(0..=3)?).map(|_| oid(u)).collect::<Result<_>>()?;
        Ok(Self {
            announcements,
            states,
            local,
            commands,
            atomicity,
            here,
        })
    }
}

fn announcement(u: &mut Unstructured<'_>) -> Result<Option<Announcement>> {
    if u.ratio(1, 4)? {
        return Ok(None);
    }
    Ok(Some(Announcement {
        status: entry_status(
            u,
            &[
                None,
                Some(EntryStatus::Held),
                Some(EntryStatus::Asleep),
                Some(EntryStatus::Releasing),
            ],
        )?,
        names_service: u.ratio(3, 4)?,
        lists: u.arbitrary()?,
    }))
}

fn state(u: &mut Unstructured<'_>, n: u8) -> Result<State> {
    Ok(State {
        // Ids fall, so that of one second the later one wins.
        number: 100 - n,
        author: u.choose_index(AUTHORS_LEN)?,
        created_at: u.int_in_range(1..=4)?,
        status: entry_status(
            u,
            &[
                None,
                Some(EntryStatus::Held),
                Some(EntryStatus::Releasing),
                Some(EntryStatus::Stuck),
            ],
        )?,
        refs: refs(u)?,
    })
}

/// `None`: served.
fn entry_status(u: &mut Unstructured<'_>, of: &[Option<EntryStatus>]) -> Result<Option<EntryStatus>> {
    u.choose(of).copied()
}

fn refs(u: &mut Unstructured<'_>) -> Result<Refs> {
    let mut refs = Refs::default();
    for value in &mut refs {
        *value = optional_oid(u)?;
    }
    Ok(refs)
}

fn optional_oid(u: &mut Unstructured<'_>) -> Result<Option<Oid>> {
    Ok(if u.arbitrary()? { Some(oid(u)?) } else { None })
}

fn oid(u: &mut Unstructured<'_>) -> Result<Oid> {
    let byte = u.int_in_range(1..=3)?;
    Ok(Oid::from_bytes([byte; Oid::LEN]).expect("not the null id"))
}

fn ref_name(name: &str) -> RefName {
    name.parse().expect("a ref name")
}

fn named(refs: &Refs) -> BTreeMap<RefName, Oid> {
    let named = NAMES
        .iter()
        .zip(refs)
        .filter_map(|(name, oid)| Some((ref_name(name), (*oid)?)));
    named.collect()
}

impl Announcement {
    fn event(&self, number: usize) -> Event {
        let mut tags = vec![vec!["d".to_owned(), "r".to_owned()]];
        if self.names_service {
            tags.push(vec!["clone".to_owned(), "https://svc/npub/r.git".to_owned()]);
            tags.push(vec!["relays".to_owned(), "wss://svc".to_owned()]);
        }
        let listed = (0..AUTHORS_LEN).filter(|n| self.lists[*n]).map(|n| author(n).to_hex());
        tags.push(std::iter::once("maintainers".to_owned()).chain(listed).collect());
        event(
            50 + u8::try_from(number).expect("few"),
            author(number),
            1,
            ANNOUNCEMENT,
            &tags,
        )
    }

    /// Whether anything may be decided by it.
    fn counts(&self) -> bool {
        self.status != Some(EntryStatus::Asleep)
    }
}

impl State {
    fn id(&self) -> EventId {
        self.event().id
    }

    fn event(&self) -> Event {
        let refs = named(&self.refs)
            .into_iter()
            .map(|(name, oid)| vec![name.to_string(), oid.to_string()]);
        let tags: Vec<Vec<String>> = std::iter::once(vec!["d".to_owned(), "r".to_owned()])
            .chain(refs)
            .collect();
        event(self.number, author(self.author), self.created_at, STATE, &tags)
    }

    /// The later the newer: the lower id wins in one second.
    fn revision(&self) -> (u64, u8) {
        (self.created_at, u8::MAX - self.number)
    }

    fn is_held(&self) -> bool {
        self.status == Some(EntryStatus::Held)
    }

    fn is_possible(&self) -> bool {
        self.refs[0].is_none() || self.refs[1].is_none()
    }
}

impl Scene {
    fn coordinate() -> Coordinate {
        Coordinate {
            owner: author(0),
            identifier: "r".parse().expect("an identifier"),
        }
    }

    fn facts(&self) -> Facts {
        let (mut served, mut entries) = (Vec::new(), Vec::new());
        let announcements = self.announcements.iter().enumerate();
        let announcements = announcements.filter_map(|(n, it)| it.as_ref().map(|it| (it.event(n), it.status)));
        let states = self.states.iter().map(|state| (state.event(), state.status));
        for (event, status) in announcements.chain(states) {
            match status {
                None => served.push(event),
                Some(status) => entries.push(entry(event, status)),
            }
        }
        Facts::assemble(
            "svc".parse().expect("a service"),
            MaintainerMode::Hybrid,
            Arc::new(Access::default()),
            Covered {
                coordinates: BTreeSet::from([Self::coordinate()]),
                ..Covered::default()
            },
            Reading {
                last_lease: String::new(),
                now: 1000,
                dirty: BTreeMap::new(),
                noted: BTreeMap::new(),
                listed_by: BTreeMap::new(),
                entries,
                placeholders: Vec::new(),
            },
            served,
        )
    }

    /// The owner and whoever is listed by somebody who counts, as the legacy tag has it.
    fn maintainers(&self) -> BTreeSet<usize> {
        let announcement = |n: usize| self.announcements[n].as_ref().filter(|it| it.counts());
        let mut maintainers: BTreeSet<usize> = announcement(0).map(|_| 0).into_iter().collect();
        for _ in 0..AUTHORS_LEN {
            let listed = maintainers.iter().filter_map(|n| announcement(*n)).map(|it| it.lists);
            let listed: Vec<usize> = listed
                .flat_map(|lists| (0..AUTHORS_LEN).filter(move |n| lists[*n]))
                .collect();
            maintainers.extend(listed);
        }
        maintainers
    }

    fn authorised(&self) -> impl Iterator<Item = &State> {
        let maintainers = self.maintainers();
        self.states
            .iter()
            .filter(move |state| maintainers.contains(&state.author))
    }

    fn governing(&self) -> Option<&State> {
        self.authorised()
            .filter(|state| !state.is_held())
            .max_by_key(|state| state.revision())
    }

    /// The governing state and the held ones that are newer.
    fn candidates(&self) -> impl Iterator<Item = &State> {
        let governing = self.governing().map(State::revision);
        self.authorised().filter(move |state| {
            Some(state.revision()) == governing || (state.is_held() && Some(state.revision()) > governing)
        })
    }

    fn check_push(&self) {
        let (coordinate, local) = (Self::coordinate(), named(&self.local));
        let facts = self.facts();
        let target = PushTarget {
            coordinate: &coordinate,
            refs: &local,
        };
        let command = |update: &RefUpdate| PushCommand {
            name: update.name.to_string(),
            update: Ok(update.clone()),
        };
        let commands: Vec<PushCommand> = self.commands.iter().map(command).collect();
        let decision = decide_push(&facts, target, &commands, self.atomicity);
        assert_eq!(decision.commands.len(), self.commands.len());

        let mut resulting = local.clone();
        for command in &self.commands {
            match command.new {
                Some(oid) => resulting.insert(command.name.clone(), oid),
                None => resulting.remove(&command.name),
            };
        }
        let declares_it = |state: &&State| state.is_possible() && named(&state.refs) == resulting;
        let meant = self
            .candidates()
            .filter(declares_it)
            .max_by_key(|state| state.revision());
        let declares_each = |state: &&State| {
            let refs = named(&state.refs);
            let declares = |command: &RefUpdate| refs.get(&command.name).copied() == command.new;
            state.is_possible() && self.commands.iter().all(declares)
        };
        let is_whole = meant.is_some();
        let part_of = || {
            self.candidates()
                .filter(declares_each)
                .max_by_key(|state| state.revision())
        };
        let meant = meant.or_else(part_of);
        let in_place = |command: &RefUpdate| local.get(&command.name).copied() == command.new;
        let stale = |command: &RefUpdate| local.get(&command.name).copied() != command.old;
        let each: Vec<bool> = self
            .commands
            .iter()
            .map(|command| in_place(command) || (!stale(command) && meant.is_some()))
            .collect();
        let none = self.atomicity == Atomicity::AllOrNothing && each.contains(&false);
        for ((command, commanded), allowed) in self.commands.iter().zip(&decision.commands).zip(each) {
            match &commanded.verdict {
                Verdict::InPlace => assert!(!none && in_place(command), "{command:?}"),
                Verdict::Allow(update) | Verdict::Part(update) => {
                    assert_eq!(update, command);
                    assert!(!none && allowed && !in_place(command), "{command:?}");
                    assert_eq!(matches!(commanded.verdict, Verdict::Allow(_)), is_whole, "{command:?}");
                }
                Verdict::Refuse { reason } => assert!(none || !allowed, "{command:?}: {reason}"),
                Verdict::Stage { .. } => panic!("{command:?} is no PR commit"),
            }
        }
        self.check_extended(&decision.extend, meant);
    }

    /// Only the deadlines of the events that the push fulfils are extended.
    fn check_extended(&self, extended: &BTreeSet<EventId>, meant: Option<&State>) {
        let own = self.announcements[0].as_ref().map(|it| it.event(0).id);
        let meant = meant.filter(|state| state.is_held()).map(State::id);
        for id in extended {
            assert!(Some(*id) == own || Some(*id) == meant, "{id}");
        }
    }

    /// A reconcile aligns the repository with a state that may govern it and whose objects are here, never with an
    /// older one.
    fn check_plan(&self) {
        let (coordinate, mut local) = (Self::coordinate(), named(&self.local));
        let facts = self.facts();
        let here = OnDisk {
            refs: local.clone(),
            head: None,
            objects: self.here.iter().map(|oid| (*oid, ObjectKind::Commit)).collect(),
            ..OnDisk::default()
        };
        let disk = Disk {
            repositories: BTreeMap::from([(coordinate.clone(), here)]),
            ..Disk::default()
        };
        let settings = PlanSettings {
            sleep_secs: 60,
            pull_requests: PullRequestLimits::DEFAULT,
        };
        let plan = plan(&facts, &disk, &settings);
        for alignment in plan
            .alignments
            .iter()
            .filter(|alignment| alignment.coordinate == coordinate)
        {
            let state = self
                .candidates()
                .find(|state| state.id() == alignment.state_id)
                .expect("a candidate");
            for update in &alignment.updates {
                assert_eq!(local.get(&update.name).copied(), update.old);
                match update.new {
                    Some(oid) => local.insert(update.name.clone(), oid),
                    None => local.remove(&update.name),
                };
            }
            assert_eq!(local, named(&state.refs));
            assert!(self.has_objects_of(state), "{alignment:?}");
        }
        for release in &plan.releases {
            if let Some(state) = self.states.iter().find(|state| state.id() == release.event.id) {
                assert!(self.has_objects_of(state), "{release:?}");
            }
        }
    }

    fn has_objects_of(&self, state: &State) -> bool {
        state.is_possible() && state.refs.iter().flatten().all(|oid| self.here.contains(oid))
    }
}

fn entry(event: Event, status: EntryStatus) -> Entry {
    Entry {
        coordinates: BTreeSet::from([Scene::coordinate()]),
        event: event.into(),
        status,
        source: String::new(),
        held_since: 1,
        deadline: 2000,
        waiting_for: String::new(),
        release_error: String::new(),
        releasing_since: None,
        after: BTreeSet::new(),
    }
}
