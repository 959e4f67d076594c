//! Putting a run of git together and running it.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::git::child::ChildLimits;
use crate::git::child::GitChild;
use crate::git::child::ignore_broken_pipe;
use crate::git::command::GitError;
use crate::git::permits::CommandPermits;

/// One run of git that has not begun.
#[must_use = "nothing runs before `output` or `spawn`"]
#[derive(Debug)]
pub(crate) struct Invocation {
    command: Command,
    subcommand: String,
    limits: Option<ChildLimits>,
    turns: CommandPermits,
}

impl Invocation {
    /// Takes `command`, which has git, its subcommand and its environment.
    pub(crate) fn new(command: Command, subcommand: &str, turns: CommandPermits) -> Self {
        Self {
            command,
            subcommand: subcommand.to_owned(),
            limits: None,
            turns,
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

    /// Reads objects from `dirs` too.
    pub(crate) fn alternates(self, dirs: &[PathBuf]) -> Self {
        self.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted_path_list(dirs))
    }

    pub(crate) fn limits(mut self, limits: ChildLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Waits for its turn, runs to the end with `input` on stdin and returns stdout.
    ///
    /// # Errors
    /// [`GitError::Busy`] if its turn does not come within `deadline`, [`GitError::Deadline`] if it does not end within
    /// `deadline` after that, [`GitError::Failed`] on another status than 0.
    pub(crate) async fn output(self, input: &[u8], deadline: Duration) -> Result<Vec<u8>, GitError> {
        let _turn = self.turns.wait(&self.subcommand, deadline).await?;
        let mut child = self.spawn(Stdio::piped())?;
        let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take());
        let work = async {
            let mut answer = Vec::new();
            let write = async {
                if let Some(mut stdin) = stdin.take() {
                    // A child that ends before it has read everything says why on stderr.
                    ignore_broken_pipe(stdin.write_all(input).await)?;
                }
                Ok::<_, io::Error>(())
            };
            let read = async {
                match stdout.as_mut() {
                    Some(stdout) => stdout.read_to_end(&mut answer).await.map(drop),
                    None => Ok(()),
                }
            };
            let (ended, copied) = tokio::join!(child.wait(), async { tokio::try_join!(write, read) });
            let (status, stderr) = ended?;
            copied?;
            Ok::<_, io::Error>((status, stderr, answer))
        };
        let ended = timeout(deadline, work).await;
        let command = child.subcommand.clone();
        match ended {
            Err(_) => Err(GitError::Deadline { command, deadline }),
            Ok(Err(source)) => Err(GitError::Run { command, source }),
            Ok(Ok((status, _, answer))) if status.success() => Ok(answer),
            Ok(Ok((status, stderr, _))) => Err(GitError::Failed {
                command,
                status,
                message: stderr.summary(),
            }),
        }
    }

    /// Starts the child with pipes on stdout and stderr and `stdin` as its input.
    ///
    /// # Errors
    /// [`GitError::Run`] if it cannot be started.
    pub(crate) fn spawn(mut self, stdin: Stdio) -> Result<GitChild, GitError> {
        let command = self.subcommand.clone();
        let failed = |source| GitError::Run { command, source };
        let child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        Ok(GitChild::new(child, self.subcommand, self.limits))
    }
}

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
