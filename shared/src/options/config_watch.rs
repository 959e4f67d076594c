//! The reaction of a program to changes of its lists or its configuration file while it runs.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use clap::Command;
use clap::FromArgMatches;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::options::access_files::AccessFiles;
use crate::options::config_errors::ConfigErrors;
use crate::options::config_file::ConfigFile;
use crate::options::held_limits::Limits;
use crate::options::read_options::without_empty_variables;
use crate::purgatory::Purgatory;

/// Follows the operator's changes, for as long as the program runs.
pub struct ConfigWatch {
    lists: AccessFiles,
    /// Whose limits change with the file.
    purgatory: Purgatory,
    /// As it was at the start.
    file: Option<ConfigFile>,
    /// The program's options, which check the settings of the file.
    definition: Command,
}

impl ConfigWatch {
    /// Follows these lists, and the file that the program was started with.
    pub fn new(lists: AccessFiles, purgatory: Purgatory, file: Option<ConfigFile>, definition: Command) -> Self {
        Self {
            lists,
            purgatory,
            file,
            definition,
        }
    }

    /// Reads the lists again at each SIGHUP, which would otherwise end the program. Then, and when the file changes,
    /// applies its limits of held events, and logs which settings need a restart.
    pub async fn follow(self, mut hang_up: Signal) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = FileChange::default();
        let mut last_limits = None;
        loop {
            let is_asked = tokio::select! {
                hung_up = hang_up.recv() => match hung_up {
                    Some(()) => true,
                    None => return,
                },
                _ = ticks.tick() => false,
            };
            if is_asked {
                let lists = self.lists.clone();
                tokio::task::spawn_blocking(move || lists.reload());
            }
            let Some(file) = &self.file else {
                continue;
            };
            let (change, limits) = FileChange::since(file, &self.definition);
            let are_new = limits.is_some() && limits != last_limits;
            if let Some(limits) = limits.filter(|_| are_new) {
                self.purgatory.set_limits(limits);
            }
            // The first look finds those of the start.
            if is_asked || change != last || (are_new && last_limits.is_some()) {
                change.log(file, limits.is_some());
            }
            last_limits = limits.or(last_limits);
            last = change;
        }
    }
}

/// The difference from the file at the start.
#[derive(Debug, Default, PartialEq, Eq)]
struct FileChange {
    /// Keys of limits of held events.
    limit_keys: Vec<String>,
    /// All others.
    keys: Vec<String>,
    mistakes: Vec<String>,
}

impl FileChange {
    /// Returns the difference, and the limits of held events with the file as it is now, if it has no mistakes.
    fn since(file: &ConfigFile, definition: &Command) -> (Self, Option<Limits>) {
        let now = file.read_again();
        let mut errors = ConfigErrors::default();
        let command = now.put_into(definition.clone(), &mut errors);
        let differ = file.keys_that_differ(&now).into_iter();
        let (limit_keys, keys) = differ.partition(|key| is_limit(key));
        let limits = limits_of(command, std::env::args_os()).filter(|_| errors.lines.is_empty());
        let change = Self {
            limit_keys,
            keys,
            mistakes: errors.lines,
        };
        (change, limits)
    }

    fn log(&self, file: &ConfigFile, has_limits: bool) {
        let (path, keys) = (file.path().display(), self.keys.join(", "));
        if !self.mistakes.is_empty() {
            tracing::error!(
                mistakes = self.mistakes.join("; "),
                "the configuration file has mistakes: the next start would fail"
            );
            return;
        }
        if has_limits && !self.limit_keys.is_empty() {
            let keys = self.limit_keys.join(", ");
            tracing::info!(%path, keys, "the limits of held events are those of the changed configuration file now");
        }
        if !keys.is_empty() {
            tracing::warn!(%path, keys, "the configuration file has changed, which needs a restart");
        } else if self.limit_keys.is_empty() {
            tracing::info!(%path, "the configuration file is again as at the start");
        }
    }
}

/// Whether an option is a limit of held events.
fn is_limit(long: &str) -> bool {
    let limits = Limits::augment_args(Command::new(""));
    limits.get_arguments().any(|limit| limit.get_long() == Some(long))
}

/// Returns the limits of held events that a program has with these arguments; variables and arguments override what
/// the file has put into `command`.
fn limits_of(command: Command, arguments: impl IntoIterator<Item = OsString>) -> Option<Limits> {
    let read = without_empty_variables(command).try_get_matches_from(arguments);
    let mut matches = read.ok()?;
    while let Some((_, of_subcommand)) = matches.remove_subcommand() {
        matches = of_subcommand;
    }
    Limits::from_arg_matches(&matches).ok()
}

/// Between two checks of the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
