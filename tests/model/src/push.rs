//! A push: a first decision before its body is read, and from the lock on what cannot be undone (`gateway/src/push/`).

use crate::Bug;
use crate::Configuration;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Parts;
use crate::event::Push;
use crate::reconcile;
use crate::redis::GatewayId;
use crate::redis::Reading;
use crate::rules::Facts;
use crate::rules::Reach;
use crate::rules::decide_push;
use crate::state::Scope;
use crate::state::State;
use crate::state::Task;

/// The first decision, on what is there at this moment. It is made again later, and counts for nothing but for whose
/// deadlines are extended: so its facts are read in one step here.
pub fn receive_pack(model: &Configuration, state: &mut State, id: GatewayId, push: Push) {
    let facts = state.facts(model, (push.coordinate(), Reach::Members));
    let decided = decide_push(model, push, &facts, &state.disk);
    let Some(extend) = decided.filter(|_| !push.coordinate().meets(state.failing)) else {
        return;
    };
    state.redis.extend(extend);
    if model.bug == Some(Bug::DirtyBeforeUpload) {
        state.redis.mark_dirty(push.coordinate());
    }
    state.gateways[usize::from(id)] = Task::Uploading(push);
}

/// Takes the lock, marks, and reads the purgatory. Marking and reading are one step here: with the lock taken, nobody
/// can make anything of the mark alone.
pub fn lock(model: &Configuration, state: &mut State, push: Push) -> Option<Task> {
    if !state.redis_up {
        return None;
    }
    if model.bug != Some(Bug::DirtyBeforeUpload) {
        state.redis.mark_dirty(push.coordinate());
    }
    let reading = state.redis.read();
    Some(Task::Deciding { push, reading })
}

/// Reads the relay, and decides again. A push that has no effect leaves the mark.
pub fn decide_again(model: &Configuration, state: &State, push: Push, reading: Reading) -> Option<Task> {
    if !state.relay.is_up || push.coordinate().meets(state.failing) {
        return None;
    }
    let facts = Facts::assemble(
        model,
        (push.coordinate(), Reach::Members),
        reading,
        state.relay.answer(),
    );
    decide_push(model, push, &facts, &state.disk)?;
    Some(Task::Moving { push, facts })
}

/// Records the commit of a PR before it is kept aside. What is reconciled on knows of it.
pub fn put_placeholder(state: &mut State, push: Push, mut facts: Facts) -> Option<Task> {
    if !state.redis_up {
        return None;
    }
    state.redis.put_placeholder(push.coordinate());
    facts.reading.placeholders = facts.reading.placeholders.with(push.coordinate());
    Some(Task::Staging { push, facts })
}

/// Moves the objects in, or keeps the commit of a PR aside, and reconciles on the facts that the push was decided on:
/// whatever has changed meanwhile has raised the number again.
pub fn take_in(
    model: &Configuration,
    state: &mut State,
    id: GatewayId,
    (push, facts): (Push, Facts),
    errors: DiskErrors,
) -> Option<Task> {
    let at = push.coordinate();
    if at.meets(state.failing) {
        return None;
    }
    match push.state() {
        // A whole state goes where its parts are.
        Some(Event::Newer)
            if at == Coordinates::X && (state.disk.parts, push.parts()) != (Parts::NONE, Parts::BOTH) =>
        {
            state.disk.parts = state.disk.parts.with(push.parts());
            state.promised_parts = state.promised_parts.with(push.parts());
        }
        // A repository is made with the refs of what comes first.
        Some(pushed) if !state.disk.has_repository(at) => state.disk.align(at, pushed),
        Some(pushed) => state.disk.objects[at.index()].add(pushed),
        None => state.disk.staged = state.disk.staged.with(at),
    }
    let scope = Scope::begin(at, Reach::Members);
    Some(reconcile::plan_on_facts(model, state, id, (scope, facts), errors))
}
