//! A purgatory to test on either store, and events to put into it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::EventId;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::key::PublicKey;
use nostr::key::SecretKey;
use nostr::types::Timestamp;
use shared::git::Oid;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::Entry;
use shared::purgatory::Hold;
use shared::purgatory::Limits;
use shared::purgatory::Purgatory;
use shared::purgatory::Reading;
use shared::purgatory::RedisSettings;
use shared::purgatory::Release;
use shared::purgatory::Room;

use crate::server::RedisServer;

pub(crate) const LIMITS: Limits = Limits {
    hold: Limits::DEFAULT.hold,
    event_bytes_max: 20_000,
    entries_per_author_max: 4,
    bytes_per_author_max: 30_000,
    entries_per_source_max: 5,
    bytes_per_source_max: 50_000,
    new_repositories_per_day_max: 3,
    entries_per_share_max: 40,
    entries_per_repository_max: 30,
    entries_max: 6,
    bytes_max: 70_000,
    placeholders_per_repository_max: 3,
    placeholders_per_source_max: 2,
    placeholders_max: 3,
};

/// Long enough not to pass during a test.
pub(crate) const LONG: u64 = 1000;

/// A purgatory and what moves its clock.
pub(crate) struct Fixture {
    pub(crate) purgatory: Purgatory,
    clock: TestClock,
}

enum TestClock {
    Memory(Arc<AtomicU64>),
    Redis(RedisServer),
}

/// Settings for a Redis on a busy machine: one that takes long to write to its disk is no failure.
pub(crate) fn settings(url: &str) -> RedisSettings {
    RedisSettings {
        slow: LATE,
        ..RedisSettings::at(url)
    }
}

/// Later than any answer.
const LATE: Duration = Duration::from_secs(10);

impl Fixture {
    pub(crate) fn memory() -> Self {
        let time = Arc::new(AtomicU64::new(1_700_000_000));
        let clock = Arc::clone(&time);
        Self {
            purgatory: Purgatory::in_memory(LIMITS, Arc::new(move || clock.load(Ordering::Relaxed))),
            clock: TestClock::Memory(time),
        }
    }

    pub(crate) async fn redis() -> Self {
        let server = RedisServer::start_as_asked().await;
        let settings = RedisSettings {
            place: server.place(),
            ..settings(&server.url())
        };
        Self {
            purgatory: Purgatory::connect(&settings, LIMITS).await.unwrap(),
            clock: TestClock::Redis(server),
        }
    }

    /// From now on only the limits on one repository are reached.
    pub(crate) fn set_limits_of_one_repository(&self) {
        self.purgatory.set_limits(Limits {
            event_bytes_max: 300_000,
            entries_per_author_max: 1_000,
            bytes_per_author_max: 100_000_000,
            entries_max: 1_000,
            bytes_max: 100_000_000,
            entries_per_source_max: 1_000,
            bytes_per_source_max: 100_000_000,
            ..LIMITS
        });
    }

    pub(crate) fn server(&self) -> &RedisServer {
        match &self.clock {
            TestClock::Redis(server) => server,
            TestClock::Memory(_) => panic!("not on redis"),
        }
    }

    /// Lets a second of the store's clock pass: Redis' own runs by itself.
    pub(crate) async fn let_a_second_pass(&self) {
        match &self.clock {
            TestClock::Memory(time) => {
                time.fetch_add(1, Ordering::Relaxed);
            }
            TestClock::Redis(server) => {
                let before = server.now().await;
                while server.now().await == before {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Reads [`everybodys`] repositories with these names.
    pub(crate) async fn read(&self, names: &[&str]) -> Reading {
        self.purgatory.read(&everybodys(names)).await.unwrap()
    }

    /// Returns the entry of an event with the identifier `repo`.
    pub(crate) async fn entry(&self, event: &Event) -> Option<Entry> {
        let reading = self.read(&["repo"]).await;
        reading.entries.into_iter().find(|e| e.event.id == event.id)
    }

    /// Reconciles every PR that is marked for it, and returns the names of their repositories, those first that have
    /// waited longest.
    pub(crate) async fn look_at_pull_requests(&self) -> Vec<String> {
        let dirty = self.purgatory.dirty_pull_requests(100).await.unwrap();
        let mut names = Vec::new();
        for (coordinate, _) in &dirty {
            loop {
                let unreconciled = self.purgatory.unreconciled_page(coordinate).await.unwrap();
                let noted = self
                    .purgatory
                    .note_reconciled(coordinate, &unreconciled, &BTreeMap::new())
                    .await;
                if !noted.unwrap() {
                    break;
                }
            }
            names.push(coordinate.identifier.to_string());
        }
        names.dedup();
        names
    }

    /// Clears every dirty mark, and returns the names of the repositories that had one, oldest change first.
    pub(crate) async fn clear_dirty(&self) -> Vec<String> {
        let dirty = self.purgatory.dirty(100).await.unwrap();
        let mut names = Vec::new();
        for (coordinate, number) in &dirty {
            assert!(self.purgatory.clear_dirty(coordinate, *number).await.unwrap());
            names.push(coordinate.identifier.to_string());
        }
        names.dedup();
        names
    }
}

pub(crate) fn identifier(name: &str) -> Identifier {
    name.parse().unwrap()
}

thread_local! {
    /// Who has signed anything in this test, which is a thread of its own, and the owner of `coordinates`.
    static OWNERS: RefCell<BTreeSet<PublicKey>> = RefCell::new(BTreeSet::from([somebody()]));
}

/// The owner of repositories of which only the names matter.
fn somebody() -> PublicKey {
    Keys::new(SecretKey::from_slice(&[7; 32]).unwrap()).public_key()
}

/// Repositories of one owner.
pub(crate) fn coordinates(names: &[&str]) -> BTreeSet<Coordinate> {
    let of = |name: &&str| Coordinate {
        owner: somebody(),
        identifier: identifier(name),
    };
    names.iter().map(of).collect()
}

/// The repositories with these names of everybody who has signed anything in this test.
pub(crate) fn everybodys(names: &[&str]) -> BTreeSet<Coordinate> {
    let owners = OWNERS.with_borrow(Clone::clone);
    let of = |owner: &PublicKey| {
        let owner = *owner;
        names.iter().map(move |name| Coordinate {
            owner,
            identifier: identifier(name),
        })
    };
    owners.iter().flat_map(of).collect()
}

/// The author's repository that an event speaks of.
pub(crate) fn home(event: &Event) -> BTreeSet<Coordinate> {
    OWNERS.with_borrow_mut(|owners| owners.insert(event.pubkey));
    BTreeSet::from([Coordinate {
        owner: event.pubkey,
        identifier: identifier(d_tag(event)),
    }])
}

pub(crate) fn ids<'e>(events: impl IntoIterator<Item = &'e Event>) -> BTreeSet<EventId> {
    events.into_iter().map(|event| event.id).collect()
}

pub(crate) fn oid(digit: char) -> Oid {
    digit.to_string().repeat(40).parse().unwrap()
}

pub(crate) fn coordinate(owner: &Keys, name: &str) -> Coordinate {
    OWNERS.with_borrow_mut(|owners| owners.insert(owner.public_key()));
    Coordinate {
        owner: owner.public_key(),
        identifier: identifier(name),
    }
}

pub(crate) fn announcement(author: &Keys, created_at: u64) -> Event {
    event(author, 30617, "repo", created_at)
}

/// An announcement that lists these as maintainers.
pub(crate) fn listing(author: &Keys, created_at: u64, listed: &[&Keys]) -> Event {
    let listed = listed.iter().map(|keys| keys.public_key());
    listing_of(author, "repo", created_at, listed)
}

/// An announcement of a repository with this name that lists these.
pub(crate) fn listing_of(
    author: &Keys,
    name: &str,
    created_at: u64,
    listed: impl IntoIterator<Item = PublicKey>,
) -> Event {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let listed: Vec<String> = listed.into_iter().map(|key| key.to_hex()).collect();
    let maintainers = ["maintainers"].into_iter().chain(listed.iter().map(String::as_str));
    EventBuilder::new(Kind::Custom(30617), count.to_string())
        .tag(Tag::parse(["d", name]).unwrap())
        .tag(Tag::parse(maintainers).unwrap())
        .custom_created_at(Timestamp::from_secs(created_at))
        .finalize(author)
        .unwrap()
}

pub(crate) fn state(author: &Keys, created_at: u64) -> Event {
    event(author, 30618, "repo", created_at)
}

/// Makes an event; two calls with the same arguments make two events.
pub(crate) fn event(author: &Keys, kind: u16, d: &str, created_at: u64) -> Event {
    large_event(author, kind, d, created_at, 0)
}

/// Makes a state of more than so many bytes.
pub(crate) fn large_state(author: &Keys, created_at: u64, bytes: usize) -> Event {
    large_event(author, 30618, "repo", created_at, bytes)
}

/// Makes an event with a content of more than so many bytes.
pub(crate) fn large_event(author: &Keys, kind: u16, d: &str, created_at: u64, bytes: usize) -> Event {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let padding = "x".repeat(bytes);
    EventBuilder::new(Kind::Custom(kind), format!("🦀 \"{count}\"\n{padding}"))
        .tag(Tag::parse(["d", d]).unwrap())
        .custom_created_at(Timestamp::from_secs(created_at))
        .finalize(author)
        .unwrap()
}

pub(crate) fn hold(event: &Event, hold_secs: u64) -> Hold {
    Hold {
        event: event.clone(),
        coordinates: home(event),
        source: "IP4 203.0.113.7".to_owned(),
        hold_secs,
        extend: BTreeSet::new(),
        room: Room::WithinLimits,
        is_new_repository: false,
        behind: None,
    }
}

/// Holds an event for long that came from elsewhere.
pub(crate) fn hold_from(event: &Event, source: &str) -> Hold {
    Hold {
        source: source.to_owned(),
        ..hold(event, LONG)
    }
}

pub(crate) fn release(event: &Event) -> Release {
    Release {
        event: event.clone().into(),
        coordinates: home(event),
        after: BTreeSet::new(),
    }
}

fn d_tag(event: &Event) -> &str {
    let tag = event.tags.iter().find(|tag| tag.as_slice()[0] == "d");
    &tag.unwrap().as_slice()[1]
}
