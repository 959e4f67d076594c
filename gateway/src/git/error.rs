//! Why a git command failed.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::git::version::GitVersion;
use crate::process::ChildOutput;

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

impl GitError {
    /// Returns what makes an error of the system one of running `git <command>`.
    pub(crate) fn run(command: &str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Run {
            command: command.to_owned(),
            source,
        }
    }

    /// Returns the failure of a child that has ended.
    pub(crate) fn failed(command: &str, output: &ChildOutput) -> Self {
        Self::Failed {
            command: command.to_owned(),
            status: output.status,
            message: output.stderr.summary(),
        }
    }
}

/// Returns how a child ended that was given until `deadline`, whatever its status.
///
/// # Errors
/// [`GitError::Run`], [`GitError::Deadline`].
pub(crate) fn ended(
    command: &str,
    deadline: Duration,
    output: io::Result<Option<ChildOutput>>,
) -> Result<ChildOutput, GitError> {
    output
        .map_err(GitError::run(command))?
        .ok_or_else(|| GitError::Deadline {
            command: command.to_owned(),
            deadline,
        })
}

/// Returns what a child has printed, if it ended with status 0.
///
/// # Errors
/// [`GitError::Failed`].
pub(crate) fn succeeded(command: &str, output: ChildOutput) -> Result<Vec<u8>, GitError> {
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(GitError::failed(command, &output)),
    }
}
