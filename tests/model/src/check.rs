//! Explores a configuration with stateright's checker.

use std::num::NonZeroUsize;
use std::time::Duration;
use std::time::Instant;

use stateright::Checker;
use stateright::Expectation;
use stateright::HasDiscoveries;
use stateright::Model;

use crate::Configuration;

/// What was found.
#[derive(Debug)]
pub struct Exploration {
    /// States that differ.
    pub states: usize,
    /// The most steps from the beginning to one of them.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The way to a state that breaks an invariant, for each that is broken.
    pub broken: Vec<Way>,
    /// Whether there is a state in which everything has come to its end: without it, nothing would be proved.
    pub has_end: bool,
}

/// A way from the beginning to a state that breaks an invariant.
#[derive(Debug)]
pub struct Way {
    /// The invariant.
    pub invariant: &'static str,
    /// The steps. Gateways may change places between two of them, as they are alike.
    pub steps: Vec<String>,
}

impl Configuration {
    /// Explores all states.
    pub fn explore(&self) -> Exploration {
        self.explore_until(HasDiscoveries::All)
    }

    /// Explores until an invariant is broken. Returns the way there; `None`: it is not, in any state.
    pub fn find(&self, invariant: &'static str) -> Option<Way> {
        let found = self.explore_until(HasDiscoveries::AnyOf([invariant].into()));
        found.broken.into_iter().find(|way| way.invariant == invariant)
    }

    fn explore_until(&self, finish_when: HasDiscoveries) -> Exploration {
        let started = Instant::now();
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let checker = self.clone().checker().threads(threads).finish_when(finish_when);
        let checker = checker.spawn_bfs().join();
        assert!(checker.is_done(), "{}: not explored to its end", self.name);
        let mut exploration = Exploration {
            states: checker.unique_state_count(),
            depth: checker.max_depth(),
            took: started.elapsed(),
            broken: Vec::new(),
            has_end: false,
        };
        for (property, path) in checker.discoveries() {
            if checker.model().property(property).expectation == Expectation::Sometimes {
                exploration.has_end = true;
                continue;
            }
            let steps = path.into_actions();
            exploration.broken.push(Way {
                invariant: property,
                steps: steps.iter().map(|action| format!("{action:?}")).collect(),
            });
        }
        exploration
    }
}
