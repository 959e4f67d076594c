//! A time limit on calls to Redis.

use std::future::Future;
use std::io;
use std::time::Duration;

use redis::RedisResult;
use tokio::time::timeout;

/// Lets `work` take this long at most.
///
/// # Errors
/// Its own, or an I/O error of the kind `TimedOut`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(limit, work).await.map_err(io::Error::from)?
}
