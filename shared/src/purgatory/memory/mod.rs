//! The purgatory in memory.

mod deletion;
mod hold;
mod placeholder;
mod reading;
mod release;
mod scores;
mod store;
mod tally;
mod transaction;

pub use store::Clock;
pub(super) use store::MemoryStore;
