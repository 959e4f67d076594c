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
    /// Another write policy plugin for strfry, which this plugin runs and asks, because strfry runs only one. A command
    /// line for /bin/sh. It is asked when an event arrives, and not again when a held event is released.
    #[arg(long = "chain", value_name = "COMMAND")]
    pub command: Option<String>,
    /// Which events it is asked about: others, events that have nothing to do with git; all, also events that may wait
    /// for git data or refer to served ones.
    #[arg(long = "chain-for", value_name = "SCOPE", value_enum, hide_possible_values = true,
          default_value_t = ChainScope::Others)]
    pub scope: ChainScope,
    /// How long an event waits for its answer. A late answer is awaited in the background, up to 10 s: meanwhile no
    /// event waits for it, and --chain-on-error applies.
    #[arg(long = "chain-timeout-ms", value_name = "MS", value_parser = milliseconds(1..=TIMEOUT_MS_MAX),
          default_value_t = HumanDuration::new(Duration::from_secs(1)))]
    pub timeout: HumanDuration,
    /// What to do with an event without a valid answer: accept or refuse. strfry itself refuses.
    #[arg(long = "chain-on-error", value_name = "ACTION", value_enum, hide_possible_values = true,
          default_value_t = OnError::Refuse)]
    pub on_error: OnError,
}

/// The events about which a chained plugin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChainScope {
    /// Events that have nothing to do with git.
    Others,
    /// All events.
    All,
}

/// What to do with an event that a chained plugin does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// The relay stores it, unless we refuse it.
    Accept,
    /// It is refused.
    Refuse,
}

/// Longest wait for one answer that can be asked for: with ours, far below strfry's own 10 s.
const TIMEOUT_MS_MAX: u64 = 5_000;
