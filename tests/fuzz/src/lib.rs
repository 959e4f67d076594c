//! What must hold for any bytes from outside: one function for each door, which panics where something does not hold.
//!
//! `scripts/fuzz` looks for such bytes with libFuzzer; `tests/replay.rs` gives each function what was found so far, on
//! every run of the tests.

mod command_list;
mod input;
mod nip34;
mod path;
mod pkt_line;
mod plugin_line;
mod state_matching;

pub use command_list::command_list;
pub use nip34::nip34;
pub use path::path;
pub use pkt_line::pkt_line;
pub use plugin_line::plugin_line;
pub use state_matching::state_matching;

/// A door, and what is given to it.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("command_list", command_list),
    ("nip34", nip34),
    ("path", path),
    ("pkt_line", pkt_line),
    ("plugin_line", plugin_line),
    ("state_matching", state_matching),
];
