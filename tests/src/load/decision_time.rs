//! What each decision takes with every limit filled by one attacker under the identifier of somebody else: on facts
//! that are loaded as the programs load them, from a purgatory in memory and the built-in relay.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::types::Timestamp;
use relay::EventPolicy;
use relay::RelayLimits;
use relay::RelayServer;
use shared::git::ObjectKind;
use shared::git::Oid;
use shared::git::PushCommand;
use shared::git::RefName;
use shared::git::RefUpdate;
use shared::load_facts::FactLoader;
use shared::load_facts::FactsScope;
use shared::load_facts::Reach;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::options::access_files::AccessFiles;
use shared::options::access_files::AccessPaths;
use shared::purgatory::Hold;
use shared::purgatory::Limits;
use shared::purgatory::Purgatory;
use shared::purgatory::Room;
use shared::relay_client::RelayClient;
use shared::rules::Atomicity;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::GitEvent;
use shared::rules::MaintainerMode;
use shared::rules::OnDisk;
use shared::rules::PlanSettings;
use shared::rules::PullRequestLimits;
use shared::rules::PushTarget;
use shared::rules::decide_admission;
use shared::rules::decide_push;
use shared::rules::plan;
use shared::write_policy::Answer;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;

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

/// Which states are newer.
#[derive(Debug, Clone, Copy)]
pub enum Newer {
    /// The held ones: each is the next one of its repositories if all that it declares is on disk.
    Held,
    /// The served ones, which govern: each held one is overtaken in each repository.
    Served,
}

impl Newer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Held, Self::Served];

    fn of_served(self) -> u64 {
        match self {
            Self::Held => 1,
            Self::Served => 3,
        }
    }
}

impl fmt::Display for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "newer states are held",
            Self::Served => "newer states are served",
        })
    }
}

/// What one decision took, the least of some runs, each on facts that were loaded anew.
#[derive(Debug)]
pub struct DecisionTime {
    /// What was decided, about whose repository.
    pub what: String,
    /// The decision alone.
    pub decision: Duration,
    /// Loading the facts, with what the purgatory and the relay took to answer.
    pub load: Duration,
}

/// Longest time that a decision may take.
pub const DECISION_MAX: Duration = Duration::from_millis(5);

/// As many PRs as the worker reconciles under one lock: twice `UNRECONCILED_PAGE_MAX` of
/// `shared/src/purgatory/store/keys.rs`.
const LOOKED_AT_TOGETHER: usize = 8;

/// Measures each decision about the victim's repository, and about the attacker's, beside so many announcements and
/// states of the attacker, held and served, and held PRs.
///
/// # Panics
/// An event of this benchmark is malformed, or the relay does not take it.
pub async fn measure(attack: Attack, newer: Newer, count: usize) -> Vec<DecisionTime> {
    let siege = Siege::new(attack, newer, count);
    let bench = Bench::start(&siege).await;
    let mut times = Vec::new();
    let attackers = [siege.attacking.first(), siege.attacking.get(count / 2)];
    let attackers = attackers.into_iter().flatten().map(|own| ("an attacker", own));
    let offered = siege
        .attacking
        .iter()
        .take(LOOKED_AT_TOGETHER)
        .map(|own| own.pull_request.id);
    let scopes = [
        ("", Reach::Members, BTreeSet::new()),
        (", of all that list it, and of 8 PRs", Reach::FULL, offered.collect()),
    ];
    for (whose, own) in [("the victim", &siege.victim)].into_iter().chain(attackers) {
        for (far, reach, pull_request_ids) in &scopes {
            let scope = FactsScope {
                coordinates: [own.coordinate.clone()].into(),
                reach: *reach,
                pull_request_ids: pull_request_ids.clone(),
                ..FactsScope::default()
            };
            for (what, decide) in DECISIONS {
                let (decision, load) = bench.time(own, &scope, *decide).await;
                times.push(DecisionTime {
                    what: format!("{what}, of {whose}{far}"),
                    decision,
                    load,
                });
            }
        }
    }
    bench.relay.stop().await;
    times
}

/// Decides something about the repository that these events are of.
type Decide = fn(&Published, &Known);

const DECISIONS: &[(&str, Decide)] = &[
    ("an announcement arrives", |own, known| {
        admit(&own.announcement, &known.facts);
    }),
    ("a state arrives", |own, known| admit(&own.state, &known.facts)),
    ("a PR arrives", |own, known| admit(&own.pull_request, &known.facts)),
    ("a push", |own, known| push(&own.coordinate, &known.facts)),
    ("what governs it", |own, known| {
        black_box(known.facts.governing_state(&own.coordinate).is_some());
    }),
    ("a reconcile", |_, known| {
        black_box(plan(&known.facts, &Disk::default(), &SETTINGS).releases.len());
    }),
    ("a reconcile with all objects", |_, known| {
        black_box(plan(&known.facts, &known.disk, &SETTINGS).releases.len());
    }),
];

/// What a decision is made of.
struct Known {
    facts: Facts,
    /// Each repository has all objects, and no refs yet.
    disk: Disk,
}

impl Known {
    fn new(facts: Facts) -> Self {
        let on_disk = OnDisk {
            objects: [(oid(), ObjectKind::Commit)].into(),
            ..OnDisk::default()
        };
        let hosted = facts.hosted().iter().cloned();
        let disk = Disk {
            repositories: hosted.map(|at| (at, on_disk.clone())).collect(),
            ..Disk::default()
        };
        Self { facts, disk }
    }
}

/// What somebody publishes about one repository.
struct Published {
    coordinate: Coordinate,
    announcement: Event,
    state: Event,
    held_state: Event,
    pull_request: Event,
}

impl Published {
    fn new(keys: &Keys, newer: Newer, listed: &[&str], offered: &[String]) -> Self {
        let announcement = announce(keys, listed, 1);
        Self {
            coordinate: Coordinate {
                owner: keys.public_key(),
                identifier: identifier(),
            },
            announcement,
            state: declare(keys, newer.of_served()),
            held_state: declare_in_one_of_three_ways(keys, 2),
            pull_request: offer(keys, offered),
        }
    }
}

/// A victim with a repository, and an attacker with many keys.
struct Siege {
    victim: Published,
    attacking: Vec<Published>,
}

impl Siege {
    fn new(attack: Attack, newer: Newer, count: usize) -> Self {
        let victim = Keys::generate();
        let address = |keys: &Keys| format!("30617:{}:{IDENTIFIER}", keys.public_key().to_hex());
        let keys: Vec<Keys> = (0..count).map(|_| Keys::generate()).collect();
        let hex: Vec<String> = keys.iter().map(|keys| keys.public_key().to_hex()).collect();
        let victims = victim.public_key().to_hex();
        let attacking = keys.iter().enumerate().map(|(number, own)| {
            let mut listed: Vec<&str> = attack.listed(number, count).iter().map(|n| hex[*n].as_str()).collect();
            if let Attack::CliqueAroundVictim = attack {
                listed.push(&victims);
            }
            let next = (0..15.min(count)).map(|next| address(&keys[(number + next) % count]));
            let offered: Vec<String> = next.chain([address(&victim)]).collect();
            Published::new(own, newer, &listed, &offered)
        });
        Self {
            attacking: attacking.collect(),
            victim: Published::new(&victim, newer, &[], &[address(&victim)]),
        }
    }
}

/// A purgatory in memory and a relay, with everything in them.
struct Bench {
    loader: FactLoader,
    relay: RelayServer,
    _folder: TempDir,
}

/// Takes whatever comes.
struct Everything;

impl EventPolicy for Everything {
    async fn judge(&mut self, _: &Event, _: IpAddr) -> Answer {
        Answer::Accept
    }
}

impl Bench {
    async fn start(siege: &Siege) -> Self {
        let folder = TempDir::new().expect("a folder");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("ws://{}/", listener.local_addr().expect("an address"));
        let relay = RelayServer::start(listener, folder.path(), Everything, RelayLimits::default());
        let relay = relay.await.expect("a relay");
        let loader = FactLoader {
            purgatory: Purgatory::in_memory(Limits::DEFAULT, std::sync::Arc::new(now)),
            relay: RelayClient::new(url.parse().expect("an address"), Duration::from_secs(60)),
            service: "svc".parse().expect("a domain"),
            mode: MaintainerMode::Hybrid,
            access: AccessFiles::open(AccessPaths::default()).expect("no lists"),
        };
        let mut client = NostrClient::connect(&url).await;
        for (place, own) in [&siege.victim].into_iter().chain(&siege.attacking).enumerate() {
            // Every other attacker's are held only.
            if place % 2 == 0 {
                for event in [&own.announcement, &own.state] {
                    assert!(client.send(event).await.taken);
                }
            } else {
                hold(&loader.purgatory, &own.announcement).await;
            }
            for event in [&own.held_state, &own.pull_request] {
                hold(&loader.purgatory, event).await;
            }
        }
        Self {
            loader,
            relay,
            _folder: folder,
        }
    }

    /// How long a decision takes, and loading its facts.
    async fn time(&self, own: &Published, scope: &FactsScope, decide: Decide) -> (Duration, Duration) {
        let mut least = (Duration::MAX, Duration::MAX);
        for _ in 0..RUNS {
            let started = Instant::now();
            let (facts, _) = self.loader.load(scope).await.expect("facts");
            let load = started.elapsed();
            let known = Known::new(facts);
            let started = Instant::now();
            decide(own, &known);
            least = (least.0.min(started.elapsed()), least.1.min(load));
        }
        least
    }
}

async fn hold(purgatory: &Purgatory, event: &Event) {
    let hold = Hold {
        coordinates: parsed(event).coordinates(),
        event: event.clone(),
        source: String::new(),
        hold_secs: 1000,
        extend: [].into(),
        room: Room::Always,
        is_new_repository: false,
        behind: None,
    };
    purgatory.hold(&hold).await.expect("it is held");
}

fn parsed(event: &Event) -> GitEvent {
    GitEvent::parse(event).ok().flatten().expect("well-formed")
}

fn admit(event: &Event, facts: &Facts) {
    black_box(decide_admission(event, &parsed(event), facts));
}

fn push(coordinate: &Coordinate, facts: &Facts) {
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
        coordinate,
        refs: &BTreeMap::new(),
    };
    black_box(decide_push(facts, target, &[command], Atomicity::PerRef));
}

const RUNS: usize = 5;

/// One for all events: which of them are newer decides what a decision takes.
static STARTED: LazyLock<u64> = LazyLock::new(|| now() - 10);

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

/// Declares a commit, or a part of its id, which can never be fulfilled, or nothing.
fn declare_in_one_of_three_ways(keys: &Keys, created_at: u64) -> Event {
    let oid = oid().to_string();
    let tags: [&[&[&str]]; 3] = [
        &[&["d", IDENTIFIER], &["refs/heads/main", &oid]],
        &[&["d", IDENTIFIER], &["refs/heads/main", &oid[..8]]],
        &[&["d", IDENTIFIER]],
    ];
    let way = usize::from(keys.public_key().to_bytes()[0]) % tags.len();
    sign(keys, nip34::STATE, created_at, tags[way])
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
        .custom_created_at(Timestamp::from_secs(*STARTED + created_at))
        .finalize(keys)
        .expect("signed")
}
