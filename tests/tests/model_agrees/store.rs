//! The scripts: long walks of drawn operations, each done to the model's Redis and by the program's scripts, in memory.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use nostr::key::PublicKey;
use protocol_model::Bug;
use protocol_model::Configuration;
use protocol_model::event::Coordinates;
use protocol_model::event::Event;
use protocol_model::event::Events;
use protocol_model::publish::settle_in_redis;
use protocol_model::redis as model_redis;
use protocol_model::redis::GatewayId;
use protocol_model::redis::Redis;
use protocol_model::scene::Scene;
use protocol_model::scripts::Hold as ModelHold;
use protocol_model::scripts::HoldOutcome as ModelHoldOutcome;
use shared::nip01::Deletion;
use shared::purgatory::DirtyNumber;
use shared::purgatory::EntryStatus;
use shared::purgatory::Expiry;
use shared::purgatory::Hold;
use shared::purgatory::HoldOutcome;
use shared::purgatory::Lease;
use shared::purgatory::Leased;
use shared::purgatory::Limits;
use shared::purgatory::Listing;
use shared::purgatory::Purgatory;
use shared::purgatory::Reading;
use shared::purgatory::Release;
use shared::purgatory::Room;
use shared::purgatory::Settlement;
use shared::purgatory::UnreconciledPullRequests;

use crate::Draws;
use crate::configuration;
use crate::translation::World;

/// An operation, drawn.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Hold(Event, Events),
    Extend(Events),
    MarkOverdue,
    MarkHeld,
    Expire(Event),
    End(Event),
    Delete(Event),
    MarkReleasing(GatewayId, Events, Events),
    TakeDue(GatewayId),
    Settle(GatewayId, Event, model_redis::Settlement),
    MarkDirty(Coordinates),
    Read,
    ClearDirty(Coordinates),
    PutPlaceholder(Coordinates),
    DropPlaceholder(Coordinates),
    NoteListing(Coordinates),
    NoteHeldListing(Coordinates),
    TakeListingOff(Coordinates),
    TimePasses(u64),
}

fn draw(draws: &mut Draws) -> Operation {
    let event = draws.one(Event::ALL);
    let mut some = |one_in| {
        Event::ALL
            .into_iter()
            .filter(|_| draws.below(one_in) == 0)
            .collect::<Events>()
    };
    let (few, many) = (some(4), some(2));
    let one = draws.one(Coordinates::EACH);
    let gateway = draws.one([0, 1]);
    let settlement = draws.one([
        model_redis::Settlement::Served,
        model_redis::Settlement::Dropped,
        model_redis::Settlement::GiveBack,
        model_redis::Settlement::Retry,
    ]);
    let after_announcement: Events = many.iter().filter(|event| *event != Event::Announcement).collect();
    match draws.below(44) {
        0..=6 => Operation::Hold(event, few),
        7..=8 => Operation::Extend(few),
        9 => Operation::MarkOverdue,
        10 => Operation::MarkHeld,
        11..=13 => Operation::Expire(event),
        14 => Operation::End(event),
        15 => Operation::Delete(event),
        16..=21 => Operation::MarkReleasing(gateway, many.with(few), after_announcement),
        22..=24 => Operation::TakeDue(gateway),
        25..=31 => Operation::Settle(gateway, event, settlement),
        32 => Operation::MarkDirty(one),
        33 => Operation::Read,
        34..=35 => Operation::ClearDirty(one),
        36 => Operation::PutPlaceholder(one),
        37 => Operation::DropPlaceholder(one),
        38 => Operation::TimePasses(LEASE_SECS),
        39 => Operation::NoteListing(one),
        40 => Operation::NoteHeldListing(one),
        41..=42 => Operation::TakeListingOff(one),
        _ => Operation::TimePasses(HOLD_SECS),
    }
}

/// Both, after the same operations.
struct Walk<'w> {
    world: &'w World,
    model: Configuration,
    redis: Redis,
    purgatory: Purgatory,
    clock: Arc<AtomicU64>,
    /// The latest lease that each gateway has had of an event: an earlier one it has forgotten.
    leases: BTreeMap<(GatewayId, Event), Lease>,
    /// The dirty numbers that were read, by coordinate: the model's and the program's.
    read: [(u8, Option<DirtyNumber>); 2],
    /// The PRs that the program has to reconcile, as they were read with these numbers.
    unreconciled: BTreeMap<usize, UnreconciledPullRequests>,
}

/// What an operation returned, as far as the model knows of it, and what there is after it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    returned: Returned,
    reading: model_redis::Reading,
    after_announcement: Events,
}

#[derive(Debug, PartialEq, Eq)]
enum Returned {
    Nothing,
    Held(ModelHoldOutcome),
    Leased(Events),
    Settled(bool),
}

impl<'w> Walk<'w> {
    fn new((scene, world): (Scene, &'w World), bug: Option<Bug>) -> Self {
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let read = Arc::clone(&clock);
        Self {
            world,
            model: configuration(scene, None, bug),
            redis: Redis::default(),
            purgatory: Purgatory::in_memory(Limits::DEFAULT, Arc::new(move || read.load(Ordering::Relaxed))),
            clock,
            leases: BTreeMap::new(),
            read: [(0, None); 2],
            unreconciled: BTreeMap::new(),
        }
    }

    async fn step(&mut self, operation: Operation) -> (Outcome, Outcome) {
        let secs = if let Operation::TimePasses(secs) = operation {
            secs
        } else {
            0
        };
        self.pass(secs).await;
        let of_model = self.do_to_model(operation);
        let of_program = self.do_to_program(operation).await;
        let reading = self.reading().await;
        let of_program_reading = model_redis::Reading {
            dirty: self.dirty(&reading).await,
            ..self.translated(&reading)
        };
        let outcomes = (
            Outcome {
                returned: of_model,
                reading: self.model_reading(),
                after_announcement: self.model_order(),
            },
            Outcome {
                returned: of_program,
                reading: of_program_reading,
                after_announcement: self.order(&reading),
            },
        );
        self.draw_numbers();
        outcomes
    }

    /// Lets time pass: two seconds, so that what is put off by one is due, and more. What ends by it ends in the model.
    async fn pass(&mut self, secs: u64) {
        let now = self.clock.fetch_add(secs + 2, Ordering::Relaxed) + secs + 2;
        if secs > 0 {
            for entry in &mut self.redis.entries {
                entry.is_due |= entry.status == model_redis::EntryStatus::Releasing;
            }
            self.redis.gates = Events::NONE;
        }
        for entry in self.reading().await.entries {
            let event = self.world.model_event(&entry.event.id);
            let waiting = &mut self.redis.entries[event.index()];
            waiting.is_overdue |= waiting.status.is_waiting() && entry.deadline <= now;
        }
    }

    fn do_to_model(&mut self, operation: Operation) -> Returned {
        let (redis, scene) = (&mut self.redis, self.model.scene);
        match operation {
            Operation::Hold(event, extend) => return Returned::Held(redis.hold(ModelHold::of(scene, event, extend))),
            Operation::Extend(events) => redis.extend(events),
            Operation::MarkOverdue => redis.mark_overdue(),
            Operation::MarkHeld => redis.mark_held(),
            Operation::Expire(event) => redis.expire(event),
            Operation::End(event) => redis.end(event),
            Operation::Delete(event) => redis.delete(event),
            Operation::MarkReleasing(gateway, releases, after) => {
                let releases = releases.iter().map(|event| (event, scene.coordinates(event)));
                return Returned::Leased(redis.mark_releasing(gateway, releases, after));
            }
            Operation::TakeDue(gateway) => return Returned::Leased(redis.take_due(gateway)),
            Operation::Settle(gateway, event, settlement) => {
                return Returned::Settled(settle_in_redis(&self.model, redis, gateway, event, settlement));
            }
            Operation::MarkDirty(one) => redis.mark_dirty(one),
            Operation::Read => {
                for at in 0..2 {
                    self.read[at].0 = redis.dirty[at];
                }
            }
            Operation::ClearDirty(one) => redis.clear_dirty(one, self.read[one.index()].0),
            Operation::PutPlaceholder(one) => redis.put_placeholder(one),
            Operation::DropPlaceholder(one) => redis.drop_placeholder(one),
            Operation::NoteListing(one) => match scene.lists(one) {
                Coordinates::NONE => redis.take_listing_off(one),
                listed => redis.note_listing(one, listed, true),
            },
            Operation::NoteHeldListing(one) => match scene.lists(one) {
                Coordinates::NONE => redis.take_listing_off(one),
                listed => redis.note_listing(one, listed, false),
            },
            Operation::TakeListingOff(one) => redis.take_listing_off(one),
            Operation::TimePasses(_) => {}
        }
        Returned::Nothing
    }

    async fn do_to_program(&mut self, operation: Operation) -> Returned {
        let (world, purgatory) = (self.world, self.purgatory.clone());
        match operation {
            Operation::Hold(event, extend) => {
                let outcome = purgatory.hold(&self.hold(event, extend)).await.unwrap();
                return Returned::Held(translated_outcome(outcome));
            }
            Operation::Extend(events) => {
                purgatory.extend(&world.ids(events), HOLD_SECS).await.unwrap();
            }
            Operation::MarkOverdue => {
                purgatory.mark_overdue(99, 1).await.unwrap();
            }
            Operation::MarkHeld => purgatory.mark_held().await.unwrap(),
            Operation::Expire(event) => {
                let expiry = self.expiry(event).await;
                purgatory.expire(&world.id(event), expiry).await.unwrap();
            }
            Operation::End(event) => {
                purgatory.end(&[world.id(event)].into()).await.unwrap();
            }
            Operation::Delete(event) => {
                purgatory.delete(&self.deletion(event)).await.unwrap();
            }
            Operation::MarkReleasing(gateway, releases, after) => {
                let releases: Vec<Release> = releases.iter().map(|event| self.release(event, after)).collect();
                let marked = purgatory.mark_releasing(&releases, LEASE_SECS).await.unwrap();
                return Returned::Leased(self.note_leased(gateway, &marked.leased));
            }
            Operation::TakeDue(gateway) => {
                let due = purgatory.take_due(99, LEASE_SECS).await.unwrap();
                return Returned::Leased(self.note_leased(gateway, &due));
            }
            Operation::Settle(gateway, event, settlement) => {
                let lease = self.leases.get(&(gateway, event)).copied().unwrap_or(Lease(u64::MAX));
                let settlement = program_settlement(settlement);
                let is_settled = purgatory.settle(&world.id(event), lease, &settlement).await.unwrap();
                return Returned::Settled(is_settled);
            }
            Operation::MarkDirty(one) => purgatory.mark_dirty(&world.coordinates(one)).await.unwrap(),
            Operation::Read => self.read().await,
            Operation::ClearDirty(one) => {
                if let Some(unreconciled) = self.unreconciled.get(&one.index()) {
                    let (at, nothing) = (world.coordinate(one), BTreeMap::new());
                    purgatory.note_reconciled(at, unreconciled, &nothing).await.unwrap();
                }
                if let Some(number) = self.read[one.index()].1 {
                    purgatory.clear_dirty(world.coordinate(one), number).await.unwrap();
                }
            }
            Operation::PutPlaceholder(one) => {
                let new = world.placeholder(one, 0);
                let put =
                    purgatory.put_placeholder(&new.event_id, &new.coordinate, new.commit_oid, FOR_EVER_SECS, None);
                put.await.unwrap();
            }
            Operation::DropPlaceholder(one) => {
                let old = world.placeholder(one, 0);
                let dropped = purgatory.drop_placeholder(&old.event_id, &old.coordinate, old.commit_oid);
                dropped.await.unwrap();
            }
            Operation::NoteListing(one) => self.note_listing(one, &world.listed(one), &BTreeSet::new()).await,
            Operation::NoteHeldListing(one) => self.note_listing(one, &BTreeSet::new(), &world.listed(one)).await,
            Operation::TakeListingOff(one) => self.note_listing(one, &BTreeSet::new(), &BTreeSet::new()).await,
            Operation::TimePasses(_) => {}
        }
        Returned::Nothing
    }

    async fn note_listing(&self, one: Coordinates, served: &BTreeSet<PublicKey>, held: &BTreeSet<PublicKey>) {
        let (coordinate, listing) = (self.world.coordinate(one), Listing::new(served, held));
        self.purgatory.note_listings(coordinate, &listing).await.unwrap();
    }

    async fn read(&mut self) {
        let dirty = self.reading().await.dirty;
        for one in Coordinates::EACH {
            let at = self.world.coordinate(one);
            self.read[one.index()].1 = dirty.get(at).copied();
            let unreconciled = self.purgatory.unreconciled_page(at).await.unwrap();
            self.unreconciled.insert(one.index(), unreconciled);
        }
    }

    fn hold(&self, event: Event, extend: Events) -> Hold {
        Hold {
            event: self.world.event(event).clone(),
            coordinates: self.world.coordinates(self.model.scene.coordinates(event)),
            source: String::new(),
            hold_secs: HOLD_SECS,
            extend: self.world.ids(extend),
            room: Room::WithinLimits,
            is_new_repository: false,
            behind: None,
        }
    }

    /// As `plan_expiry` decides it.
    async fn expiry(&self, event: Event) -> Expiry {
        let entries = self.reading().await.entries;
        let is_held = entries
            .iter()
            .any(|entry| entry.event.id == self.world.id(event) && entry.status == EntryStatus::Held);
        match event {
            Event::Announcement if is_held => Expiry::Sleep { secs: HOLD_SECS },
            Event::Announcement | Event::Older | Event::Newer | Event::PullRequest => Expiry::Gone,
        }
    }

    fn deletion(&self, event: Event) -> Deletion {
        let event = self.world.event(event);
        Deletion {
            author: event.pubkey,
            created_at: event.created_at.as_secs(),
            event_ids: [event.id].into(),
            addresses: BTreeSet::new(),
        }
    }

    fn release(&self, event: Event, after_announcement: Events) -> Release {
        let after = after_announcement
            .has(event)
            .then(|| self.world.id(Event::Announcement));
        Release {
            event: self.world.event(event).clone().into(),
            coordinates: self.world.coordinates(self.model.scene.coordinates(event)),
            after: after.into_iter().collect(),
        }
    }

    fn note_leased(&mut self, gateway: GatewayId, leased: &[Leased]) -> Events {
        for Leased { event, lease, .. } in leased {
            let event = self.world.model_event(&event.id);
            self.leases.insert((gateway, event), *lease);
        }
        self.world.model_events(leased.iter().map(|leased| &leased.event.id))
    }

    async fn reading(&self) -> Reading {
        let both = self.world.coordinates(Coordinates::BOTH);
        let all = self.world.ids(Event::ALL.into_iter().collect());
        self.purgatory.read_with(&both, &all).await.unwrap()
    }

    /// What is dirty in the model must be in the program, or have PRs to reconcile. What is reconciled more often than
    /// in the model does no harm.
    async fn dirty(&self, reading: &Reading) -> [u8; 2] {
        let have_pull_requests = self.purgatory.dirty_pull_requests(9).await.unwrap();
        let have_pull_requests = have_pull_requests.iter().map(|(coordinate, _)| coordinate);
        let dirty = self
            .world
            .model_coordinates(reading.dirty.keys().chain(have_pull_requests));
        let of_model = self.model_reading().dirty;
        Coordinates::EACH.map(|one| u8::from(dirty.meets(one)).min(of_model[one.index()]))
    }

    /// Of dirty numbers only what is dirty.
    fn model_reading(&self) -> model_redis::Reading {
        let reading = self.redis.read();
        model_redis::Reading {
            dirty: reading.dirty.map(|number| u8::from(number != 0)),
            ..reading
        }
    }

    fn translated(&self, reading: &Reading) -> model_redis::Reading {
        let mut translated = model_redis::Reading::default();
        for entry in &reading.entries {
            let event = self.world.model_event(&entry.event.id);
            translated.statuses[event.index()] = translated_status(entry.status);
            if !entry.status.counts_as_served() && entry.deadline <= reading.now {
                translated.overdue.add(event);
            }
        }
        let placed = reading.placeholders.iter().map(|placeholder| &placeholder.coordinate);
        translated.placeholders = self.world.model_coordinates(placed);
        translated.noted = self.world.model_notes(&reading.listed_by);
        translated
    }

    fn model_order(&self) -> Events {
        let is_after = |event: &Event| self.redis.entries[event.index()].is_after_announcement;
        Event::ALL.into_iter().filter(is_after).collect()
    }

    fn order(&self, reading: &Reading) -> Events {
        let after = reading.entries.iter().filter(|entry| !entry.after.is_empty());
        self.world.model_events(after.map(|entry| &entry.event.id))
    }

    /// Makes the model's new numbers old, as `State::normalise` does: whatever was read before is no longer current.
    fn draw_numbers(&mut self) {
        for (number, (read, _)) in self.redis.dirty.iter_mut().zip(&mut self.read) {
            if *number > CURRENT {
                *number = CURRENT;
                *read = 0;
            }
        }
    }
}

fn translated_status(status: EntryStatus) -> model_redis::EntryStatus {
    match status {
        EntryStatus::Held => model_redis::EntryStatus::Held,
        EntryStatus::Asleep => model_redis::EntryStatus::Asleep,
        EntryStatus::Releasing => model_redis::EntryStatus::Releasing,
        EntryStatus::Stuck => panic!("nothing is refused for good here"),
    }
}

fn translated_outcome(outcome: HoldOutcome) -> ModelHoldOutcome {
    match outcome {
        HoldOutcome::Held => ModelHoldOutcome::Held,
        HoldOutcome::AlreadyHeld(status) => ModelHoldOutcome::Already(translated_status(status)),
        HoldOutcome::Deleted => ModelHoldOutcome::Deleted,
        HoldOutcome::Replaced | HoldOutcome::Full(_) | HoldOutcome::Absent => panic!("{outcome:?}"),
    }
}

fn program_settlement(settlement: model_redis::Settlement) -> Settlement {
    match settlement {
        model_redis::Settlement::Served => Settlement::Served,
        model_redis::Settlement::Dropped => Settlement::Dropped,
        model_redis::Settlement::GiveBack => Settlement::GiveBack,
        model_redis::Settlement::Retry => Settlement::Retry {
            after_secs: LEASE_SECS / 2,
            error: "error: down".to_owned(),
        },
    }
}

/// Walks, and returns how many operations were done until the two differed, and that difference; else all of them.
async fn walk(world: (Scene, &World), seed: u64, bug: Option<Bug>) -> (usize, Option<String>) {
    let (mut walk, mut draws) = (Walk::new(world, bug), Draws(seed));
    let mut done = Vec::new();
    while done.len() < OPERATIONS {
        let operation = draw(&mut draws);
        let (of_model, of_program) = walk.step(operation).await;
        done.push(format!("{operation:?} -> {:?}", of_program.returned));
        if of_model != of_program {
            let story = done.join("\n");
            return (
                done.len(),
                Some(format!("model: {of_model:?}\nprogram: {of_program:?}\n{story}")),
            );
        }
    }
    (done.len(), None)
}

#[tokio::test]
async fn the_models_scripts_do_what_the_store_does() {
    let mut operations = 0;
    for scene in [Scene::Apart, Scene::Set, Scene::Listing] {
        let world = World::new(scene);
        for seed in 0..WALKS {
            let (done, difference) = walk((scene, &world), seed, None).await;

            let difference = difference.unwrap_or_default();
            assert!(difference.is_empty(), "{scene:?}, walk {seed}:\n{difference}");
            operations += done;
        }
    }
    assert!(operations >= 20_000, "only {operations}");
}

#[tokio::test]
async fn a_mistake_in_the_models_scripts_is_found_by_comparing() {
    let world = World::new(Scene::Apart);
    for seed in 0..WALKS {
        if walk((Scene::Apart, &world), seed, Some(Bug::SettleWithoutLease))
            .await
            .1
            .is_some()
        {
            return;
        }
    }
    panic!("no walk tells the two apart");
}

/// In each scene.
const WALKS: u64 = 170;
const OPERATIONS: usize = 60;

/// The number that the model has for whatever is dirty: its scripts draw greater ones.
const CURRENT: u8 = 1;

const LEASE_SECS: u64 = 1_000;
/// Long enough that nothing expires by accident, and short enough that nothing goes by itself 48 h after its deadline.
const HOLD_SECS: u64 = 10_000;
const FOR_EVER_SECS: u64 = 10_000_000;
