//! The reaction of a program to changes of its lists or its configuration file while it runs.

use std::time::Duration;

use clap::Command;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::options::access_files::AccessFiles;
use crate::options::config_errors::ConfigErrors;
use crate::options::config_file::ConfigFile;

/// Follows the operator's changes, for as long as the program runs.
pub struct ConfigWatch {
    lists: AccessFiles,
    /// As it was at the start.
    file: Option<ConfigFile>,
    /// The program's options, which check the settings of the file.
    definition: Command,
}

impl ConfigWatch {
    /// Follows these lists, and the file that the program was started with.
    pub fn new(lists: AccessFiles, file: Option<ConfigFile>, definition: Command) -> Self {
        Self {
            lists,
            file,
            definition,
        }
    }

    /// Reads the lists again at each SIGHUP, which would otherwise end the program. Then, and when the file changes,
    /// logs which settings need a restart.
    pub async fn follow(self, mut hang_up: Signal) {
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
            let change = FileChange::since(file, &self.definition);
            if is_asked || change != last {
                change.log(file);
            }
            last = change;
        }
    }
}

/// The difference from the file at the start.
#[derive(Debug, Default, PartialEq, Eq)]
struct FileChange {
    keys: Vec<String>,
    mistakes: Vec<String>,
}

impl FileChange {
    fn since(file: &ConfigFile, definition: &Command) -> Self {
        let now = file.read_again();
        let mut errors = ConfigErrors::default();
        now.put_into(definition.clone(), &mut errors);
        Self {
            keys: file.keys_that_differ(&now),
            mistakes: errors.lines,
        }
    }

    fn log(&self, file: &ConfigFile) {
        let (path, keys) = (file.path().display(), self.keys.join(", "));
        if !self.mistakes.is_empty() {
            tracing::error!(
                mistakes = self.mistakes.join("; "),
                "the configuration file has mistakes: the next start would fail"
            );
        } else if keys.is_empty() {
            tracing::info!(%path, "the configuration file is again as at the start");
        } else {
            tracing::warn!(%path, keys, "the configuration file has changed, which needs a restart");
        }
    }
}

/// Between two checks of the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
