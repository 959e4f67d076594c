//! The purgatory: events that are not served until their git data has arrived.
//!
//! `entry`, `hold`, `release`, `unreconciled`, `reading`, `listing`, `inventory`, `refusal` and `limits` are its
//! content and its answers, as values. With the feature `io`, [`Purgatory`] is the only access to the two stores, Redis
//! and this process's memory; `shared/tests/purgatory/` is the contract of both.

mod entry;
mod hold;
mod inventory;
mod limits;
mod listing;
mod reading;
mod refusal;
mod release;
#[cfg(feature = "io")]
mod store;
mod unreconciled;

pub use entry::*;
pub use hold::*;
pub use inventory::*;
pub use limits::*;
pub use listing::*;
pub use reading::*;
pub use refusal::*;
pub use release::*;
pub use unreconciled::*;

#[cfg(feature = "io")]
pub use store::*;
