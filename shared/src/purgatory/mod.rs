//! The purgatory: events that are not served until their git data is here.
//!
//! `entry`, `hold`, `release`, `reading` and `limits` are what it holds and answers, as values. With the feature `io`,
//! [`Purgatory`] is the one door to the two stores that can hold it, Redis and this process's memory;
//! `shared/tests/purgatory/` is the contract of both.

#[cfg(feature = "io")]
mod argv;
#[cfg(feature = "io")]
mod decode;
mod entry;
#[cfg(feature = "io")]
mod error;
mod hold;
#[cfg(feature = "io")]
mod keys;
mod limits;
#[cfg(feature = "io")]
mod memory;
#[cfg(feature = "io")]
mod notifications;
#[cfg(feature = "io")]
#[macro_use]
mod operations;
mod reading;
#[cfg(feature = "io")]
mod redis;
mod release;
#[cfg(feature = "io")]
mod script;
#[cfg(feature = "io")]
mod source_group;
#[cfg(feature = "io")]
mod store;

pub use entry::*;
pub use hold::*;
pub use limits::*;
pub use reading::*;
pub use release::*;

#[cfg(feature = "io")]
pub use error::PurgatoryError;
#[cfg(feature = "io")]
pub use memory::Clock;
#[cfg(feature = "io")]
pub use notifications::Notifications;
#[cfg(feature = "io")]
pub use redis::RedisPlace;
#[cfg(feature = "io")]
pub use redis::RedisSettings;
#[cfg(feature = "io")]
pub use store::Purgatory;
