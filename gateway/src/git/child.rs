//! A git that runs: its pipes, its limits, its last words, its end.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::process::ChildStderr;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;

/// A running git. Dropped, it and all that it started are killed.
#[must_use = "dropping it kills the child"]
#[derive(Debug)]
pub(crate) struct GitChild {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) subcommand: String,
    stderr: Option<ChildStderr>,
    child: Child,
}

impl GitChild {
    /// Takes a child that has just been started, with pipes, and limits it.
    pub(crate) fn new(mut child: Child, subcommand: String, limits: Option<ChildLimits>) -> Self {
        if let (Some(limits), Some(pid)) = (limits, pid_of(&child)) {
            limits.apply(pid);
        }
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            subcommand,
            child,
        }
    }

    /// Waits for the end while reading stderr.
    pub(crate) async fn wait(&mut self) -> io::Result<(ExitStatus, Stderr)> {
        let mut kept = Vec::new();
        if let Some(mut stderr) = self.stderr.take() {
            let mut chunk = [0; 4096];
            loop {
                match stderr.read(&mut chunk).await? {
                    0 => break,
                    len if kept.len() < STDERR_BYTES_MAX => kept.extend_from_slice(&chunk[..len]),
                    _ => {}
                }
            }
        }
        Ok((self.child.wait().await?, Stderr(kept)))
    }
}

impl Drop for GitChild {
    fn drop(&mut self) {
        // No pid once the child was waited for: its number may belong to somebody else by now.
        if let Some(pid) = pid_of(&self.child)
            && let Err(error) = rustix::process::kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(%error, "could not kill a git that may have ended by itself");
        }
    }
}

/// What a child wrote to stderr, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Stderr(Vec<u8>);

impl Stderr {
    /// Returns the lines, without control characters and paths of this machine.
    pub(crate) fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0)
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect())
            .filter(|line: &String| !line.is_empty())
            .map(|line| without_paths(&line))
            .collect()
    }

    /// Returns the line that says what went wrong: the first `fatal:` or `error:`, else the first.
    pub(crate) fn summary(&self) -> String {
        let lines = self.lines();
        let mark = |line: &&String| line.starts_with("fatal: ") || line.starts_with("error: ");
        lines
            .iter()
            .find(mark)
            .or(lines.first())
            .cloned()
            .unwrap_or_else(|| "no message".to_owned())
    }
}

/// What one child may use. Reaching a limit ends the child, not the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChildLimits {
    /// Address space (`RLIMIT_AS`): turns a delta bomb into a failed allocation.
    pub(crate) memory_bytes: u64,
    /// CPU time (`RLIMIT_CPU`).
    pub(crate) cpu_secs: u64,
    /// Largest file written (`RLIMIT_FSIZE`).
    pub(crate) file_bytes: u64,
}

impl ChildLimits {
    fn apply(self, pid: Pid) {
        let limits = [
            (Resource::As, self.memory_bytes, self.memory_bytes),
            // Apart, so that SIGXCPU comes before SIGKILL and says why.
            (Resource::Cpu, self.cpu_secs, self.cpu_secs + 1),
            (Resource::Fsize, self.file_bytes, self.file_bytes),
            (Resource::Core, 0, 0),
        ];
        for (resource, soft, hard) in limits {
            let limit = Rlimit {
                current: Some(soft),
                maximum: Some(hard),
            };
            // A child that has already ended needs no limit; a stricter limit of our own is kept by the kernel.
            if let Err(error) = rustix::process::prlimit(Some(pid), resource, limit) {
                tracing::debug!(%error, ?resource, "could not limit a git");
            }
        }
    }
}

/// Tells whether a signal ended a child that we still waited for: a limit (`SIGXCPU`, `SIGXFSZ`), or an allocation
/// that failed where git cannot say so.
pub(crate) fn exceeded_limit(status: ExitStatus) -> bool {
    status.signal().is_some()
}

/// A child that ends early closes its stdin; that is no failure of ours.
pub(crate) fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Replaces quoted absolute paths, which tell an outsider about this machine and nothing about the push.
fn without_paths(line: &str) -> String {
    line.split('\'')
        .enumerate()
        .map(|(i, part)| {
            if i % 2 == 1 && part.starts_with('/') {
                "..."
            } else {
                part
            }
        })
        .collect::<Vec<_>>()
        .join("'")
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
}

/// git says what is wrong in its first lines; a hostile pack can make it say a lot more.
const STDERR_BYTES_MAX: usize = 16 * 1024;
const LINE_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::git::command::Git;

    #[tokio::test]
    async fn a_child_that_is_dropped_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::discover(dir.path()).await.unwrap();
        // Without an input, `hash-object --stdin` waits for ever.
        let spawned = git.invoke("hash-object").arg("--stdin").spawn(Stdio::piped()).unwrap();
        let pid = pid_of(&spawned.child).unwrap();
        drop(spawned);

        let gone = async {
            while rustix::process::test_kill_process(pid).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(Duration::from_secs(10), gone).await.is_ok());
    }

    #[test]
    fn messages_hold_neither_paths_nor_control_characters() {
        let stderr = Stderr(b"warning: x\nfatal: cannot open '/srv/data/x': \x1b[31mno\n".to_vec());

        assert_eq!(stderr.summary(), "fatal: cannot open '...': [31mno");
    }
}
