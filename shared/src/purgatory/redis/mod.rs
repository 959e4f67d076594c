//! The purgatory in Redis. What is kept where: `keys.rs`, `docs/redis.md`.

mod argv;
mod breaker;
mod check;
mod connection;
pub(super) mod decode;
mod discovery;
mod keys;
mod listen;
mod script;
mod settings;
mod store;
mod within;

pub(super) use script::PurgatoryScript;
pub use settings::RedisPlace;
pub use settings::RedisSettings;
pub(super) use store::RedisStore;
