//! The built-in relay: a thin NIP-01 front over `nostr-lmdb` that does things in strfry's order.
//!
//! A connection reads, checks and answers everything that needs no write; one writer asks the policy and stores, as
//! `RelayWriter.cpp` does. So the same front serves as the built-in relay, with a policy in this process, and in the
//! tests as strfry's stand-in, with a policy that hosts a plugin. `tests/tests/strfry_contract.rs` pins what the two
//! have in common.
//!
//! A crate of its own so that `nostr-relay-builder` can take its place once a stable release can answer OK true
//! without storing.

mod client_message;
mod connection;
mod deletions;
mod event_store;
mod expirations;
mod front;
mod incoming;
mod large_messages;
mod limits;
mod look_up_cost;
mod message_bytes;
mod outbound;
mod policy;
mod request_size;
mod requests;
mod room;
mod served_events;
mod server;
mod shares;
mod subscriptions;
mod validate;
mod writer;

pub use limits::RelayLimits;
pub use policy::EventPolicy;
pub use policy::source_type;
pub use server::LiveRelayLimits;
pub use server::RelayServer;
pub use server::RelayStartError;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod tests;
