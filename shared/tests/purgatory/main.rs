//! The contract of the purgatory, on both of its stores; what only Redis can do; and that both agree.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is tests; clippy.toml allows it only inside functions marked as such"
)]

#[macro_use]
mod contract;
mod differential;
mod failover;
mod fields;
mod fixture;
mod listings;
mod new_repositories;
mod on_redis;
mod operator;
mod related;
mod server;
mod tls;
