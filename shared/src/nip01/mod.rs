//! The rules of NIP-01 and similar NIPs for every event: addresses, tags, which of two versions wins, the effect of a
//! deletion request, and when an event is too early or too late. Pure.

mod address;
mod deletion;
mod hex;
mod revision;
mod tags;
mod time;

pub use address::*;
pub use deletion::*;
pub use hex::*;
pub use revision::*;
pub use tags::*;
pub use time::*;
