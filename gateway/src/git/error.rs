//! Why a git command failed.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::git::version::GitVersion;
use crate::process::ChildOutput;

#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("no git found on PATH")]
    NotFound,
    #[error("{} is of version {found:?}; {} or newer is needed", program.display(), GitVersion::MINIMUM)]
    Version {
        program: PathBuf,
        /// What `git version` printed.
        found: String,
    },
    #[error("cannot write {}", path.display())]
    Config {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The child could not be started, written to or read from.
    #[error("cannot run git {command}")]
    Run {
        command: String,
        #[source]
        source: io::Error,
    },
    #[error("git {command} is not started: as many git commands run under locks as may (--git-commands-max)")]
    Busy { command: String },
    #[error("git {command} was killed after {} s", deadline.as_secs())]
    Deadline { command: String, deadline: Duration },
    #[error("git {command} printed more than expected")]
    TooMuch { command: String },
    #[error("git {command} failed ({status}): {message}")]
    Failed {
        command: String,
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
