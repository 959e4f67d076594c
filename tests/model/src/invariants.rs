//! What must hold in every state.
//!
//! Liveness is checked as safety. *At rest* nobody has anything to do: all that is left are clients, faults and
//! deadlines. What must happen sooner or later must have happened there. Whether rest is reached at all is asked of
//! every state in which nobody is in the middle of something and something is releasing: left alone, with its
//! neighbours back, the system comes to rest within a bounded number of steps. `eventually` of stateright is not used:
//! it takes a cycle for no counterexample.

use stateright::Model;
use stateright::Property;

use crate::Configuration;
use crate::action::Action;
use crate::action::GatewayStep;
use crate::action::WorkerStep;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::event::Parts;
use crate::faults;
use crate::redis::EntryStatus;
use crate::rules::Plan;
use crate::rules::Reach;
use crate::rules::plan;
use crate::state::Plugin;
use crate::state::State;
use crate::state::Task;

/// What was answered OK is served, held, or has ended as it may: expired, superseded, deleted.
pub const NOTHING_LOST: &str = "nothing answered OK is lost";
/// What is served has its data on disk, and in the refs.
pub const NOT_SERVED_EARLY: &str = "nothing is served before its git data";
/// What is ordered after an announcement is not served before it.
pub const NOT_BEFORE_ITS_ANNOUNCEMENT: &str = "nothing is served before its announcement";
/// The refs never go back behind a state that counts as served.
pub const NOT_OLDER_OVER_NEWER: &str = "no older state over a newer one";
/// With no mark and nobody in the lock, the refs are those of the governing state.
pub const REFS_GOVERNED: &str = "the refs equal the governing state";
/// At rest nothing is releasing, and rest is reached.
pub const RELEASING_ENDS: &str = "releasing always ends";
/// A repository that cannot be read keeps nobody else from rest.
pub const FAILURES_HAVE_OWNERS: &str = "a failure keeps no other repository back";
/// What its author deleted does not come back.
pub const DELETION_STAYS: &str = "a deletion is never undone";
/// What a pusher was told `ok` about is here as long as its state is held.
pub const PARTS_STAY: &str = "parts stay as long as their state";
/// At rest another reconcile would find nothing to do.
pub const COMPLETE_IS_RELEASED: &str = "what is complete is released without waiting for its deadline";

/// No invariant, but what shows that a configuration goes on to its end.
const END: &str = "everything that was sent is served or deleted";

/// Returns all of them.
pub(crate) fn properties() -> Vec<Property<Configuration>> {
    vec![
        Property::always(NOTHING_LOST, nothing_lost),
        Property::always(NOT_SERVED_EARLY, not_served_early),
        Property::always(NOT_BEFORE_ITS_ANNOUNCEMENT, not_before_its_announcement),
        Property::always(NOT_OLDER_OVER_NEWER, not_older_over_newer),
        Property::always(REFS_GOVERNED, refs_governed),
        Property::always(RELEASING_ENDS, releasing_ends),
        Property::always(FAILURES_HAVE_OWNERS, failures_have_owners),
        Property::always(DELETION_STAYS, deletion_stays),
        Property::always(COMPLETE_IS_RELEASED, complete_is_released),
        Property::always(PARTS_STAY, parts_stay),
        Property::sometimes(END, is_at_its_end),
    ]
}

fn nothing_lost(_: &Configuration, state: &State) -> bool {
    state.promised.iter().all(|event| state.is_somewhere(event))
}

fn not_served_early(model: &Configuration, state: &State) -> bool {
    let is_behind = |one: Coordinates, event| {
        !state.disk.objects[one.index()].has(event) || state.disk.refs[one.index()] < Some(event)
    };
    let mut lasting = state
        .relay
        .served
        .iter()
        .filter(|event| !state.is_passing(model, *event));
    lasting.all(|event| match event {
        Event::Announcement => state.disk.refs[model.scene.home(event).index()].is_some(),
        Event::Older | Event::Newer => !Coordinates::EACH.into_iter().all(|one| is_behind(one, event)),
        Event::PullRequest => !state.disk.installed.is_empty(),
    })
}

/// As long as it is not settled: later its entry does not tell any more what it was ordered after. Where an
/// announcement is deleted, or lists others, an event may have been let in before it was ordered after anything.
fn not_before_its_announcement(model: &Configuration, state: &State) -> bool {
    let lists = |one: Coordinates| !model.scene.lists(one).is_empty();
    if model.deletes == Some(Event::Announcement) || Coordinates::EACH.into_iter().any(lists) {
        return true;
    }
    let (redis, served) = (&state.redis, state.relay.served);
    let is_missing = redis.status(Event::Announcement) == EntryStatus::Releasing && !served.has(Event::Announcement);
    let is_ordered = |event: &Event| redis.entries[event.index()].is_after_announcement;
    !is_missing || !served.iter().any(|event| is_ordered(&event))
}

/// Of several repositories that a state governs, one has it at once: the others are brought along.
fn not_older_over_newer(model: &Configuration, state: &State) -> bool {
    let facts = state.facts(model, (Coordinates::BOTH, Reach::Full));
    let newer_counts_as_served = facts.event_status(model, Event::Newer).counts_as_served();
    let newer_lasts = newer_counts_as_served && !state.is_passing(model, Event::Newer);
    let at = |one: Coordinates| state.disk.refs[one.index()];
    let is_at_older = |one| at(one) == Some(Event::Older);
    let is_at_newer = |one| at(one) == Some(Event::Newer);
    let mut each = Coordinates::EACH.into_iter();
    !newer_lasts || each.any(is_at_newer) || !Coordinates::EACH.into_iter().any(is_at_older)
}

fn refs_governed(model: &Configuration, state: &State) -> bool {
    let is_governed = |one: Coordinates| {
        // Its own mark, or that of a repository whose reconcile reaches it.
        let related = one.with(model.scene.lists(one)).with(model.scene.listing(one));
        let marked = state.redis.dirty_coordinates().with(state.relay.news);
        if marked.with(state.locked()).meets(related) {
            return true;
        }
        let governing = state.all_facts(model, one).governing_state(model, one);
        governing.is_none() || governing == state.disk.refs[one.index()]
    };
    let is_unknown = state.is_new_master || state.is_settling_served();
    is_unknown || Coordinates::EACH.into_iter().all(is_governed)
}

fn releasing_ends(model: &Configuration, state: &State) -> bool {
    if !state.redis.is_releasing_any() || state.is_anybody_busy() {
        return true;
    }
    let mut mended = state.clone();
    mended.failing = Coordinates::NONE;
    comes_to_rest(model, &mended).is_some_and(|rest| !rest.redis.is_releasing_any())
}

/// What fails is tried again after a pause: meanwhile everything else comes to rest.
fn failures_have_owners(model: &Configuration, state: &State) -> bool {
    state.failing.is_empty() || state.is_anybody_busy() || comes_to_rest(model, state).is_some()
}

/// Lets the programs go on without clients, faults and deadlines, each in its turn. A lease lasts longer than an
/// attempt to publish, so it ends when nobody has anything else to do.
fn comes_to_rest(model: &Configuration, state: &State) -> Option<State> {
    let mut state = state.clone();
    state.redis_up = true;
    state.relay.is_up = true;
    if state.gateways.iter().all(|task| *task == Task::Down) {
        state.gateways[0] = Task::Idle;
    }
    let mut actions: Vec<Action> = Vec::new();
    for turn in 0..STEPS_TO_REST_MAX {
        actions.clear();
        model.program_actions(&state, &mut actions);
        actions.retain(|action| !is_of_any(*action, state.failing));
        if actions.is_empty() {
            faults::lease_ends(&state, &mut actions);
        }
        if actions.is_empty() {
            return Some(state);
        }
        let action = actions[turn % actions.len()];
        state = model.next_state(&state, action)?;
    }
    None
}

/// Tells whether an action is about one of these repositories alone.
fn is_of_any(action: Action, coordinates: Coordinates) -> bool {
    matches!(action, Action::Gateway(_, GatewayStep::Worker(WorkerStep::StartReconcile(one))) if one.meets(coordinates))
}

fn deletion_stays(model: &Configuration, state: &State) -> bool {
    let Some(deleted) = model.deletes else {
        return true;
    };
    let is_entered = state.redis.status(deleted) != EntryStatus::Absent;
    let is_gated = state.redis.gates.has(deleted);
    let is_served = state.relay.served.has(deleted);
    !(is_gated && is_entered || state.relay.has_deletion && is_served)
}

fn parts_stay(_: &Configuration, state: &State) -> bool {
    let is_held = state.redis.status(Event::Newer).is_waiting();
    let has_moved_in = state.disk.objects[Coordinates::X.index()].has(Event::Newer);
    !is_held || has_moved_in || state.disk.parts.has(state.promised_parts)
}

fn complete_is_released(model: &Configuration, state: &State) -> bool {
    let errors = DiskErrors {
        unreadable: state.failing,
        ..DiskErrors::NONE
    };
    let finds_nothing = |one| {
        let plan = plan(model, &state.all_facts(model, one), &state.disk, errors);
        let undecided = Events::NONE;
        Plan { undecided, ..plan }.is_void()
    };
    // What fails is reconciled all the same, for what can be done without it.
    let (mut failing, mut others) = (state.failing.iter(), Coordinates::BOTH.without(state.failing).iter());
    !state.is_at_rest() || !failing.all(finds_nothing) || others.all(finds_nothing)
}

fn is_at_its_end(model: &Configuration, state: &State) -> bool {
    let is_deleted = |event| model.deletes == Some(event);
    let is_superseded = |event| model.is_one_author() && event == Event::Older && state.relay.served.has(Event::Newer);
    let mut sent = Event::ALL
        .into_iter()
        .filter(|event| model.supply.sends[event.index()] > 0);
    let has_ended = |event| state.relay.served.has(event) || is_deleted(event) || is_superseded(event);
    state.is_at_rest() && model.deletes.is_some() == state.relay.has_deletion && sent.all(has_ended)
}

impl State {
    /// Tells whether an event is served, in the purgatory, or with a gateway that is going to write it there again.
    pub fn is_somewhere(&self, event: Event) -> bool {
        let is_in_redis = self.redis.status(event) != EntryStatus::Absent;
        let mut in_flight = self.in_flight.iter();
        self.relay.served.has(event)
            || is_in_redis
            || in_flight.any(|in_flight| in_flight.is_lost && in_flight.events.has(event))
    }

    /// Tells whether an event counts as gone while the relay may still commit it: its author's deletion is known to
    /// Redis and not yet committed, or a failover lost what was not confirmed. Both end by themselves.
    fn is_passing(&self, model: &Configuration, event: Event) -> bool {
        let is_being_deleted = model.deletes == Some(event) && self.redis.gates.has(event);
        is_being_deleted || self.unsettled.has(event)
    }

    /// Tells whether the relay has committed what a gateway has yet to settle: if that does not count, it marks.
    fn is_settling_served(&self) -> bool {
        let served = self.relay.served;
        self.gateways
            .iter()
            .any(|task| !task.leased().within(served).is_empty())
    }

    /// Tells whether anybody is in the middle of something.
    pub fn is_anybody_busy(&self) -> bool {
        let relay = &self.relay;
        let is_relay_busy = relay
            .pending
            .iter()
            .chain(&relay.batch)
            .any(|messages| !messages.is_empty());
        is_relay_busy || self.plugin != Plugin::Idle || self.gateways.iter().any(Task::is_busy)
    }

    /// Tells whether anything is dirty, or to be marked.
    pub fn is_marked(&self) -> bool {
        let is_lost = self.in_flight.iter().any(|in_flight| in_flight.is_lost);
        let marked = self.redis.dirty_coordinates().without(self.failing);
        !self.relay.news.is_empty() || self.is_new_master || is_lost || !marked.is_empty()
    }

    /// Nobody is busy, and nobody would be without clients, faults and deadlines.
    fn is_at_rest(&self) -> bool {
        let runs = self.redis_up && self.relay.is_up && self.gateways.contains(&Task::Idle);
        let is_open = |event: Event| !self.redis.entries[event.index()].coordinates.meets(self.failing);
        let is_waited_for = self.redis.overdue().iter().any(is_open) || self.redis.is_releasing_any();
        runs && !self.is_marked() && !is_waited_for && !self.is_anybody_busy()
    }

    /// Forgets what a failover has excused, at rest.
    pub fn settle_failover(&mut self) {
        if !self.unsettled.is_empty() && self.is_at_rest() {
            self.unsettled = Events::NONE;
        }
    }

    /// Forgets the promises that have ended as they may: superseded or deleted.
    ///
    /// What has expired is forgotten when it does, if its data was not here.
    pub fn forget_ended_promises(&mut self, model: &Configuration) {
        if self.redis.status(Event::Newer) == EntryStatus::Absent {
            self.promised_parts = Parts::NONE;
        }
        let newer_counts_as_served = model.is_one_author()
            && (self.relay.served.has(Event::Newer) || self.redis.status(Event::Newer) == EntryStatus::Releasing);
        for event in Event::ALL {
            let is_deleted = model.deletes == Some(event) && (self.relay.has_deletion || self.redis.gates.has(event));
            let is_superseded = event == Event::Older && newer_counts_as_served;
            if (is_deleted || is_superseded) && !self.is_somewhere(event) {
                self.promised.remove(event);
            }
        }
    }
}

/// A release takes ten steps or so, and no more than three events are on their way.
const STEPS_TO_REST_MAX: usize = 300;
