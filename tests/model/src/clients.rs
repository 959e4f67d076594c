//! Clients: they send what they have and push what they have, in any order.

use crate::Configuration;
use crate::action::Action;
use crate::action::ClientStep;
use crate::event::Message;
use crate::event::Push;
use crate::push;
use crate::relay;
use crate::state::Origin;
use crate::state::Request;
use crate::state::State;
use crate::state::Task;

/// Adds what clients may do.
pub fn actions(state: &State, actions: &mut Vec<Action>) {
    for message in Message::ALL {
        let is_under_way = state.relay.pending[Origin::Client.index()].has(message);
        if state.left.sends[message.index()] > 0 && state.relay.is_up && !is_under_way {
            actions.push(Action::Client(ClientStep::Send(message)));
        }
    }
    for push in Push::ALL {
        if state.left.pushes[push.index()] == 0 {
            continue;
        }
        for gateway in 0..2 {
            if state.gateways[usize::from(gateway)] == Task::Idle && state.redis_up && state.relay.is_up {
                actions.push(Action::Client(ClientStep::Push(gateway, push)));
            }
        }
    }
}

/// Makes the next state.
pub fn step(model: &Configuration, state: &mut State, step: ClientStep) {
    match step {
        ClientStep::Send(message) => {
            state.left.sends[message.index()] -= 1;
            let origin = Origin::Client;
            relay::take_in(state, Request { message, origin });
        }
        ClientStep::Push(gateway, push) => {
            state.left.pushes[push.index()] -= 1;
            push::receive_pack(model, state, gateway, push);
        }
    }
}
