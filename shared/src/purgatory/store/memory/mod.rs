//! The purgatory in this process's memory: the scripts that Redis runs, on as much of Redis as they use.

mod keyspace;
mod sorted_set;
mod store;

pub use keyspace::Clock;
pub(super) use store::MemoryStore;
