//! The whole way, as clients see it: events, pushes, clones. Every test runs in both worlds unless it says otherwise.
//! One binary, since linking it takes longer than most of its tests.

#![expect(clippy::unwrap_used, reason = "what cannot be had ends the test")]

mod behaviour;
mod faults;
mod fixture;
