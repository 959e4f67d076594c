//! What NIP-01 and its like determine for every event: addresses, tags, which of two versions wins, what a deletion
//! request deletes. Pure.

mod address;
mod deletion;
mod hex;
mod revision;
mod tags;

pub use address::*;
pub use deletion::*;
pub use hex::*;
pub use revision::*;
pub use tags::*;
