//! The connections on which tests ask Redis.

use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

/// Opens a connection of a test's own, on which a busy machine has as long for an answer as for everything else. Those
/// that `redis` opens by itself give up after half a second.
///
/// # Errors
/// Nothing is reached there, or it refuses.
pub async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let client = redis::Client::open(url)?;
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// What one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
