//! What a program does when its lists or its configuration file change while it runs.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;
use std::time::SystemTime;

use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::options::access_files::AccessFiles;
use crate::options::config_file::ConfigFile;

/// Follows what the operator changes, for as long as the program runs.
pub struct ConfigWatch {
    lists: AccessFiles,
    /// As it was at the start.
    file: Option<ConfigFile>,
}

impl ConfigWatch {
    /// Follows these lists, and the file that a program with these `arguments` has read.
    pub fn new(lists: AccessFiles, arguments: &[OsString]) -> Self {
        let file = ConfigFile::of_program(arguments);
        Self { lists, file }
    }

    /// Reads the lists again at each SIGHUP, which would end the program otherwise. Then, and when the file changes,
    /// tells which settings need a restart.
    pub async fn follow(self, mut hang_up: Signal) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stamp = self.stamp();
        loop {
            tokio::select! {
                hung_up = hang_up.recv() => match hung_up {
                    Some(()) => self.lists.reload(),
                    None => return,
                },
                _ = ticks.tick() => {
                    if stamp == self.stamp() {
                        continue;
                    }
                }
            }
            stamp = self.stamp();
            self.report();
        }
    }

    fn stamp(&self) -> Option<SystemTime> {
        fs::metadata(self.file.as_ref()?.path()).ok()?.modified().ok()
    }

    fn report(&self) {
        let Some(file) = &self.file else {
            return;
        };
        let (path, now) = (file.path().display(), file.read_again());
        let keys = file.keys_that_differ(&now).join(", ");
        match now.mistakes() {
            [] if keys.is_empty() => tracing::info!(%path, "the configuration file is as at the start"),
            [] => tracing::warn!(%path, keys, "the configuration file has changed, which needs a restart"),
            mistakes => tracing::error!(
                mistakes = mistakes.join("; "),
                "the configuration file cannot be read any more: the next start would fail"
            ),
        }
    }
}

/// Between two looks at the file's time.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
