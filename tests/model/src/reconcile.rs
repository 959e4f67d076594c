//! One reconcile of a coordinate, under its lock: read facts, plan, act (`gateway/src/reconcile/mod.rs`).

use crate::Bug;
use crate::Configuration;
use crate::action::Act;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::event::Parts;
use crate::publish;
use crate::redis::EntryStatus;
use crate::redis::GatewayId;
use crate::rules::Answered;
use crate::rules::Facts;
use crate::rules::Plan;
use crate::rules::Reach;
use crate::rules::plan;
use crate::state::Acting;
use crate::state::FirstRead;
use crate::state::Scope;
use crate::state::State;
use crate::state::Task;

/// The first half of the facts.
pub fn read_first(model: &Configuration, state: &State, scope: Scope) -> Option<Task> {
    let first = if model.bug == Some(Bug::RelayBeforePurgatory) {
        state.relay.is_up.then(|| FirstRead::Relay(state.relay.answer()))
    } else {
        state.redis_up.then(|| FirstRead::Purgatory(state.redis.read()))
    };
    Some(Task::Reading { scope, first: first? })
}

/// The second half of the facts, the disk, and the plan. `answered` is what a query of the relay returned.
pub fn plan_on(
    model: &Configuration,
    state: &State,
    id: GatewayId,
    (scope, first): (Scope, FirstRead),
    (answered, errors): (Answered, DiskErrors),
) -> Option<Task> {
    let (reading, answered) = match first {
        FirstRead::Purgatory(reading) => state.relay.is_up.then_some((reading, answered)),
        FirstRead::Relay(answered) => state.redis_up.then(|| (state.redis.read(), answered)),
    }?;
    let facts = Facts::assemble(model, (scope.asked, scope.reach), reading, answered);
    Some(plan_on_facts(model, state, id, (scope, facts), errors))
}

/// The disk, and the plan. A change of the disk that is going to fail fails here: what could be changed before it is
/// changed by the plan that is made without it. What a plan changes and is not locked is locked, if nobody has it, and
/// everything is read anew; or it is left to others (`Reconciler::leave`).
pub fn plan_on_facts(
    model: &Configuration,
    state: &State,
    id: GatewayId,
    (mut scope, facts): (Scope, Facts),
    errors: DiskErrors,
) -> Task {
    let errors = DiskErrors {
        unreadable: errors.unreadable.with(state.failing),
        ..errors
    };
    let locked_by_other = state.gateways[usize::from(1 - id)].locked();
    let mut left = Coordinates::NONE;
    loop {
        let considered = DiskErrors {
            unchangeable: errors.unchangeable.with(left),
            ..errors
        };
        let mut plan = plan(model, &facts, &state.disk, considered);
        plan.confine_to(scope.locked);
        let needed = match model.bug {
            Some(Bug::ReliesOnUnlocked) => plan.changed(),
            _ => plan.changed().with(plan.relies_on),
        };
        let unlocked = needed.without(scope.locked).without(left);
        if unlocked.is_empty() {
            return Task::Acting(acting(model, scope, &facts, plan, (errors, left)));
        }
        if !scope.has_tried && !unlocked.meets(locked_by_other) {
            scope.locked = scope.locked.with(unlocked);
            scope.has_tried = true;
            if model.bug != Some(Bug::ExtendedWithoutReading) {
                return Task::Locked(scope);
            }
        } else {
            left = left.with(unlocked);
            scope.has_tried = true;
        }
    }
}

/// What is to be done, and which marks it clears.
fn acting(
    model: &Configuration,
    scope: Scope,
    facts: &Facts,
    mut plan: Plan,
    (errors, left): (DiskErrors, Coordinates),
) -> Acting {
    let homes = plan.releases.iter().map(|event| model.scene.coordinates(event));
    let homes = homes.fold(Coordinates::NONE, Coordinates::with);
    let settled = match model.bug {
        Some(Bug::UnreadIsSettled) => facts.covered,
        _ => facts.settled,
    };
    let mut others = homes.without(settled);
    if model.bug != Some(Bug::LeftWithoutMark) {
        others = others.with(left);
    }
    let failing = errors.all().within(facts.hosted(model));
    // What fails and belongs to others is theirs to try again.
    let own = match model.bug {
        Some(Bug::FailureStopsOthers) => failing,
        _ => {
            others = others.with(failing.without(scope.asked));
            failing.within(scope.asked)
        }
    };
    let mut dirty = [0; 2];
    if own.is_empty() {
        for one in scope.asked.within(settled).iter() {
            dirty[one.index()] = facts.reading.dirty[one.index()];
        }
    } else {
        (plan.note, plan.note_held, plan.take_off) = (Coordinates::NONE, Coordinates::NONE, Coordinates::NONE);
    }
    Acting {
        scope,
        plan,
        others,
        leased: Events::NONE,
        dirty,
    }
}

/// Returns the first thing that a plan still has to do, in the order of `change_repositories` and `act`: refs first,
/// then the mark `releasing`, so that whatever is marked can be fetched; the dirty mark last.
pub fn next_act(acting: &Acting) -> Act {
    let plan = &acting.plan;
    if plan.align != [None; 2] {
        Act::Align
    } else if !plan.install.is_empty() {
        Act::Install
    } else if !acting.others.is_empty() {
        Act::MarkOthers
    } else if !plan.releases.is_empty() {
        Act::MarkReleasing
    } else if !plan.undecided.is_empty() {
        Act::Extend
    } else if !plan.ended.is_empty() {
        Act::End
    } else if !plan.expired.is_empty() {
        Act::Expire
    } else if !plan.placeholders_ended.is_empty() {
        Act::DropPlaceholders
    } else if !plan.unstage.is_empty() {
        Act::Unstage
    } else if plan.ends_parts {
        Act::EndParts
    } else if !plan.note.with(plan.note_held).with(plan.take_off).is_empty() {
        Act::NoteListings
    } else {
        Act::ClearDirty
    }
}

/// Does the next thing of a plan.
pub fn act(model: &Configuration, state: &mut State, id: GatewayId, act: Act, mut acting: Acting) -> Option<Task> {
    let is_on_disk = matches!(act, Act::Align | Act::Install | Act::Unstage | Act::EndParts);
    if !state.redis_up && !is_on_disk {
        return None;
    }
    let plan = &mut acting.plan;
    match act {
        Act::Align => {
            let mut aligned = Coordinates::EACH.into_iter();
            let one = aligned.find(|one| plan.align[one.index()].is_some())?;
            state.disk.align(one, plan.align[one.index()].take()?);
        }
        Act::Install => {
            let one = plan.install.iter().next()?;
            plan.install = plan.install.without(one);
            state.disk.installed = state.disk.installed.with(one);
            state.disk.staged = state.disk.staged.without(one);
        }
        Act::MarkOthers => state.redis.mark_dirty(std::mem::take(&mut acting.others)),
        Act::MarkReleasing => {
            let releases = std::mem::take(&mut plan.releases);
            let releases = releases.iter().map(|event| (event, model.scene.coordinates(event)));
            acting.leased = state.redis.mark_releasing(id, releases, plan.after_announcement);
            publish::remember(model, state, id, acting.leased);
        }
        Act::Extend => state.redis.extend(std::mem::take(&mut plan.undecided)),
        Act::End => {
            let event = plan.ended.first()?;
            plan.ended.remove(event);
            state.redis.end(event);
        }
        Act::Expire => {
            let event = plan.expired.first()?;
            plan.expired.remove(event);
            expire(model, state, event);
            // It was extended meanwhile, by a push that waits for this lock.
            if event == Event::Newer
                && state.redis.status(event).is_waiting()
                && model.bug != Some(Bug::PartsEndUnasked)
            {
                plan.ends_parts = false;
            }
        }
        Act::DropPlaceholders => state
            .redis
            .drop_placeholder(std::mem::take(&mut plan.placeholders_ended)),
        Act::Unstage => {
            let unstage = std::mem::take(&mut plan.unstage);
            state.disk.staged = state.disk.staged.without(unstage);
        }
        Act::EndParts => {
            plan.ends_parts = false;
            state.disk.parts = Parts::NONE;
        }
        Act::NoteListings => {
            let (note, take_off) = (std::mem::take(&mut plan.note), std::mem::take(&mut plan.take_off));
            let note_held = std::mem::take(&mut plan.note_held);
            let dirty = state.redis.dirty;
            for one in note.with(note_held).iter() {
                let is_served = note.meets(one);
                state.redis.note_listing(one, model.scene.lists(one), is_served);
            }
            if model.bug == Some(Bug::NotedInSilence) {
                state.redis.dirty = dirty;
            }
            state.redis.take_listing_off(take_off);
        }
        Act::ClearDirty => return Some(end_reconcile(model, state, acting)),
    }
    Some(Task::Acting(acting))
}

/// Ends an entry, and the promise with it, unless its data is here: then it was not to expire.
fn expire(model: &Configuration, state: &mut State, event: Event) {
    let facts = state.all_facts(model, Coordinates::BOTH);
    let is_complete = plan(model, &facts, &state.disk, DiskErrors::NONE).releases.has(event);
    state.redis.expire(event);
    if state.redis.status(event) == EntryStatus::Absent && !is_complete {
        state.promised.remove(event);
    }
}

/// Clears the marks that are still those it has read, unlocks, and publishes.
fn end_reconcile(model: &Configuration, state: &mut State, acting: Acting) -> Task {
    let Acting { scope, plan, .. } = acting;
    for one in scope.asked.iter() {
        let read = match model.bug {
            Some(Bug::ClearUnconditionally) => state.redis.dirty[one.index()],
            _ => acting.dirty[one.index()],
        };
        state.redis.clear_dirty(one, read);
    }
    // Once: what would need even more is reconciled with its own coordinates. A push leaves it to the worker.
    if scope.reach == Reach::Full && !plan.widen.without(scope.asked).is_empty() {
        return Task::Locking(scope.asked.with(plan.widen));
    }
    publish::begin(acting.leased, plan.after_announcement)
}
