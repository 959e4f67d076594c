//! Publishing: outside the lock, under leases (`gateway/src/reconcile/publish.rs`).

use crate::Bug;
use crate::Configuration;
use crate::event::Event;
use crate::event::Events;
use crate::event::Message;
use crate::state::Attempt;
use crate::state::GatewayId;
use crate::state::Next;
use crate::state::Origin;
use crate::state::Publishing;
use crate::state::Settlement;
use crate::state::State;
use crate::state::Task;

/// Begins to publish what was leased, in its order. `chain`: what follows an event waits when that was not brought in;
/// `None`: each was due by itself.
pub fn begin(leased: Events, chain: Option<Next>) -> Task {
    if leased.is_empty() {
        return Task::Idle;
    }
    Task::Publishing(Publishing {
        leased,
        attempt: Attempt::Ready,
        chain,
    })
}

/// Remembers what is on its way, until it has left (`InFlight`).
pub fn remember(model: &Configuration, state: &mut State, id: GatewayId, leased: Events) {
    if model.has_losses() {
        leased
            .iter()
            .for_each(|event| state.in_flight[usize::from(id)].events.add(event));
    }
}

/// Sends the first event to the relay, which may have it already.
pub fn publish(model: &Configuration, state: &mut State, id: GatewayId, publishing: Publishing) -> Option<Task> {
    let event = publishing.leased.first()?;
    let attempt = if publishing.chain == Some(Next::Wait) || !state.relay.is_up {
        Attempt::Ended(Settlement::Retry)
    } else if state.relay.served.has(event) {
        Attempt::Ended(Settlement::Done)
    } else {
        if model.bug == Some(Bug::SettleBeforePublish) && state.redis_up {
            state.redis.settle(id, event, Settlement::Done);
        }
        state.relay.pending[Origin::Gateway.index()].add(Message::Event(event));
        Attempt::Sent
    };
    Some(Task::Publishing(Publishing { attempt, ..publishing }))
}

/// Settles the first event by the relay's answer, and goes on to the next. If Redis is away, the lease runs out.
pub fn settle(model: &Configuration, state: &mut State, id: GatewayId, publishing: Publishing) -> Option<Task> {
    let event = publishing.leased.first()?;
    let Attempt::Ended(settlement) = publishing.attempt else {
        return Some(Task::Publishing(publishing));
    };
    if settlement == Settlement::Done {
        state.in_flight[usize::from(id)].events.remove(event);
    }
    if state.redis_up {
        settle_in_redis(model, state, id, event, settlement);
    }
    let mut leased = publishing.leased;
    leased.remove(event);
    let chain = match (publishing.chain, settlement) {
        (Some(_), Settlement::Retry) => Some(Next::Wait),
        (chain, Settlement::Retry | Settlement::Done) => chain,
    };
    Some(begin(leased, chain))
}

fn settle_in_redis(model: &Configuration, state: &mut State, id: GatewayId, event: Event, settlement: Settlement) {
    if model.bug == Some(Bug::SettleWithoutLease) {
        state.redis.settle_whoever_asks(event, settlement);
    } else {
        state.redis.settle(id, event, settlement);
    }
}
