//! What NIP-01 and its like determine for every event: addresses, tags, which of two versions wins, what a deletion
//! request deletes, when one is too early or too late. Pure.

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
