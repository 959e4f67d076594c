//! The reaction of a program to changes of its lists or its configuration file while it runs.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use clap::Command;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::options::access_files::AccessFiles;
use crate::options::config_errors::ConfigErrors;
use crate::options::config_file::ConfigFile;
use crate::options::read_options::without_empty_variables;

/// Follows the operator's changes, for as long as the program runs. `L`: the options that change with the file.
pub struct ConfigWatch<L> {
    lists: AccessFiles,
    /// As it was at the start.
    file: Option<ConfigFile>,
    /// The program's options, which check the settings of the file.
    definition: Command,
    /// The options that are applied.
    live: L,
    /// Applies others.
    apply: Box<dyn Fn(&L) + Send>,
}

impl<L: Args + PartialEq + Send> ConfigWatch<L> {
    /// Follows these lists, and the file that the program was started with. It runs with the options `live`; `apply`
    /// changes that.
    pub fn new(
        lists: AccessFiles,
        file: Option<ConfigFile>,
        definition: Command,
        live: L,
        apply: impl Fn(&L) + Send + 'static,
    ) -> Self {
        Self {
            lists,
            file,
            definition,
            live,
            apply: Box::new(apply),
        }
    }

    /// Reads the lists again at each SIGHUP, which would otherwise end the program. Then, and when the file changes,
    /// applies its settings, and logs which of them need a restart.
    pub async fn follow(mut self, mut hang_up: Signal) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = FileChange::default();
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
            let (change, live) = FileChange::since::<L>(file, &self.definition);
            let new = live.filter(|live| *live != self.live);
            if is_asked || change != last || new.is_some() {
                change.log(file);
            }
            if let Some(new) = new {
                (self.apply)(&new);
                self.live = new;
            }
            last = change;
        }
    }
}

/// The difference from the file at the start.
#[derive(Debug, Default, PartialEq, Eq)]
struct FileChange {
    /// Keys of settings that are applied.
    live_keys: Vec<String>,
    /// All others.
    keys: Vec<String>,
    mistakes: Vec<String>,
}

impl FileChange {
    /// Returns the difference, and the options that change with the file as they are now, if it has no mistakes.
    fn since<L: Args>(file: &ConfigFile, definition: &Command) -> (Self, Option<L>) {
        let now = file.read_again();
        let mut errors = ConfigErrors::default();
        let command = now.put_into(definition.clone(), &mut errors);
        let differ = file.keys_that_differ(&now).into_iter();
        let of_live = L::augment_args(Command::new(""));
        let is_live = |key: &String| of_live.get_arguments().any(|live| live.get_long() == Some(key));
        let (live_keys, keys) = differ.partition(is_live);
        let live = live_options(command, std::env::args_os()).filter(|_| errors.lines.is_empty());
        let change = Self {
            live_keys,
            keys,
            mistakes: errors.lines,
        };
        (change, live)
    }

    fn log(&self, file: &ConfigFile) {
        let (path, keys) = (file.path().display(), self.keys.join(", "));
        if !self.mistakes.is_empty() {
            tracing::error!(
                mistakes = self.mistakes.join("; "),
                "the configuration file has mistakes: the next start would fail"
            );
            return;
        }
        if !self.live_keys.is_empty() {
            let keys = self.live_keys.join(", ");
            tracing::info!(%path, keys, "the configuration file has changed, and is applied");
        }
        if !keys.is_empty() {
            tracing::warn!(%path, keys, "the configuration file has changed, which needs a restart");
        } else if self.live_keys.is_empty() {
            tracing::info!(%path, "the configuration file is again as at the start");
        }
    }
}

/// Returns the options of a program with these arguments that change with its file; variables and arguments override
/// what the file has put into `command`.
fn live_options<L: Args>(command: Command, arguments: impl IntoIterator<Item = OsString>) -> Option<L> {
    let read = without_empty_variables(command).try_get_matches_from(arguments);
    let mut matches = read.ok()?;
    while let Some((_, of_subcommand)) = matches.remove_subcommand() {
        matches = of_subcommand;
    }
    L::from_arg_matches(&matches).ok()
}

/// Between two checks of the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
