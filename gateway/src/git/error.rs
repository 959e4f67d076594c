//! Why a git command failed.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::git::version::GitVersion;

/// Why git could not be found or run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// No `git` in any directory of `PATH`.
    #[error("no git found on PATH")]
    NotFound,
    /// Its version could not be read, or is too old.
    #[error("{} is of version {found:?}; {} or newer is needed", program.display(), GitVersion::MINIMUM)]
    Version {
        /// The binary asked.
        program: PathBuf,
        /// What `git version` printed.
        found: String,
    },
    /// The configuration could not be written.
    #[error("cannot write {}", path.display())]
    Config {
        /// Where it should be.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The child could not be started, written to or read from.
    #[error("cannot run git {command}")]
    Run {
        /// The subcommand.
        command: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Too many others ran, and it got no permit.
    #[error("git {command} waited for other git commands for more than {} s", waited.as_secs())]
    Busy {
        /// The subcommand.
        command: String,
        /// For how long it waited.
        waited: Duration,
    },
    /// The child did not end in time and was killed.
    #[error("git {command} was killed after {} s", deadline.as_secs())]
    Deadline {
        /// The subcommand.
        command: String,
        /// The time it had.
        deadline: Duration,
    },
    /// The child printed more than is kept.
    #[error("git {command} printed more than expected")]
    TooMuch {
        /// The subcommand.
        command: String,
    },
    /// The child ended with another status than 0.
    #[error("git {command} failed ({status}): {message}")]
    Failed {
        /// The subcommand.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The first meaningful line that it wrote to stderr, without control characters.
        message: String,
    },
}
