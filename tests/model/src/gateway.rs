//! What a gateway does next: its worker when it has nothing in hand (`gateway/src/background/worker.rs`), else the next
//! step of its task. Tasks are in [`crate::push`], [`crate::reconcile`] and [`crate::publish`].

use crate::Bug;
use crate::Configuration;
use crate::action::Action;
use crate::action::GatewayStep;
use crate::action::WorkerStep;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::publish;
use crate::push;
use crate::reconcile;
use crate::redis::GatewayId;
use crate::rules::Reach;
use crate::scripts::Hold;
use crate::state::Scope;
use crate::state::State;
use crate::state::Task;

/// Adds what a gateway may do.
pub fn actions(model: &Configuration, state: &State, id: GatewayId, actions: &mut Vec<Action>) {
    let mut may = |step| actions.push(Action::Gateway(id, step));
    let others = state.gateways[usize::from(1 - id)].locked();
    match &state.gateways[usize::from(id)] {
        Task::Down => {}
        Task::Idle => worker_actions(model, state, id, |step| may(GatewayStep::Worker(step))),
        Task::Uploading(push) if push.coordinate().meets(others) => {}
        Task::Uploading(_) => may(GatewayStep::LockForPush),
        Task::Deciding { .. } => may(GatewayStep::DecidePush),
        Task::Moving { push, .. } if push.state().is_none() => may(GatewayStep::PutPlaceholder),
        Task::Moving { .. } | Task::Staging { .. } => may(GatewayStep::TakeIn),
        Task::Locking(coordinates) if coordinates.meets(others) => {}
        Task::Locking(_) => may(GatewayStep::Lock),
        Task::Locked(_) => may(GatewayStep::ReadFirst),
        Task::Reading { .. } => may(GatewayStep::Plan),
        Task::Acting(acting) => may(GatewayStep::Act(reconcile::next_act(acting))),
        Task::Publishing(publishing) => {
            publishing
                .ready()
                .iter()
                .for_each(|event| may(GatewayStep::Publish(event)));
            publishing
                .ended()
                .iter()
                .for_each(|event| may(GatewayStep::Settle(event)));
        }
    }
}

/// `Worker::step` and `follow_relay`. Under the lock it is checked first that the coordinate is still dirty: here both
/// are one step. All of it follows from what is in Redis and in the relay, at any time: a notification makes it happen
/// earlier and its loss later, so there is none in the model.
fn worker_actions(model: &Configuration, state: &State, id: GatewayId, mut may: impl FnMut(WorkerStep)) {
    if !state.redis_up {
        return;
    }
    let locked_by_other = state.gateways[usize::from(1 - id)].locked();
    let dirty = state.redis.dirty_coordinates();
    for one in dirty.iter().filter(|one| !one.meets(locked_by_other)) {
        may(WorkerStep::StartReconcile(one));
    }
    let mut overdue = state.redis.overdue().iter();
    let coordinates = |event: Event| state.redis.entries[event.index()].coordinates;
    if overdue.any(|event| !coordinates(event).without(dirty).is_empty()) {
        may(WorkerStep::MarkOverdue);
    }
    if !state.redis.due().is_empty() && model.bug != Some(Bug::NoOtherPublisher) {
        may(WorkerStep::TakeDue);
    }
    if !state.relay.news.is_empty() && state.relay.is_up {
        may(WorkerStep::FollowRelay);
    }
    if state.in_flight[usize::from(id)].is_lost {
        may(WorkerStep::WriteAgain);
    } else if state.is_new_master {
        may(WorkerStep::NoticeNewMaster);
    }
}

/// Makes the next state. A call that fails ends the task: what it has not done yet stays to be done, and the mark
/// stays, since it is cleared last.
pub fn step(model: &Configuration, state: &mut State, id: GatewayId, step: GatewayStep) {
    let task = std::mem::replace(&mut state.gateways[usize::from(id)], Task::Idle);
    let next = match (step, task) {
        (GatewayStep::Worker(step), _) => worker_step(model, state, id, step),
        (GatewayStep::LockForPush, Task::Uploading(push)) => push::lock(model, state, push),
        (GatewayStep::DecidePush, Task::Deciding { push, reading }) => push::decide_again(model, state, push, reading),
        (GatewayStep::PutPlaceholder, Task::Moving { push, facts }) => push::put_placeholder(state, push, facts),
        (GatewayStep::TakeIn, Task::Moving { push, facts } | Task::Staging { push, facts }) => {
            push::take_in(model, state, id, (push, facts), DiskErrors::NONE)
        }
        (GatewayStep::Lock, Task::Locking(asked)) => Some(Task::Locked(Scope::begin(asked, Reach::Full))),
        (GatewayStep::ReadFirst, Task::Locked(scope)) => reconcile::read_first(model, state, scope),
        (GatewayStep::Plan, Task::Reading { scope, first }) => {
            let read = (state.relay.answer(), DiskErrors::NONE);
            reconcile::plan_on(model, state, id, (scope, first), read)
        }
        (GatewayStep::Act(act), Task::Acting(acting)) => reconcile::act(model, state, id, act, acting),
        (GatewayStep::Publish(event), Task::Publishing(publishing)) => {
            publish::publish(model, state, id, event, publishing)
        }
        (GatewayStep::Settle(event), Task::Publishing(publishing)) => {
            publish::settle(model, state, id, event, publishing)
        }
        (_, unchanged) => Some(unchanged),
    };
    state.gateways[usize::from(id)] = next.unwrap_or(Task::Idle);
}

fn worker_step(model: &Configuration, state: &mut State, id: GatewayId, step: WorkerStep) -> Option<Task> {
    match step {
        WorkerStep::StartReconcile(one) => {
            return reconcile::read_first(model, state, Scope::begin(one, Reach::Full));
        }
        WorkerStep::MarkOverdue => state.redis.mark_overdue(),
        WorkerStep::TakeDue => {
            let due = state.redis.take_due(id);
            publish::remember(model, state, id, due);
            return Some(publish::begin(due, Events::NONE));
        }
        WorkerStep::WriteAgain => {
            let lost = std::mem::take(&mut state.in_flight[usize::from(id)]);
            write_again(model, state, lost.events);
        }
        WorkerStep::FollowRelay => {
            state.redis.mark_dirty(std::mem::take(&mut state.relay.news));
        }
        WorkerStep::NoticeNewMaster => {
            state.is_new_master = false;
            state.redis.mark_held();
            // What is on disk.
            if model.bug != Some(Bug::OnlyHeldIsMarked) {
                state.redis.mark_dirty(Coordinates::BOTH);
            }
            if model.has_losses() && model.bug != Some(Bug::ListingsAreNeverMended) {
                note_listings(model, state);
            }
        }
    }
    None
}

/// Notes whom the relay's announcements list.
fn note_listings(model: &Configuration, state: &mut State) {
    let scene = model.scene;
    let is_served = state.relay.served.has(Event::Announcement);
    let announced = if is_served {
        scene.announced()
    } else {
        Coordinates::NONE
    };
    let served = announced.with(scene.announced_throughout());
    for one in scene.listing(Coordinates::BOTH).within(served).iter() {
        state.redis.note_listing(one, scene.lists(one), true);
    }
}

/// What was being released is held again: refs may have been set back meanwhile, and only a reconcile, in its lock,
/// sets them before the mark.
fn write_again(model: &Configuration, state: &mut State, lost: Events) {
    for event in lost.iter() {
        match model.bug {
            Some(Bug::NothingIsWrittenAgain) => {}
            Some(Bug::ReleasedAgainWithoutReconcile) => {
                state.redis.release_again(event, model.scene.coordinates(event))
            }
            _ => {
                state.redis.hold(Hold::of(model.scene, event, Events::NONE));
            }
        }
    }
}
