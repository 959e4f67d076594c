//! Publishing: outside the lock, under leases (`gateway/src/reconcile/publish.rs`).

use crate::Bug;
use crate::Configuration;
use crate::event::Event;
use crate::event::Events;
use crate::event::Message;
use crate::redis::GatewayId;
use crate::redis::Redis;
use crate::redis::Settlement;
use crate::state::Attempt;
use crate::state::Origin;
use crate::state::Publishing;
use crate::state::State;
use crate::state::Task;

/// Begins to publish what was leased, all at once. What is ordered after the announcement, and not let in, is given
/// back if that is among them and is not served.
pub fn begin(leased: Events, after_announcement: Events) -> Task {
    go_on(Publishing {
        leased,
        attempts: Default::default(),
        after_announcement,
        give_back: Events::NONE,
    })
}

fn go_on(publishing: Publishing) -> Task {
    let Publishing { leased, .. } = publishing;
    if leased.is_empty() {
        return Task::Idle;
    }
    let is_ordered = leased.has(Event::Announcement);
    Task::Publishing(Publishing {
        after_announcement: publishing
            .after_announcement
            .within(if is_ordered { leased } else { Events::NONE }),
        give_back: publishing.give_back.within(leased),
        ..publishing
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

/// Sends an event to the relay, which may have it already.
pub fn publish(
    model: &Configuration,
    state: &mut State,
    id: GatewayId,
    event: Event,
    mut publishing: Publishing,
) -> Option<Task> {
    let attempt = if !state.relay.is_up {
        Attempt::Ended(Settlement::Retry)
    } else if state.relay.served.has(event) {
        Attempt::Ended(Settlement::Served)
    } else {
        if model.bug == Some(Bug::SettleBeforePublish) && state.redis_up {
            state.redis.settle(id, event, Settlement::Served);
        }
        state.relay.pending[Origin::Gateway.index()].add(Message::Event(event));
        Attempt::Sent
    };
    publishing.attempts[event.index()] = attempt;
    Some(Task::Publishing(publishing))
}

/// Settles an event by the relay's answer. If Redis is away, the lease runs out.
pub fn settle(
    model: &Configuration,
    state: &mut State,
    id: GatewayId,
    event: Event,
    mut publishing: Publishing,
) -> Option<Task> {
    let Attempt::Ended(settlement) = std::mem::take(&mut publishing.attempts[event.index()]) else {
        return Some(Task::Publishing(publishing));
    };
    let has_left = matches!(settlement, Settlement::Served | Settlement::Dropped);
    let settlement = match has_left || !publishing.give_back.has(event) {
        true => settlement,
        false => Settlement::GiveBack,
    };
    if has_left {
        state.in_flight[usize::from(id)].events.remove(event);
    }
    let is_settled = state.redis_up && settle_in_redis(model, &mut state.redis, id, event, settlement);
    // The event may have been committed, and not been marked as it was our own; and its entry may have gone before
    // that, so that somebody has reconciled without either.
    if !is_settled && settlement != Settlement::GiveBack && model.bug != Some(Bug::OwnCommitsIgnoredForGood) {
        state.relay.news = state.relay.news.with(model.scene.coordinates(event));
    }
    let mut leased = publishing.leased;
    leased.remove(event);
    let give_back = if has_left || event != Event::Announcement {
        publishing.give_back
    } else {
        publishing.give_back.with(publishing.after_announcement)
    };
    Some(go_on(Publishing {
        leased,
        give_back,
        ..publishing
    }))
}

/// Settles an event, and returns whether that counted.
pub fn settle_in_redis(
    model: &Configuration,
    redis: &mut Redis,
    id: GatewayId,
    event: Event,
    settlement: Settlement,
) -> bool {
    if model.bug == Some(Bug::SettleWithoutLease) {
        redis.settle_whoever_asks(event, settlement);
        return true;
    }
    redis.settle(id, event, settlement)
}
