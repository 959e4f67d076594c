//! What each decision takes with every limit filled by one attacker under the identifier of somebody else.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::types::Timestamp;
use shared::git::Oid;
use shared::git::PushCommand;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::Entry;
use shared::purgatory::EntryStatus;
use shared::purgatory::Reading;
use shared::rules::Access;
use shared::rules::Atomicity;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::GitEvent;
use shared::rules::MaintainerMode;
use shared::rules::PlanSettings;
use shared::rules::PullRequestLimits;
use shared::rules::PushTarget;
use shared::rules::decide_admission;
use shared::rules::decide_push;
use shared::rules::plan;

/// How the attacker's announcements list each other.
#[derive(Debug, Clone, Copy)]
pub enum Attack {
    /// Each lists the next one.
    Chain,
    /// The first one lists the others, and they list the first.
    Star,
    /// Each lists the two hundred after it.
    Clique,
    /// The same, and each the victim.
    CliqueAroundVictim,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Chain, Self::Star, Self::Clique, Self::CliqueAroundVictim];

    fn listed(self, number: usize, count: usize) -> Vec<usize> {
        match self {
            Self::Chain => vec![(number + 1) % count],
            Self::Star if number == 0 => (1..count.min(LISTED_MAX)).collect(),
            Self::Star => vec![0],
            Self::Clique => (1..count.min(LISTED_MAX)).map(|next| (number + next) % count).collect(),
            Self::CliqueAroundVictim => (1..count.min(LISTED_MAX - 1))
                .map(|next| (number + next) % count)
                .collect(),
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chain => "a chain",
            Self::Star => "a star",
            Self::Clique => "a clique",
            Self::CliqueAroundVictim => "a clique that lists the victim",
        })
    }
}

/// As many keys as one announcement may list.
const LISTED_MAX: usize = 200;

/// What each decision took, the least of some runs, each on fresh facts.
#[derive(Debug)]
pub struct DecisionTimes {
    /// Each decision with its time.
    pub decisions: Vec<(&'static str, Duration)>,
}

impl DecisionTimes {
    /// Measures each decision about the victim's repository, and about the attacker's, beside so many announcements,
    /// states and PRs of the attacker.
    ///
    /// # Panics
    /// An event of this benchmark is malformed.
    pub fn measure(attack: Attack, count: usize) -> Self {
        let scene = Siege::new(attack, count);
        let mut decisions = vec![("facts from what was read", scene.time(|_, _| ()))];
        let mut measure = |name, decide: &dyn Fn(&Siege, &Facts)| {
            decisions.push((name, scene.time_decision(decide)));
        };
        measure("the victim's announcement arrives", &|scene, facts| {
            admit(&scene.announcement, facts)
        });
        measure("the victim's state arrives", &|scene, facts| admit(&scene.state, facts));
        measure("a PR to the victim arrives", &|scene, facts| {
            admit(&scene.pull_request, facts)
        });
        measure("a push of the victim", &|scene, facts| scene.push(facts));
        measure("the victim's governing state", &|scene, facts| {
            black_box(facts.governing_state(&scene.coordinate).is_some());
        });
        measure("whether the victim's repository declares refs", &|scene, facts| {
            black_box(facts.declares_refs(&scene.coordinate));
        });
        if let Some(last) = scene
            .attacking
            .iter()
            .rposition(|event| event.kind.as_u16() == nip34::ANNOUNCEMENT)
        {
            let (own, last) = (scene.attacking[0].clone(), scene.attacking[last].clone());
            measure("an announcement of the attacker arrives", &|_, facts| {
                admit(&own, facts)
            });
            let state = scene
                .attacking
                .iter()
                .find(|event| event.kind.as_u16() == nip34::STATE)
                .cloned();
            measure("a state of the attacker arrives", &|_, facts| {
                state.iter().for_each(|state| admit(state, facts))
            });
            let pull_request = scene.attacking.last().cloned();
            measure("a PR of the attacker arrives", &|_, facts| {
                pull_request.iter().for_each(|pr| admit(pr, facts))
            });
            let last = coordinate(&last);
            measure("the governing state of an attacker's repository", &|_, facts| {
                black_box(facts.governing_state(&last).is_some());
            });
        }
        measure("plan of everything under the identifier", &|_, facts| {
            black_box(plan(facts, &Disk::default(), &SETTINGS).releases.len());
        });
        Self { decisions }
    }
}

fn admit(event: &Event, facts: &Facts) {
    let git_event = GitEvent::parse(event).ok().flatten().expect("well-formed");
    black_box(decide_admission(event, &git_event, facts));
}

/// A victim with a served repository, and an attacker with many keys.
struct Siege {
    coordinate: Coordinate,
    announcement: Event,
    state: Event,
    next_state: Event,
    pull_request: Event,
    /// Announcements first, then states, then PRs.
    attacking: Vec<Event>,
}

impl Siege {
    fn new(attack: Attack, count: usize) -> Self {
        let victim = Keys::generate();
        let announcement = announce(&victim, &[], 1);
        let coordinate = coordinate(&announcement);
        let keys: Vec<Keys> = (0..count).map(|_| Keys::generate()).collect();
        let hex: Vec<String> = keys.iter().map(|keys| keys.public_key().to_hex()).collect();
        let mut attacking: Vec<Event> = Vec::new();
        for (number, own) in keys.iter().enumerate() {
            let mut listed: Vec<&str> = attack.listed(number, count).iter().map(|n| hex[*n].as_str()).collect();
            let victim = victim.public_key().to_hex();
            if let Attack::CliqueAroundVictim = attack {
                listed.push(&victim);
            }
            attacking.push(announce(own, &listed, 1));
        }
        attacking.extend(keys.iter().map(|own| declare(own, 2)));
        for (number, own) in keys.iter().enumerate() {
            let offered: Vec<String> = (0..16.min(count))
                .map(|next| format!("30617:{}:{IDENTIFIER}", hex[(number + next) % count]))
                .chain((count < 16).then(|| coordinate.to_string()))
                .collect();
            attacking.push(offer(own, &offered));
        }
        Self {
            state: declare(&victim, 1),
            next_state: declare(&victim, 2),
            pull_request: offer(&victim, &[coordinate.to_string()]),
            coordinate,
            announcement,
            attacking,
        }
    }

    fn facts(&self) -> Facts {
        let held = |event: &Event| Entry {
            identifiers: BTreeSet::from([identifier()]),
            event: event.clone(),
            status: EntryStatus::Held,
            source: String::new(),
            held_since: 1,
            deadline: 2000,
            waiting_for: String::new(),
            release_error: String::new(),
            after: BTreeSet::new(),
        };
        let reading = Reading {
            now: 1000,
            dirty: BTreeMap::new(),
            entries: self.attacking.iter().chain([&self.next_state]).map(held).collect(),
            placeholders: Vec::new(),
        };
        let served = vec![self.announcement.clone(), self.state.clone()];
        let service = "svc".parse().expect("a domain");
        let access = Arc::new(Access::default());
        Facts::assemble(
            service,
            MaintainerMode::Hybrid,
            access,
            BTreeSet::from([identifier()]),
            reading,
            served,
        )
    }

    fn push(&self, facts: &Facts) {
        let name: RefName = "refs/heads/main".parse().expect("a ref name");
        let command = PushCommand {
            name: name.to_string(),
            update: Ok(RefUpdate {
                name,
                old: None,
                new: Some(oid()),
            }),
        };
        let target = PushTarget {
            coordinate: &self.coordinate,
            refs: &BTreeMap::new(),
        };
        black_box(decide_push(facts, target, &[command], Atomicity::PerRef));
    }

    /// How long it takes to assemble the facts and to decide.
    fn time(&self, decide: impl Fn(&Self, &Facts)) -> Duration {
        let run = || {
            let started = Instant::now();
            decide(self, &self.facts());
            started.elapsed()
        };
        (0..RUNS).map(|_| run()).min().unwrap_or_default()
    }

    /// How long it takes to decide on fresh facts.
    fn time_decision(&self, decide: &dyn Fn(&Self, &Facts)) -> Duration {
        let run = || {
            let facts = self.facts();
            let started = Instant::now();
            decide(self, &facts);
            started.elapsed()
        };
        (0..RUNS).map(|_| run()).min().unwrap_or_default()
    }
}

const RUNS: usize = 3;

const SETTINGS: PlanSettings = PlanSettings {
    sleep_secs: 1,
    pull_requests: PullRequestLimits::DEFAULT,
};

const IDENTIFIER: &str = "dotfiles";

fn identifier() -> Identifier {
    IDENTIFIER.parse().expect("an identifier")
}

fn oid() -> Oid {
    "a".repeat(40).parse().expect("an object id")
}

fn coordinate(announcement: &Event) -> Coordinate {
    Coordinate {
        owner: announcement.pubkey,
        identifier: identifier(),
    }
}

fn announce(keys: &Keys, listed: &[&str], created_at: u64) -> Event {
    let maintainers: Vec<&str> = ["maintainers"].into_iter().chain(listed.iter().copied()).collect();
    sign(
        keys,
        nip34::ANNOUNCEMENT,
        created_at,
        &[
            &["d", IDENTIFIER],
            &["clone", "https://svc/npub/dotfiles.git"],
            &["relays", "wss://svc"],
            &maintainers,
        ],
    )
}

fn declare(keys: &Keys, created_at: u64) -> Event {
    let oid = oid().to_string();
    sign(
        keys,
        nip34::STATE,
        created_at,
        &[&["d", IDENTIFIER], &["refs/heads/main", &oid]],
    )
}

fn offer(keys: &Keys, offered: &[String]) -> Event {
    let oid = oid().to_string();
    let addresses: Vec<[&str; 2]> = offered.iter().map(|address| ["a", address.as_str()]).collect();
    let mut tags: Vec<&[&str]> = addresses.iter().map(<[&str; 2]>::as_slice).collect();
    let commit = ["c", &oid];
    tags.push(&commit);
    sign(keys, nip34::PULL_REQUEST, 1, &tags)
}

fn sign(keys: &Keys, kind: u16, created_at: u64, tags: &[&[&str]]) -> Event {
    let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).expect("a tag"));
    EventBuilder::new(Kind::from_u16(kind), "")
        .tags(tags)
        .custom_created_at(Timestamp::from_secs(created_at))
        .finalize(keys)
        .expect("signed")
}
