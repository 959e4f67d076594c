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
mod memory;
#[cfg(feature = "io")]
mod notifications;
#[cfg(feature = "io")]
mod redis;
#[cfg(feature = "io")]
mod source_group;
#[cfg(feature = "io")]
mod store;

pub use entry::*;

#[cfg(feature = "io")]
pub use error::PurgatoryError;
#[cfg(feature = "io")]
pub use notifications::Notifications;
#[cfg(feature = "io")]
pub use redis::RedisPlace;
#[cfg(feature = "io")]
pub use redis::RedisSettings;
#[cfg(feature = "io")]
pub use store::Clock;
#[cfg(feature = "io")]
pub use store::Purgatory;
