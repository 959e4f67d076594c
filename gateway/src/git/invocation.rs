//! One run of git: its arguments, its environment, its input and its end.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::git::error::GitError;
use crate::git::error::ended;
use crate::git::error::succeeded;
use crate::process::ChildLimits;
use crate::process::ChildProcess;

/// One run of git that has not begun.
#[must_use = "nothing runs before `output` or `spawn`"]
#[derive(Debug)]
pub(crate) struct Invocation {
    command: Command,
    subcommand: String,
    limits: ChildLimits,
}

impl Invocation {
    /// Takes `command`, which has git, its subcommand and its environment.
    pub(crate) fn new(command: Command, subcommand: &str) -> Self {
        Self {
            command,
            subcommand: subcommand.to_owned(),
            limits: ChildLimits::GIT_COMMAND,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Works in the repository at `path`, found without looking around.
    pub(crate) fn repository(self, path: &Path) -> Self {
        self.env("GIT_DIR", path)
    }

    pub(crate) fn alternates(self, dirs: &[PathBuf]) -> Self {
        self.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted_path_list(dirs))
    }

    /// Takes other limits than those of a short command.
    pub(crate) fn limits(mut self, limits: ChildLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Runs to the end with `input` on stdin and returns stdout.
    ///
    /// # Errors
    /// [`GitError::Deadline`] if it does not end within `deadline`, [`GitError::Failed`] on another status than 0,
    /// [`GitError::TooMuch`] if it prints more than anything asked for here can be.
    pub(crate) async fn output(self, input: &[u8], deadline: Duration) -> Result<Vec<u8>, GitError> {
        let command = self.subcommand.clone();
        let child = self.spawn(Stdio::piped())?;
        let output = child.output(input, OUTPUT_BYTES_MAX + 1, deadline).await;
        let output = ended(&command, deadline, output)?;
        match output.stdout.len() > OUTPUT_BYTES_MAX {
            true => Err(GitError::TooMuch { command }),
            false => succeeded(&command, output),
        }
    }

    pub(crate) fn subcommand(&self) -> &str {
        &self.subcommand
    }

    /// Starts the child with pipes on stdout and stderr and `stdin` as its input.
    pub(crate) fn spawn(self, stdin: Stdio) -> Result<ChildProcess, GitError> {
        let command = self.subcommand.clone();
        ChildProcess::spawn(self.command, self.subcommand, stdin, self.limits).map_err(GitError::run(&command))
    }
}

const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// Builds a value for `GIT_ALTERNATE_OBJECT_DIRECTORIES`: entries in C quotes, between colons (git
/// `environment(7)`), so that a data directory may have any name.
fn quoted_path_list(dirs: &[PathBuf]) -> OsString {
    let mut list = Vec::new();
    for dir in dirs {
        if !list.is_empty() {
            list.push(b':');
        }
        list.push(b'"');
        for byte in dir.as_os_str().as_bytes() {
            match byte {
                b'"' | b'\\' => list.extend([b'\\', *byte]),
                0..=0x1f | 0x7f => list.extend(format!("\\{byte:03o}").bytes()),
                _ => list.push(*byte),
            }
        }
        list.push(b'"');
    }
    OsString::from_vec(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_can_be_an_alternate() {
        let list = quoted_path_list(&["/a:b".into(), "/c\"d\\e\n".into()]);

        assert_eq!(list, OsStr::new("\"/a:b\":\"/c\\\"d\\\\e\\012\""));
    }
}
