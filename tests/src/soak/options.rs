//! How much a soak does, and how patient it is.

use std::time::Duration;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What the schedule of kills and the load follow from.
    pub seed: u64,
    /// How many kills.
    pub kills: u64,
    /// No kill begins after so many seconds.
    pub secs: u64,
    /// `--hold-secs` of the server.
    pub hold_secs: u64,
}

/// For one answer of a relay.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
