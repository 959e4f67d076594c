//! The contract of the purgatory, on both of its stores; what only Redis can do; and a model test that both agree.

mod contract;
mod fixture;
mod model;
mod on_redis;
mod server;
