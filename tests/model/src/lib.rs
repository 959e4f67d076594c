//! The purgatory's protocol as a model: what plugin, Redis, relay and gateways do to an event between its OK and the
//! moment it is served, step by step, with everything that may go wrong in between. `docs/protocol.md` explains it.
//!
//! It follows the programs: each step has the name of the function or script that it stands for, and is as large as
//! what nobody can see the inside of (one script, one query, one change of the disk). `tests/protocol.rs` explores it
//! exhaustively, and shows what mistakes it would find.

pub mod action;
pub mod bugs;
pub mod check;
pub mod clients;
pub mod configuration;
pub mod configurations;
pub mod disk;
pub mod event;
pub mod faults;
pub mod gateway;
pub mod invariants;
pub mod plugin;
pub mod publish;
pub mod push;
pub mod reconcile;
pub mod redis;
pub mod relay;
pub mod rules;
pub mod scene;
pub mod scripts;
pub mod state;

use stateright::Model;
use stateright::Property;

pub use self::action::Action;
pub use self::bugs::Bug;
pub use self::check::Exploration;
pub use self::check::Way;
pub use self::configuration::Configuration;
pub use self::configurations::configurations;
pub use self::invariants::*;
pub use self::state::State;

impl Model for Configuration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.program_actions(state, actions);
        clients::actions(state, actions);
        faults::lease_ends(state, actions);
        faults::time_passes(state, actions);
        faults::actions(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Client(step) => clients::step(self, &mut state, step),
            Action::Relay(step) => relay::step(self, &mut state, step),
            Action::Plugin(step) => plugin::step(self, &mut state, step),
            Action::Gateway(id, step) => gateway::step(self, &mut state, id, step),
            Action::Time(step) => faults::pass(&mut state, step),
            Action::Fault(fault) => faults::step(self, &mut state, fault),
        }
        state.forget_ended_promises(self);
        state.settle_failover();
        state.normalise();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

impl Configuration {
    /// Adds what programs do by themselves.
    fn program_actions(&self, state: &State, actions: &mut Vec<Action>) {
        relay::actions(state, actions);
        plugin::actions(state, actions);
        for id in 0..2 {
            gateway::actions(self, state, id, actions);
        }
    }
}
