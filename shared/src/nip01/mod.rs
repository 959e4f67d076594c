//! What NIP-01 says of every event: which of two versions wins. Pure.

mod revision;

pub use revision::Revision;
