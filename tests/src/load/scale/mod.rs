//! A server with very much on disk, and one with very much held (`scripts/scale`).

pub mod disk;
pub mod held;
pub mod start;

use crate::harness::redis::RedisServer;

/// Returns how many scripts Redis has run since it last forgot.
pub(super) async fn script_calls(redis: &RedisServer) -> u64 {
    let stats: String = redis.ask(&["INFO", "commandstats"]).await;
    let calls = stats.lines().filter_map(|line| {
        let values = line.strip_prefix("cmdstat_evalsha:calls=")?;
        values.split(',').next()?.parse::<u64>().ok()
    });
    calls.sum()
}
