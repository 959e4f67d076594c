//! The plugin's options about another plugin. The gateway checks them too, in the file that both read.

use std::time::Duration;

use clap::Args;
use clap::ValueEnum;

use crate::options::values::HumanDuration;
use crate::options::values::milliseconds;

/// The options about another plugin.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Another plugin")]
pub struct ChainOptions {
    /// Another write policy plugin of strfry's, which this one runs and asks: strfry itself takes only one. A command
    /// line for /bin/sh. It is asked when an event arrives, and not again when a held event is released.
    #[arg(long = "chain", value_name = "COMMAND")]
    pub command: Option<String>,
    /// What it is asked about: others, events that have nothing to do with git; all, also those that may wait here or
    /// belong to what is served here.
    #[arg(long = "chain-for", value_name = "SCOPE", value_enum, hide_possible_values = true,
          default_value_t = ChainScope::Others)]
    pub scope: ChainScope,
    /// How long an event waits for its answer. One that takes longer is waited for beside, up to 10 s: meanwhile no
    /// event waits for it, and --chain-on-error says what happens to them.
    #[arg(long = "chain-timeout-ms", value_name = "MS", value_parser = milliseconds(1..=TIMEOUT_MS_MAX),
          default_value_t = HumanDuration::new(Duration::from_secs(1)))]
    pub timeout: HumanDuration,
    /// What happens to an event that it gives no valid answer about: accept or refuse. strfry refuses.
    #[arg(long = "chain-on-error", value_name = "ACTION", value_enum, hide_possible_values = true,
          default_value_t = OnError::Refuse)]
    pub on_error: OnError,
}

/// What a chained plugin is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChainScope {
    /// What is not git's business.
    Others,
    /// Whatever arrives.
    All,
}

/// What becomes of an event that a chained plugin does not answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// The relay stores it, unless we refuse it.
    Accept,
    /// It is refused.
    Refuse,
}

/// Longest wait for one answer that can be asked for: with ours, far below strfry's own 10 s.
const TIMEOUT_MS_MAX: u64 = 5_000;
