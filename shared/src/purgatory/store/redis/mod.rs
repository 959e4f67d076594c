//! The purgatory in Redis. `docs/redis.md` lists its keys.

mod breaker;
mod check;
mod connection;
mod discovery;
mod listen;
mod settings;
mod store;
mod within;

pub use check::ServerFault;
pub use settings::RedisPlace;
pub use settings::RedisSettings;
pub use settings::RedisTls;
pub(super) use store::RedisStore;
