//! The model in `tests/model/` speaks for this program: what its functions decide, given facts and a disk,
//! `shared::rules` decides too, and what its scripts do to the purgatory, the program's scripts do, run in memory
//! (`shared/tests/purgatory/differential.rs` compares that with Redis).

#![expect(clippy::unwrap_used, reason = "what cannot be done ends the test")]

mod rules;
mod store;
mod translation;

use protocol_model::Bug;
use protocol_model::Configuration;
use protocol_model::configuration::Beginning;
use protocol_model::event::Event;
use protocol_model::scene::Scene;

/// A configuration of the model: of it only these three matter to what is decided.
fn configuration(scene: Scene, deletes: Option<Event>, bug: Option<Bug>) -> Configuration {
    Configuration {
        scene,
        deletes,
        bug,
        ..Configuration::new("what is decided", Beginning::Announced)
    }
}

/// Numbers that look drawn, the same in every run.
struct Draws(u64);

impl Draws {
    /// Draws a number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator, of which the high bits are good.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Draws one of these.
    fn one<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[self.below(N as u64) as usize]
    }
}
