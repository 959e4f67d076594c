//! The mark on each request of this program to the relay: a gateway that receives its own is the relay that
//! `relay-url` names, by way of a proxy.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// The header with the mark of the program that sends a request to the relay.
pub const SENDER_HEADER: &str = "x-grasp-sender";

/// Returns the mark of this process. Others cannot guess it.
pub fn own_mark() -> &'static str {
    static MARK: LazyLock<String> = LazyLock::new(|| {
        let half = || RandomState::new().hash_one(std::process::id());
        format!("{:016x}{:016x}", half(), half())
    });
    &MARK
}
