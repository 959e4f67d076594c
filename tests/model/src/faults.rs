//! What breaks, and the passing of time.
//!
//! A program that is killed between two steps and one of whose calls fails are the same here: it forgets what it was
//! doing. A gateway that starts again does nothing by itself: nothing may depend on the marks that it sets at its
//! start and once a day.

use crate::Bug;
use crate::Configuration;
use crate::action::Action;
use crate::action::Fault;
use crate::action::TimeStep;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::plugin;
use crate::push;
use crate::reconcile;
use crate::redis::EntryStatus;
use crate::redis::GatewayId;
use crate::redis::Redis;
use crate::redis::Settlement;
use crate::relay;
use crate::relay::Answer;
use crate::state::Plugin;
use crate::state::State;
use crate::state::Task;

/// Adds what may break, and what may work again.
pub fn actions(model: &Configuration, state: &State, actions: &mut Vec<Action>) {
    disk_actions(model, state, actions);
    let left = &state.left;
    let mut may = |fault| actions.push(Action::Fault(fault));
    let running = state.gateways.iter().filter(|task| **task != Task::Down).count();
    for id in 0..2 {
        let task = &state.gateways[usize::from(id)];
        if left.crashes > 0 && task.is_busy() {
            may(Fault::KillGateway(id));
        }
        if *task == Task::Down && running < usize::from(model.gateways) {
            may(Fault::StartGateway(id));
        }
        if let Task::Publishing(publishing) = task
            && left.lost_answers > 0
        {
            publishing
                .sent()
                .iter()
                .for_each(|event| may(Fault::LoseAnswer(id, event)));
        }
        if left.short_reads > 0 && state.relay.is_up && matches!(task, Task::Reading { .. }) {
            for event in state.relay.served.iter() {
                may(Fault::ReadShort(id, event));
            }
        }
    }
    if left.crashes > 0 && state.plugin != Plugin::Idle {
        may(Fault::KillPlugin);
    }
    if !state.relay.is_up {
        may(Fault::StartRelay);
    } else if left.relay_crashes > 0 {
        may(Fault::KillRelay);
    }
    if !state.redis_up {
        may(Fault::FindRedis);
    } else if left.redis_outages > 0 {
        may(Fault::LoseRedis);
    }
    if left.failovers > 0 && state.replica != state.redis {
        may(Fault::Replicate);
        may(Fault::Failover);
    }
    if left.losses > 0 {
        may(Fault::EmptyRedis);
    }
}

fn disk_actions(model: &Configuration, state: &State, actions: &mut Vec<Action>) {
    let mut may = |fault| actions.push(Action::Fault(fault));
    for id in 0..2 {
        if state.left.disk_errors == 0 {
            break;
        }
        for one in about_to_plan(model, &state.gateways[usize::from(id)]).iter() {
            may(Fault::CannotRead(id, one));
            may(Fault::CannotChange(id, one));
            may(Fault::CannotInstall(id, one));
        }
    }
    for one in Coordinates::EACH {
        // What fails between a plan and its change counts as failing before.
        let is_changing = |task: &Task| matches!(task, Task::Acting(acting) if acting.plan.changed().meets(one));
        if one.meets(state.failing) {
            may(Fault::MendDisk(one));
        } else if state.left.disk_failures > 0 && !state.gateways.iter().any(is_changing) {
            may(Fault::BreakDisk(one));
        }
    }
}

/// Leases and pauses that end: no fault, and no matter of hours.
pub fn lease_ends(state: &State, actions: &mut Vec<Action>) {
    for event in Event::ALL {
        let entry = &state.redis.entries[event.index()];
        if entry.status == EntryStatus::Releasing && !entry.is_due {
            actions.push(Action::Time(TimeStep::LeaseEnds(event)));
        }
    }
}

/// Deadlines and gates that end: half an hour, and ten minutes.
pub fn time_passes(state: &State, actions: &mut Vec<Action>) {
    for event in Event::ALL {
        let entry = &state.redis.entries[event.index()];
        // Whoever is told that an event is held is told within a second.
        let is_new = plugin::is_answering(state, event);
        if state.left.deadlines > 0 && entry.status.is_waiting() && !entry.is_overdue && !is_new {
            actions.push(Action::Time(TimeStep::DeadlinePasses(event)));
        }
    }
    // Whatever the deletion found under way has ended by then.
    if !state.redis.gates.is_empty() && !state.is_anybody_busy() && !state.is_marked() {
        actions.push(Action::Time(TimeStep::GatesEnd));
    }
}

/// Makes the next state.
pub fn pass(state: &mut State, step: TimeStep) {
    match step {
        TimeStep::LeaseEnds(event) => state.redis.entries[event.index()].is_due = true,
        TimeStep::DeadlinePasses(event) => {
            state.left.deadlines -= 1;
            state.redis.entries[event.index()].is_overdue = true;
        }
        TimeStep::GatesEnd => state.redis.gates = Events::NONE,
    }
}

/// Makes the next state.
pub fn step(model: &Configuration, state: &mut State, fault: Fault) {
    match fault {
        Fault::KillGateway(id) => {
            state.left.crashes -= 1;
            let killed = std::mem::replace(&mut state.gateways[usize::from(id)], Task::Down);
            // When it is back it reads what was committed while it was away, and marks that.
            let served = killed.leased().within(state.relay.served);
            state.relay.news = state.relay.news.with(relay::followed(model, served));
            let forgotten = std::mem::take(&mut state.in_flight[usize::from(id)]);
            if forgotten.is_lost {
                end_promises(state);
            }
        }
        Fault::StartGateway(id) => state.gateways[usize::from(id)] = Task::Idle,
        Fault::KillPlugin => {
            state.left.crashes -= 1;
            let request = match std::mem::replace(&mut state.plugin, Plugin::Idle) {
                Plugin::Idle => return,
                Plugin::Read { request, .. }
                | Plugin::Holding { request, .. }
                | Plugin::Following { request }
                | Plugin::Answering { request } => request,
            };
            relay::answer(state, request, Answer::Error);
        }
        Fault::KillRelay => {
            state.left.relay_crashes -= 1;
            state.relay.is_up = false;
            relay::lose_everything(state);
        }
        Fault::StartRelay => state.relay.is_up = true,
        Fault::LoseRedis => {
            state.left.redis_outages -= 1;
            state.redis_up = false;
        }
        Fault::FindRedis => state.redis_up = true,
        Fault::Replicate => state.replica = state.redis,
        Fault::Failover => {
            state.left.failovers -= 1;
            change_master(state, state.replica);
        }
        Fault::EmptyRedis => {
            state.left.losses -= 1;
            change_master(state, Redis::default());
            lose_everything(state);
        }
        Fault::LoseAnswer(id, event) => {
            state.left.lost_answers -= 1;
            if let Task::Publishing(publishing) = &mut state.gateways[usize::from(id)] {
                publishing.end([event].into_iter().collect(), Settlement::Retry);
            }
        }
        Fault::ReadShort(id, missing) => read_short(model, state, id, missing),
        Fault::CannotRead(id, one) => plan_without(model, state, id, |errors| &mut errors.unreadable, one),
        Fault::CannotChange(id, one) => plan_without(model, state, id, |errors| &mut errors.unchangeable, one),
        Fault::CannotInstall(id, one) => plan_without(model, state, id, |errors| &mut errors.uninstallable, one),
        Fault::BreakDisk(one) => {
            state.left.disk_failures -= 1;
            state.failing = state.failing.with(one);
        }
        Fault::MendDisk(one) => state.failing = state.failing.without(one),
    }
}

/// Returns the coordinates of which a gateway is about to read the disk.
fn about_to_plan(model: &Configuration, task: &Task) -> Coordinates {
    let asked = if let Task::Reading { scope, .. } = task {
        scope.asked
    } else if let Task::Moving { push, .. } | Task::Staging { push, .. } = task {
        push.coordinate()
    } else {
        return Coordinates::NONE;
    };
    let related = Coordinates::EACH.into_iter().map(|one| model.scene.lists(one));
    related.fold(asked, Coordinates::with)
}

/// Something of the disk fails at this reconcile, which goes on without it.
fn plan_without(
    model: &Configuration,
    state: &mut State,
    id: GatewayId,
    failing: impl Fn(&mut DiskErrors) -> &mut Coordinates,
    one: Coordinates,
) {
    state.left.disk_errors -= 1;
    let mut errors = DiskErrors::NONE;
    *failing(&mut errors) = one;
    let task = std::mem::replace(&mut state.gateways[usize::from(id)], Task::Idle);
    let next = if let Task::Reading { scope, first } = task {
        reconcile::plan_on(model, state, id, (scope, first), (state.relay.answer(), errors))
    } else if let Task::Moving { push, facts } | Task::Staging { push, facts } = task {
        push::take_in(model, state, id, (push, facts), errors)
    } else {
        Some(task)
    };
    state.gateways[usize::from(id)] = next.unwrap_or(Task::Idle);
}

/// Another server answers, or the same one after a loss.
fn change_master(state: &mut State, master: Redis) {
    for event in Event::ALL {
        let (old, new) = (state.redis.status(event), master.status(event));
        // A hold that was confirmed is on the replica: nothing excuses what happens to it.
        if old != new && new != EntryStatus::Held {
            state.unsettled.add(event);
        }
    }
    state.redis = master;
    state.is_new_master = true;
    // Its connection is gone, and `WAIT` asks the master that the hold was written to.
    if let Plugin::Answering { request } = state.plugin {
        state.plugin = Plugin::Idle;
        relay::answer(state, request, Answer::Error);
    }
}

/// What a living gateway was releasing it writes again; everything else that is not served has to be sent again.
fn lose_everything(state: &mut State) {
    for in_flight in &mut state.in_flight {
        in_flight.is_lost = !in_flight.events.is_empty();
    }
    end_promises(state);
}

/// Ends the promises of what is nowhere any more, by no mistake of a program.
fn end_promises(state: &mut State) {
    let kept = state.promised.iter().filter(|event| state.is_somewhere(*event));
    state.promised = kept.collect();
}

/// A relay answers a query with no more than its limit. One event is not in it.
fn read_short(model: &Configuration, state: &mut State, id: GatewayId, missing: Event) {
    state.left.short_reads -= 1;
    let task = std::mem::replace(&mut state.gateways[usize::from(id)], Task::Idle);
    if let Task::Reading { scope, first } = task
        && model.bug == Some(Bug::ShortReadIsFact)
    {
        let mut answered = state.relay.answer();
        answered.served.remove(missing);
        let next = reconcile::plan_on(model, state, id, (scope, first), (answered, DiskErrors::NONE));
        state.gateways[usize::from(id)] = next.unwrap_or(Task::Idle);
    }
}
