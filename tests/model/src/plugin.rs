//! The plugin: load facts, decide, hold, answer (`shared/src/write_policy.rs`).

use crate::Bug;
use crate::Configuration;
use crate::action::Action;
use crate::action::PluginStep;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::event::Message;
use crate::redis::EntryStatus;
use crate::redis::Reading;
use crate::relay;
use crate::relay::Answer;
use crate::rules::Admission;
use crate::rules::Facts;
use crate::rules::Reach;
use crate::rules::decide_admission;
use crate::scripts::Hold;
use crate::scripts::HoldOutcome;
use crate::state::Origin;
use crate::state::Plugin;
use crate::state::Request;
use crate::state::State;

/// Adds what the plugin may do.
pub fn actions(state: &State, actions: &mut Vec<Action>) {
    if !state.relay.is_up {
        return;
    }
    match &state.plugin {
        Plugin::Idle => {
            for origin in Origin::ALL {
                for message in state.relay.pending[origin.index()].iter() {
                    let request = Request { message, origin };
                    actions.push(Action::Plugin(match message {
                        Message::Event(_) => PluginStep::ReadPurgatory(request),
                        Message::Deletion => PluginStep::Delete(request),
                    }));
                }
            }
        }
        Plugin::Read { .. } => actions.push(Action::Plugin(PluginStep::Decide)),
        Plugin::Holding { .. } => actions.push(Action::Plugin(PluginStep::Hold)),
        Plugin::Following { .. } => actions.push(Action::Plugin(PluginStep::FollowListings)),
        Plugin::Answering { .. } => actions.push(Action::Plugin(PluginStep::Answer)),
    }
}

/// Makes the next state.
pub fn step(model: &Configuration, state: &mut State, step: PluginStep) {
    let before = std::mem::replace(&mut state.plugin, Plugin::Idle);
    match (step, before) {
        (PluginStep::Delete(request), _) => delete(model, state, request),
        (PluginStep::ReadPurgatory(request), _) => read_purgatory(state, request),
        (PluginStep::Decide, Plugin::Read { request, reading }) => {
            decide(model, state, request, reading);
        }
        (PluginStep::Hold, Plugin::Holding { request, extend }) => hold(model, state, request, extend),
        (PluginStep::FollowListings, Plugin::Following { request }) => follow_listings(model, state, request),
        (PluginStep::Answer, Plugin::Answering { request }) => answer_held(model, state, request),
        (PluginStep::Decide | PluginStep::Hold | PluginStep::FollowListings | PluginStep::Answer, other) => {
            state.plugin = other;
        }
    }
}

/// A deletion passes in any case: the relay keeps it, and it is asked about there later.
fn delete(model: &Configuration, state: &mut State, request: Request) {
    state.relay.pending[request.origin.index()].remove(request.message);
    if let Some(deleted) = model.deletes
        && state.redis_up
    {
        state.redis.delete(deleted);
    }
    accept(state, request);
}

fn read_purgatory(state: &mut State, request: Request) {
    state.relay.pending[request.origin.index()].remove(request.message);
    if !state.redis_up {
        return relay::answer(state, request, Answer::Error);
    }
    let reading = state.redis.read().without_marks();
    state.plugin = Plugin::Read { request, reading };
}

fn decide(model: &Configuration, state: &mut State, request: Request, reading: Reading) {
    let Message::Event(event) = request.message else { return };
    let asked = model.scene.coordinates(event);
    let facts = Facts::assemble(model, (asked, Reach::Full), reading, state.relay.answer());
    let is_here = |objects: &Events| event.is_state() && objects.has(event);
    if model.bug == Some(Bug::PluginJudgesData) && state.disk.objects.iter().any(is_here) {
        return accept(state, request);
    }
    match decide_admission(model, event, &facts) {
        Admission::Accept => pass(model, state, request, event),
        Admission::Hold { extend } => state.plugin = Plugin::Holding { request, extend },
        Admission::RuleOut => relay::answer(state, request, Answer::RuledOut),
        Admission::Refuse => relay::answer(state, request, Answer::Refused),
    }
}

/// Lets in what is being released, but not before what it is ordered after (`consider_releasing`). What was accepted is
/// remembered for a moment: until the relay has committed it, at the least.
fn pass(model: &Configuration, state: &mut State, request: Request, event: Event) {
    let first = Event::Announcement;
    let is_ordered = state.redis.entries[event.index()].is_after_announcement;
    let is_accepted = state.relay.is_in_batch(first);
    if !is_ordered || is_accepted || model.bug == Some(Bug::ReleasedOutOfOrder) {
        return accept(state, request);
    }
    match (state.redis_up, state.redis.status(first)) {
        (false, _) => relay::answer(state, request, Answer::Error),
        (true, EntryStatus::Absent) => accept(state, request),
        (true, _) => relay::answer(state, request, Answer::Held),
    }
}

fn accept(state: &mut State, request: Request) {
    state.relay.batch[request.origin.index()].add(request.message);
}

fn hold(model: &Configuration, state: &mut State, request: Request, extend: Events) {
    let Message::Event(event) = request.message else { return };
    if !state.redis_up {
        return relay::answer(state, request, Answer::Error);
    }
    let hold = Hold::of(model.scene, event, extend);
    let nothing_noted = Hold {
        lists: Coordinates::NONE,
        ..hold
    };
    match state.redis.hold(nothing_noted) {
        HoldOutcome::Held | HoldOutcome::Already(_) if hold.lists.is_empty() => {
            state.plugin = Plugin::Answering { request };
        }
        HoldOutcome::Held | HoldOutcome::Already(_) => state.plugin = Plugin::Following { request },
        HoldOutcome::Deleted => relay::answer(state, request, Answer::RuledOut),
    }
}

fn follow_listings(model: &Configuration, state: &mut State, request: Request) {
    let Message::Event(event) = request.message else { return };
    if !state.redis_up {
        return relay::answer(state, request, Answer::Error);
    }
    let (hold, dirty) = (Hold::of(model.scene, event, Events::NONE), state.redis.dirty);
    state.redis.follow_listings(hold);
    if model.bug == Some(Bug::NotedInSilence) {
        for listed in hold.lists.iter() {
            state.redis.dirty[listed.index()] = dirty[listed.index()];
        }
    }
    state.plugin = Plugin::Answering { request };
}

/// Behind the hold, on the same connection, goes `WAIT`: a replica has what this connection wrote, and all before it.
fn answer_held(model: &Configuration, state: &mut State, request: Request) {
    if model.bug != Some(Bug::AnswerWithoutWait) {
        if !state.redis_up {
            return relay::answer(state, request, Answer::Error);
        }
        if model.has_replica() {
            state.replica = state.redis;
        }
    }
    let answer = match (request.origin, model.bug) {
        (Origin::Gateway, Some(Bug::HeldIsStored)) => Answer::Stored,
        _ => Answer::Held,
    };
    relay::answer(state, request, answer);
}

/// Tells whether the plugin is about to say that an event is held.
pub fn is_answering(state: &State, event: Event) -> bool {
    matches!(&state.plugin, Plugin::Answering { request } if request.message == Message::Event(event))
}
