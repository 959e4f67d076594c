//! Times and texts that documents quote: printed by the tests that know them, where `--nocapture` asks for it, never
//! asserted.

use std::time::Duration;
use std::time::Instant;

/// Says how long something took.
#[expect(clippy::print_stdout, reason = "captured unless it is asked for")]
pub fn took(what: &str, since: Instant) {
    println!("measured: {what}: {:.2} s", since.elapsed().as_secs_f32());
}

/// Says what a program said.
#[expect(clippy::print_stdout, reason = "captured unless it is asked for")]
pub fn heard(what: &str, text: &str) {
    println!("heard: {what}: {text}");
}

/// Returns the median of some times.
pub fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Returns a time in milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
