//! Times and texts that documents quote: printed by the tests that know them, where `--nocapture` asks for it, never
//! asserted.

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
