//! Both stores given the same random operations say the same, always. Times are no part of the comparison.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::Keys;
use nostr::key::PublicKey;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use shared::nip01::Deletion;
use shared::nip34::Coordinate;
use shared::purgatory::*;

use crate::fixture::*;
use crate::server::RedisServer;
use crate::server::now;

const CASES: usize = 50;
const OPERATIONS: usize = 60;
const NAMES: [&str; 2] = ["a", "b:c"];
const COMMITS: [char; 2] = ['a', 'b'];
/// Two of them are one for the limits.
const SOURCES: [&str; 4] = ["IP4 192.0.2.1", "IP6 2001:db8::1", "IP6 2001:db8::2", ""];

/// Seconds that are over at once, or never: what a step does then does not depend on when it is made.
fn secs() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(LONG)]
}

fn name_at(index: &Index) -> &'static str {
    NAMES[index.index(NAMES.len())]
}

/// One operation; numbers stand for events, identifiers and leases.
#[derive(Debug, Clone)]
enum Operation {
    Hold(Index, u64, Vec<Index>, Index),
    MarkDirty(Index),
    ClearDirty(Index, Index),
    ReconcilePullRequests(Index, bool),
    MarkOverdue(usize, u64),
    MarkReleasing(Vec<(Index, Vec<Index>)>, u64),
    TakeDue(usize, u64),
    Settle(Index, Settlement),
    Extend(Vec<Index>, u64),
    Expire(Index, Expiry),
    End(Vec<Index>),
    Delete(Index, Vec<Index>, bool),
    NoteWaiting(Index),
    PutPlaceholder(Index, Index, Index, u64),
    DropPlaceholder(Index, Index, Index),
    NoteListings(Index, bool, bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    let index = any::<Index>;
    let several = || prop::collection::vec(any::<Index>(), 0..3);
    let count_max = || prop_oneof![Just(1usize), Just(9)];
    let settlement = prop_oneof![
        Just(Settlement::Served),
        Just(Settlement::Dropped),
        Just(Settlement::GiveBack),
        secs().prop_map(|after_secs| Settlement::Retry {
            after_secs,
            error: "error: down".to_owned()
        }),
        secs().prop_map(|after_secs| Settlement::Stuck {
            after_secs,
            error: "blocked".to_owned()
        }),
    ];
    let expiry = prop_oneof![Just(Expiry::Gone), secs().prop_map(|secs| Expiry::Sleep { secs })];
    let release = (index(), several());
    prop_oneof![
        6 => (index(), secs(), several(), index()).prop_map(|(e, s, x, f)| Operation::Hold(e, s, x, f)),
        1 => index().prop_map(Operation::MarkDirty),
        2 => (index(), index()).prop_map(|(n, d)| Operation::ClearDirty(n, d)),
        2 => (index(), any::<bool>()).prop_map(|(n, s)| Operation::ReconcilePullRequests(n, s)),
        2 => (count_max(), secs()).prop_map(|(n, s)| Operation::MarkOverdue(n, s)),
        3 => (prop::collection::vec(release, 1..3), secs())
            .prop_map(|(r, s)| Operation::MarkReleasing(r, s)),
        2 => (count_max(), secs()).prop_map(|(n, s)| Operation::TakeDue(n, s)),
        3 => (index(), settlement).prop_map(|(l, s)| Operation::Settle(l, s)),
        2 => (several(), secs()).prop_map(|(e, s)| Operation::Extend(e, s)),
        3 => (index(), expiry).prop_map(|(e, x)| Operation::Expire(e, x)),
        1 => several().prop_map(Operation::End),
        1 => (index(), several(), any::<bool>()).prop_map(|(a, e, x)| Operation::Delete(a, e, x)),
        1 => index().prop_map(Operation::NoteWaiting),
        2 => (index(), index(), index(), secs()).prop_map(|(e, n, c, s)| Operation::PutPlaceholder(e, n, c, s)),
        1 => (index(), index(), index()).prop_map(|(e, n, c)| Operation::DropPlaceholder(e, n, c)),
        1 => (index(), any::<bool>(), any::<bool>()).prop_map(|(n, s, h)| Operation::NoteListings(n, s, h)),
    ]
}

/// Two authors' announcements and states, some large, and PRs of one and two repositories.
struct World {
    authors: [Keys; 2],
    events: Vec<(Event, BTreeSet<Coordinate>)>,
}

impl World {
    fn new() -> Self {
        let authors = [Keys::generate(), Keys::generate()];
        let mut events = Vec::new();
        for author in &authors {
            for (kind, created_at) in [(30617, 9), (30617, 10), (30617, 10), (30618, 9), (30618, 10)] {
                for (name, bytes) in NAMES.into_iter().zip([0, 13_000]) {
                    let event = match (kind, created_at) {
                        (30617, 10) => listing_of(author, name, created_at, authors.iter().map(Keys::public_key)),
                        _ => large_event(author, kind, name, created_at, bytes),
                    };
                    let at = home(&event);
                    events.push((event, at));
                }
            }
        }
        for names in [&NAMES[..], &NAMES[..1]] {
            let event = event(&authors[0], 1618, "unused", 9);
            let at = names.iter().map(|name| coordinate(&authors[0], name)).collect();
            events.push((event, at));
        }
        Self { authors, events }
    }

    fn coordinates(&self) -> BTreeSet<Coordinate> {
        let of = |author| NAMES.map(|name| coordinate(author, name));
        self.authors.iter().flat_map(of).collect()
    }

    fn event(&self, index: &Index) -> (Event, BTreeSet<Coordinate>) {
        index.get(&self.events).clone()
    }

    fn ids(&self, indices: &[Index]) -> BTreeSet<EventId> {
        let events = indices.iter().map(|index| self.event(index).0.id);
        events.collect()
    }
}

/// Entries, placeholders, who lists whom, what is dirty, and what is to be looked at.
type View = (
    Vec<Entry>,
    Vec<Placeholder>,
    BTreeMap<Coordinate, (BTreeSet<PublicKey>, usize)>,
    Vec<Coordinate>,
    Vec<BTreeSet<EventId>>,
);

/// One store, with the numbers it gave out: they differ between stores, their places in these lists do not.
struct Store {
    purgatory: Purgatory,
    leases: Vec<(EventId, Lease)>,
    dirty: Vec<DirtyNumber>,
}

impl Store {
    fn new(purgatory: Purgatory) -> Self {
        Self {
            purgatory,
            leases: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// Makes an operation and returns what it said.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is in the next function")]
    async fn make(&mut self, world: &World, operation: &Operation) -> String {
        let p = self.purgatory.clone();
        match operation {
            Operation::Hold(event, hold_secs, extend, source) => {
                let (event, coordinates) = world.event(event);
                let hold = Hold {
                    coordinates,
                    extend: world.ids(extend),
                    source: (*source.get(&SOURCES)).to_owned(),
                    // Some of them, else most holds after the first were refused.
                    is_new_repository: event.kind.as_u16() == 30617 && event.created_at.as_secs() % 2 == 1,
                    ..hold(&event, *hold_secs)
                };
                format!("{:?}", p.hold(&hold).await.unwrap())
            }
            Operation::MarkDirty(name) => {
                let names = BTreeSet::from([coordinate(&world.authors[0], name_at(name))]);
                format!("{:?}", p.mark_dirty(&names).await.unwrap())
            }
            Operation::ClearDirty(name, number) => {
                let listed = p.dirty(9).await.unwrap();
                self.dirty.extend(listed.iter().map(|(_, number)| number));
                if self.dirty.is_empty() {
                    return String::new();
                }
                let seen = *number.get(&self.dirty);
                let name = coordinate(&world.authors[0], name_at(name));
                format!("{:?}", p.clear_dirty(&name, seen).await.unwrap())
            }
            Operation::ReconcilePullRequests(name, is_staged) => {
                let name = coordinate(&world.authors[0], name_at(name));
                let unreconciled = p.unreconciled_page(&name).await.unwrap();
                let staged = unreconciled.event_ids().into_iter().filter(|_| *is_staged);
                let found = staged.map(|id| (id, PullRequestOutcome::Staged)).collect();
                format!("{:?}", p.note_reconciled(&name, &unreconciled, &found).await.unwrap())
            }
            Operation::MarkOverdue(count_max, secs) => {
                format!("{:?}", p.mark_overdue(*count_max, *secs).await.unwrap())
            }
            Operation::MarkReleasing(releases, lease_secs) => {
                let releases: Vec<_> = releases
                    .iter()
                    .map(|(event, after)| {
                        let (event, coordinates) = world.event(event);
                        Release {
                            event: event.into(),
                            coordinates,
                            after: world.ids(after),
                        }
                    })
                    .collect();
                let marked = p.mark_releasing(&releases, *lease_secs).await.unwrap();
                format!("{} {:?}", self.remember(marked.leased), marked.waiting)
            }
            Operation::TakeDue(count_max, lease_secs) => {
                let leased = p.take_due(*count_max, *lease_secs).await.unwrap();
                self.remember(leased)
            }
            Operation::Settle(lease, settlement) => {
                if self.leases.is_empty() {
                    return String::new();
                }
                let (event_id, lease) = lease.get(&self.leases);
                let settled = p.settle(event_id, *lease, settlement).await;
                format!("{:?}", settled.unwrap())
            }
            operation => self.make_rest(world, operation).await,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is in the function before")]
    async fn make_rest(&mut self, world: &World, operation: &Operation) -> String {
        let p = &self.purgatory;
        match operation {
            Operation::Extend(events, secs) => {
                format!("{:?}", p.extend(&world.ids(events), *secs).await.unwrap())
            }
            Operation::Expire(event, expiry) => {
                let event_id = world.event(event).0.id;
                format!("{:?}", p.expire(&event_id, *expiry).await.unwrap())
            }
            Operation::End(events) => {
                format!("{:?}", p.end(&world.ids(events)).await.unwrap())
            }
            Operation::Delete(author, events, by_address) => {
                let name = identifier(NAMES[0]);
                let deletion = Deletion {
                    author: author.get(&world.authors).public_key(),
                    created_at: 9,
                    event_ids: world.ids(events),
                    addresses: by_address.then_some((30617, name)).into_iter().collect(),
                };
                format!("{:?}", p.delete(&deletion).await.unwrap())
            }
            Operation::NoteWaiting(event) => {
                let notes = BTreeMap::from([(world.event(event).0.id, "oid".to_owned())]);
                format!("{:?}", p.note_waiting(&notes).await.unwrap())
            }
            Operation::PutPlaceholder(event, name, commit, secs) => {
                let id = world.event(event).0.id;
                let place = coordinate(&world.authors[0], name_at(name));
                let put = p
                    .put_placeholder(&id, &place, oid(*commit.get(&COMMITS)), *secs, None)
                    .await;
                format!("{:?}", put.unwrap())
            }
            Operation::DropPlaceholder(event, name, commit) => {
                let id = world.event(event).0.id;
                let place = coordinate(&world.authors[0], name_at(name));
                let dropped = p.drop_placeholder(&id, &place, oid(*commit.get(&COMMITS))).await;
                format!("{:?}", dropped.unwrap())
            }
            Operation::NoteListings(name, is_served, is_held) => {
                let [first, second] = [&world.authors[0], &world.authors[1]].map(Keys::public_key);
                let [served, held] = [(is_served, first), (is_held, second)]
                    .map(|(is_any, key)| is_any.then_some(key).into_iter().collect());
                let place = coordinate(&world.authors[0], name_at(name));
                let noted = p.note_listings(&place, &Listing::new(&served, &held)).await;
                format!("{:?}", noted.unwrap())
            }
            other => unreachable!("{other:?} is made above"),
        }
    }

    fn remember(&mut self, leased: Vec<Leased>) -> String {
        let leased = leased.into_iter();
        let (leases, ordered): (Vec<_>, Vec<_>) = leased
            .map(|Leased { event, lease, after }| ((event.id, lease), (event.id, after)))
            .unzip();
        self.leases.extend(leases);
        format!("{ordered:?}")
    }

    /// Returns what can be seen from outside, but for times and the numbers themselves.
    async fn view(&self, world: &World) -> View {
        let all = ids(world.events.iter().map(|(event, _)| event));
        let reading = self.purgatory.read_with(&world.coordinates(), &all).await.unwrap();
        let dirty = self.purgatory.dirty(9).await.unwrap();
        assert_eq!(reading.dirty, dirty.iter().cloned().collect());
        let now = reading.now;
        let mut entries = reading.entries;
        for entry in &mut entries {
            entry.held_since = 0;
            // What is left of a deadline: over, one of the long spans.
            entry.deadline = u64::from(entry.deadline > now);
        }
        let mut placeholders = reading.placeholders;
        for placeholder in &mut placeholders {
            placeholder.deadline = u64::from(placeholder.deadline > now);
        }
        for name in world.coordinates() {
            let number = self.purgatory.dirty_number(&name).await.unwrap();
            assert_eq!(number.as_ref(), reading.dirty.get(&name));
        }
        let mut unreconciled = Vec::new();
        for (name, _) in self.purgatory.dirty_pull_requests(9).await.unwrap() {
            unreconciled.push(self.purgatory.unreconciled_page(&name).await.unwrap().event_ids());
        }
        let dirty = dirty.into_iter().map(|(name, _)| name);
        let listed_by = reading.listed_by.into_iter();
        let listings = listed_by.map(|(at, owners)| (at.clone(), (owners, reading.noted[&at])));
        (entries, placeholders, listings.collect(), dirty.collect(), unreconciled)
    }
}

/// Makes the same operations on both stores, the one in memory at Redis' time. Returns how many were compared: it ends
/// early if Redis' second changed within an operation, since then the two may rightly differ.
async fn compare(server: &RedisServer, operations: &[Operation]) -> usize {
    let _: () = server.ask(&["FLUSHALL"]).await;
    let world = World::new();
    let time = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&time);
    let clock: Clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let mut memory = Store::new(Purgatory::in_memory(LIMITS, clock));
    let mut redis = Store::new(Purgatory::connect(&settings(&server.url()), LIMITS).await.unwrap());

    let mut clock = server.connection().await;
    for (count, operation) in operations.iter().enumerate() {
        let now = now(&mut clock).await;
        time.store(now, Ordering::Relaxed);
        let in_redis = redis.make(&world, operation).await;
        let in_memory = memory.make(&world, operation).await;
        let views = (redis.view(&world).await, memory.view(&world).await);
        if self::now(&mut clock).await != now {
            return count;
        }
        let made = &operations[..=count];
        assert_eq!(in_redis, in_memory, "redis, memory; after {made:#?}");
        assert_eq!(views.0, views.1, "redis, memory; after {made:#?}");
    }
    assert_nothing_is_left(server, &world, &redis.purgatory).await;
    operations.len()
}

/// Empties the purgatory by its own operations: then no index has anything left.
async fn assert_nothing_is_left(server: &RedisServer, world: &World, purgatory: &Purgatory) {
    for author in &world.authors {
        let deletion = Deletion {
            author: author.public_key(),
            created_at: 0,
            event_ids: ids(world.events.iter().map(|(event, _)| event)),
            addresses: BTreeSet::new(),
        };
        purgatory.delete(&deletion).await.unwrap();
    }
    let reading = purgatory.read(&world.coordinates()).await.unwrap();
    assert_eq!(reading.entries, []);
    for Placeholder {
        event_id,
        coordinate,
        commit_oid,
        ..
    } in &reading.placeholders
    {
        let dropped = purgatory.drop_placeholder(event_id, coordinate, *commit_oid);
        assert!(dropped.await.unwrap());
    }
    // What was releasing, and what was noted of what is served, is taken off by a reconcile.
    for name in world.coordinates() {
        purgatory.note_listings(&name, &Listing::default()).await.unwrap();
    }
    for (name, number) in purgatory.dirty(9).await.unwrap() {
        assert!(purgatory.clear_dirty(&name, number).await.unwrap());
    }
    // What commits were said to be staged for is looked at in a round.
    purgatory.begin_rounds(&world.coordinates()).await.unwrap();
    for (name, _) in purgatory.dirty_pull_requests(9).await.unwrap() {
        let mut has_more = true;
        while has_more {
            let unreconciled = purgatory.unreconciled_page(&name).await.unwrap();
            assert!(!unreconciled.event_ids().is_empty());
            has_more = purgatory
                .note_reconciled(&name, &unreconciled, &BTreeMap::new())
                .await
                .unwrap();
        }
    }
    let left: Vec<String> = server.ask(&["KEYS", "*"]).await;
    let is_meant_to_stay = |key: &String| {
        let key = key.trim_start_matches("{purgatory}:");
        ["changes", "leases", "new_repositories"].contains(&key)
            || key.starts_with("deleted:")
            || key.starts_with("gate_bytes:")
    };
    let leaked: Vec<_> = left.iter().filter(|key| !is_meant_to_stay(key)).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[tokio::test]
async fn both_stores_say_the_same_after_any_operations() {
    let server = RedisServer::start().await;
    let mut runner = TestRunner::new(ProptestConfig::default());
    let sequence = prop::collection::vec(operation(), OPERATIONS);

    let mut compared = 0;
    for _ in 0..CASES {
        let operations = sequence.new_tree(&mut runner).unwrap().current();
        compared += compare(&server, &operations).await;
    }

    assert!(compared > CASES * OPERATIONS / 2, "{compared}");
}
