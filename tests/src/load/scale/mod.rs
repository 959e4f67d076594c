//! A server with very much on disk, and one with very much held (`scripts/scale`).

pub mod disk;
pub mod held;
pub mod start;

use std::time::Duration;

/// Returns the median of some times.
fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
