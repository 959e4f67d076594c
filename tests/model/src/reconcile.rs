//! One reconcile of an identifier, in its lock: read facts, plan, act (`gateway/src/reconcile/mod.rs`).

use crate::Bug;
use crate::Configuration;
use crate::action::Act;
use crate::disk::DiskErrors;
use crate::event::Event;
use crate::event::Events;
use crate::event::Identifiers;
use crate::publish;
use crate::redis::EntryStatus;
use crate::redis::GatewayId;
use crate::rules::Facts;
use crate::rules::Plan;
use crate::rules::plan;
use crate::state::Acting;
use crate::state::FirstRead;
use crate::state::State;
use crate::state::Task;

/// The first half of the facts.
pub fn read_first(model: &Configuration, state: &State, identifiers: Identifiers) -> Option<Task> {
    let first = if model.bug == Some(Bug::RelayBeforePurgatory) {
        let (served, has_deletion) = (state.relay.served, state.relay.has_deletion);
        state.relay.is_up.then_some(FirstRead::Relay { served, has_deletion })
    } else {
        state.redis_up.then(|| FirstRead::Purgatory(state.redis.read()))
    };
    Some(Task::Reading {
        identifiers,
        first: first?,
    })
}

/// The second half of the facts, the disk, and the plan. `served` is what a query of the relay returned.
pub fn plan_on(
    model: &Configuration,
    state: &State,
    (identifiers, first): (Identifiers, FirstRead),
    served: Events,
    errors: DiskErrors,
) -> Option<Task> {
    let facts = match first {
        FirstRead::Purgatory(reading) => {
            let has_deletion = state.relay.has_deletion;
            state
                .relay
                .is_up
                .then(|| Facts::assemble(reading, served, has_deletion))
        }
        FirstRead::Relay { served, has_deletion } => {
            let reading = state.redis.read();
            state.redis_up.then(|| Facts::assemble(reading, served, has_deletion))
        }
    };
    Some(plan_on_facts(model, state, (identifiers, facts?), errors))
}

/// The disk, and the plan. A change of the disk that is going to fail fails here: what could be changed before it is
/// changed by the plan that is made without it.
pub fn plan_on_facts(
    model: &Configuration,
    state: &State,
    (identifiers, facts): (Identifiers, Facts),
    errors: DiskErrors,
) -> Task {
    Task::Acting(Acting {
        identifiers,
        plan: plan(model, identifiers, &facts, &state.disk, errors),
        leased: Events::NONE,
    })
}

/// Returns the first thing that a plan still has to do, in the order of `change_repositories` and `act`: refs first,
/// then the mark `releasing`, so that whatever is marked can be fetched; the dirty mark last.
pub fn next_act(plan: &Plan) -> Act {
    if plan.align.is_some() {
        Act::Align
    } else if !plan.install.is_empty() {
        Act::Install
    } else if !plan.releases.is_empty() {
        Act::MarkReleasing
    } else if !plan.ended.is_empty() {
        Act::End
    } else if !plan.expired.is_empty() {
        Act::Expire
    } else if !plan.undecided.is_empty() {
        Act::Extend
    } else if !plan.placeholders_ended.is_empty() {
        Act::DropPlaceholders
    } else if !plan.unstage.is_empty() {
        Act::Unstage
    } else {
        Act::ClearDirty
    }
}

/// Does the next thing of a plan.
pub fn act(model: &Configuration, state: &mut State, id: GatewayId, act: Act, mut acting: Acting) -> Option<Task> {
    let is_on_disk = matches!(act, Act::Align | Act::Install | Act::Unstage);
    if !state.redis_up && !is_on_disk {
        return None;
    }
    let plan = &mut acting.plan;
    match act {
        Act::Align => state.disk.refs = plan.align.take(),
        Act::Install => {
            let one = plan.install.iter().next()?;
            plan.install = plan.install.without(one);
            state.disk.installed = state.disk.installed.with(one);
            state.disk.staged = state.disk.staged.without(one);
        }
        Act::MarkReleasing => {
            let releases = std::mem::take(&mut plan.releases);
            acting.leased = state.redis.mark_releasing(id, releases, plan.after_announcement);
            publish::remember(model, state, id, acting.leased);
        }
        Act::End => {
            let event = plan.ended.first()?;
            plan.ended.remove(event);
            state.redis.end(event);
        }
        Act::Expire => {
            let event = plan.expired.first()?;
            plan.expired.remove(event);
            expire(model, state, event);
        }
        Act::Extend => state.redis.extend(std::mem::take(&mut plan.undecided)),
        Act::DropPlaceholders => state
            .redis
            .drop_placeholder(std::mem::take(&mut plan.placeholders_ended)),
        Act::Unstage => {
            let unstage = std::mem::take(&mut plan.unstage);
            state.disk.staged = state.disk.staged.without(unstage);
        }
        Act::ClearDirty => return Some(end_reconcile(model, state, acting)),
    }
    Some(Task::Acting(acting))
}

/// Ends an entry, and the promise with it, unless its data is here: then it was not to expire.
fn expire(model: &Configuration, state: &mut State, event: Event) {
    let everywhere = Identifiers::BOTH;
    let plan = plan(model, everywhere, &state.facts(), &state.disk, DiskErrors::NONE);
    let is_complete = plan.releases.has(event);
    state.redis.expire(event);
    if state.redis.status(event) == EntryStatus::Absent && !is_complete {
        state.promised.remove(event);
    }
}

/// Clears the marks that are still those it has read, unlocks, and publishes.
fn end_reconcile(model: &Configuration, state: &mut State, acting: Acting) -> Task {
    let Acting { identifiers, plan, .. } = acting;
    for one in identifiers.iter() {
        let read = match model.bug {
            Some(Bug::ClearUnconditionally) => state.redis.dirty[one.index()],
            _ => plan.dirty[one.index()],
        };
        state.redis.clear_dirty(one, read);
    }
    // Once: what would need even more is reconciled with its own identifiers.
    if !plan.widen.without(identifiers).is_empty() {
        return Task::Locking(identifiers.with(plan.widen));
    }
    publish::begin(acting.leased, plan.after_announcement)
}
