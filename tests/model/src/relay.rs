//! strfry: asks the plugin about one event after the other, commits what it accepts, and tells who sent it.

use crate::Configuration;
use crate::action::Action;
use crate::action::RelayStep;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::event::Message;
use crate::redis::Settlement;
use crate::state::Origin;
use crate::state::Plugin;
use crate::state::Request;
use crate::state::State;
use crate::state::Task;

/// Adds what the relay may do.
pub fn actions(state: &State, actions: &mut Vec<Action>) {
    if !state.relay.is_up {
        return;
    }
    for origin in Origin::ALL {
        let batch = state.relay.batch[origin.index()].iter();
        for message in batch.filter(|message| !is_behind(state, *message)) {
            actions.push(Action::Relay(RelayStep::Commit(Request { message, origin })));
        }
    }
}

/// Whether it was accepted behind something that is not committed yet: batches are committed in their order.
fn is_behind(state: &State, message: Message) -> bool {
    let is_ordered = |event: Event| state.redis.entries[event.index()].is_after_announcement;
    matches!(message, Message::Event(event) if is_ordered(event)) && state.relay.is_in_batch(Event::Announcement)
}

/// Takes a message in. What is served already is answered at once; the plugin may be asked all the same about what is
/// committed after this.
pub fn take_in(state: &mut State, request: Request) {
    if has(state, request.message) {
        answer(state, request, Answer::Stored);
    } else {
        state.relay.pending[request.origin.index()].add(request.message);
    }
}

fn has(state: &State, message: Message) -> bool {
    match message {
        Message::Event(event) => state.relay.served.has(event),
        Message::Deletion => state.relay.has_deletion,
    }
}

/// Makes the next state.
pub fn step(model: &Configuration, state: &mut State, step: RelayStep) {
    match step {
        RelayStep::Commit(request) => {
            state.relay.batch[request.origin.index()].remove(request.message);
            let outcome = commit(model, state, request.message);
            answer(state, request, outcome);
        }
    }
}

/// What whoever sent a message hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Stored, or a duplicate: OK true.
    Stored,
    /// `shadowReject`: OK true.
    Held,
    /// `replaced:` or `deleted:`: OK false, for ever.
    RuledOut,
    /// Any other OK false.
    Refused,
    /// `error:`, or no answer at all.
    Error,
}

/// As `writeEvents` in strfry: only the newest version of an address, and nothing that its author deleted.
fn commit(model: &Configuration, state: &mut State, message: Message) -> Answer {
    let relay = &mut state.relay;
    let Message::Event(event) = message else {
        relay.has_deletion = true;
        if let Some(deleted) = model.deletes {
            relay.served.remove(deleted);
            relay.news = relay.news.with(model.scene.coordinates(deleted));
        }
        return Answer::Stored;
    };
    if relay.served.has(event) {
        return Answer::Stored;
    }
    if relay.has_deletion && model.deletes == Some(event) {
        return Answer::RuledOut;
    }
    if model.is_one_author() && event == Event::Older && relay.served.has(Event::Newer) {
        return Answer::RuledOut;
    }
    relay.served.add(event);
    if model.is_one_author() && event == Event::Newer {
        relay.served.remove(Event::Older);
    }
    // Whoever has the lease sees it committed, and knows that it is: its settlement is enough.
    let is_expected = state.gateways.iter().any(|task| task.leased().has(event));
    if !is_expected {
        relay.news = relay.news.with(followed(model, [event].into_iter().collect()));
    }
    Answer::Stored
}

/// Returns what gateways mark when they see events committed (`concerned` in `gateway/src/background/follow_relay.rs`):
/// PRs are not followed.
pub fn followed(model: &Configuration, events: Events) -> Coordinates {
    let followed = events.iter().filter(|event| *event != Event::PullRequest);
    followed.fold(Coordinates::NONE, |homes, event| homes.with(model.scene.home(event)))
}

/// Tells whoever sent a message.
pub fn answer(state: &mut State, request: Request, answer: Answer) {
    let Message::Event(event) = request.message else {
        return;
    };
    match request.origin {
        Origin::Client => {
            if matches!(answer, Answer::Stored | Answer::Held) {
                state.promised.add(event);
            }
        }
        Origin::Gateway => answer_gateways(state, event, settlement(answer)),
    }
}

/// `settlement` in `gateway/src/reconcile/publish.rs`.
fn settlement(answer: Answer) -> Settlement {
    match answer {
        Answer::Stored => Settlement::Served,
        Answer::RuledOut => Settlement::Dropped,
        Answer::Held | Answer::Refused | Answer::Error => Settlement::Retry,
    }
}

fn answer_gateways(state: &mut State, event: Event, settlement: Settlement) {
    for task in &mut state.gateways {
        if let Task::Publishing(publishing) = task
            && publishing.sent().has(event)
        {
            publishing.end([event].into_iter().collect(), settlement);
        }
    }
}

/// Ends all that goes on in the relay without an answer: it is killed.
pub fn lose_everything(state: &mut State) {
    state.plugin = Plugin::Idle;
    state.relay.pending = Default::default();
    state.relay.batch = Default::default();
    for task in &mut state.gateways {
        if let Task::Publishing(publishing) = task {
            publishing.end(publishing.sent(), Settlement::Retry);
        }
    }
}
