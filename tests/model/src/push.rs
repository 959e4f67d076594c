//! A push: a first decision before its body is read, and from the lock on what cannot be undone
//! (`gateway/src/push/`).

use crate::Bug;
use crate::Configuration;
use crate::event::Push;
use crate::rules::Facts;
use crate::rules::decide_push;
use crate::state::GatewayId;
use crate::state::Reading;
use crate::state::State;
use crate::state::Task;

/// The first decision, on what is there at this moment. It is made again later, and counts for nothing but what is held
/// on to meanwhile: so its facts are read in one step here.
pub fn receive_pack(model: &Configuration, state: &mut State, id: GatewayId, push: Push) {
    let Some(extend) = decide_push(model, push, &state.facts(), &state.disk) else {
        return;
    };
    state.redis.extend(extend);
    if model.bug == Some(Bug::DirtyBeforeUpload) {
        state.redis.mark_dirty(push.identifier());
    }
    state.gateways[usize::from(id)] = Task::Uploading(push);
}

/// Takes the lock and reads the purgatory (`commit_locked`).
pub fn lock(state: &State, push: Push) -> Option<Task> {
    let reading = state.redis.read().without_marks();
    state.redis_up.then_some(Task::Deciding { push, reading })
}

/// Reads the relay, decides again, and marks: from here on things move. The mark may be set as early as the decision is
/// made, since nobody can reconcile before the lock is free.
pub fn decide_again(model: &Configuration, state: &mut State, push: Push, reading: Reading) -> Option<Task> {
    if !state.relay.is_up || !state.redis_up {
        return None;
    }
    let facts = Facts::assemble(reading, state.relay.served, state.relay.has_deletion);
    decide_push(model, push, &facts, &state.disk)?;
    if model.bug != Some(Bug::DirtyBeforeUpload) {
        state.redis.mark_dirty(push.identifier());
    }
    Some(Task::Moving(push))
}

/// Records the commit of a PR before it is kept aside.
pub fn put_placeholder(state: &mut State, push: Push) -> Option<Task> {
    if !state.redis_up {
        return None;
    }
    state.redis.put_placeholder(push.identifier());
    Some(Task::Staging(push))
}

/// Moves the objects in, or keeps the commit of a PR aside. Then the same reconcile as anybody's, in the same lock.
pub fn take_in(state: &mut State, push: Push) -> Task {
    match push.state() {
        Some(pushed) => state.disk.objects.add(pushed),
        None => state.disk.staged = state.disk.staged.with(push.identifier()),
    }
    Task::Locked(push.identifier())
}
