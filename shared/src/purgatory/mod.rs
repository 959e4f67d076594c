//! The purgatory: events that are not served until their git data is here.
//!
//! `entry` is what it holds, as values. With the feature `io`, [`Purgatory`] is the one door to the two stores that
//! can hold it, Redis and this process's memory; `shared/tests/purgatory/` is the contract of both.

#[cfg(feature = "io")]
mod bounds;
mod entry;
#[cfg(feature = "io")]
mod error;
#[cfg(feature = "io")]
mod keys;
#[cfg(feature = "io")]
mod memory_store;
#[cfg(feature = "io")]
mod redis_store;
#[cfg(feature = "io")]
mod source_group;
#[cfg(feature = "io")]
mod store;
#[cfg(feature = "io")]
mod wake_ups;

pub use entry::*;

#[cfg(feature = "io")]
pub use error::PurgatoryError;
#[cfg(feature = "io")]
pub use redis_store::RedisPlace;
#[cfg(feature = "io")]
pub use redis_store::RedisSettings;
#[cfg(feature = "io")]
pub use store::Clock;
#[cfg(feature = "io")]
pub use store::Purgatory;
#[cfg(feature = "io")]
pub use wake_ups::WakeUps;
