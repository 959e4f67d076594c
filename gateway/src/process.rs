//! Runs other programs (git, strfry): the only place that spawns. A child has pipes, limits, a process group of its own
//! that is killed as a whole, and a bound on the captured stderr.
//!
//! No `pre_exec`, uid or gid: the standard library would then fork instead of using posix_spawn (50 times slower in a
//! large process). Limits are set on the running child, which waits for its input meanwhile.

use std::borrow::Cow;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::ChildStderr;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::time::sleep;
use tokio::time::timeout;

/// Prepares a run of `program`.
#[expect(clippy::disallowed_methods, reason = "the one place where programs are spawned")]
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Everything that the program starts, including a script around it, ends with it.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// A running child. Dropped, it and all that it started are killed.
#[must_use = "dropping it kills the child"]
#[derive(Debug)]
pub(crate) struct ChildProcess {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    /// Its name in errors.
    pub(crate) name: String,
    stderr: Option<ChildStderr>,
    child: Child,
    is_demoted_when_long: bool,
    has_ended: Arc<AtomicBool>,
}

/// A child and what it has started, which can be halted. Dropped, it resumes.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    /// `None`: it had ended before.
    pid: Option<Pid>,
    has_ended: Arc<AtomicBool>,
    is_halted: bool,
}

impl ProcessGroup {
    /// Takes the processor from it.
    pub(crate) fn halt(&mut self) {
        // As long as it has not ended, no other process has its pid.
        if !self.has_ended.load(Ordering::Relaxed) {
            self.is_halted = true;
            self.signal(Signal::STOP);
        }
    }

    pub(crate) fn resume(&mut self) {
        // What the child has started may stand still, though the child has ended.
        if self.is_halted {
            self.is_halted = false;
            self.signal(Signal::CONT);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid
            && let Err(error) = rustix::process::kill_process_group(pid, signal)
        {
            tracing::debug!(%error, pid = pid.as_raw_nonzero(), ?signal, "could not signal a child");
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.resume();
    }
}

/// How a child ended and what it wrote.
#[derive(Debug)]
pub(crate) struct ChildOutput {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Stderr,
}

impl ChildProcess {
    /// Starts a child, with `stdin` as its input and pipes for its output, within `limits`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn spawn(mut command: Command, name: String, stdin: Stdio, limits: ChildLimits) -> io::Result<Self> {
        let mut child = command.stdin(stdin).spawn()?;
        if let Some(pid) = pid_of(&child) {
            limits.apply(pid);
        }
        Ok(Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            name,
            child,
            is_demoted_when_long: false,
            has_ended: Arc::default(),
        })
    }

    /// Lets every other program have the processor first, and the disk where the system supports that.
    pub(crate) fn let_others_first(&self) {
        self.be_nice(LOWEST_PRIORITY);
    }

    /// Makes the child, and what it starts from now on, so nice (`nice(1)`); 0: as it is.
    pub(crate) fn be_nice(&self, niceness: i32) {
        if niceness > 0
            && let Some(pid) = pid_of(&self.child)
            && let Err(error) = rustix::process::setpriority_process(Some(pid), niceness)
        {
            tracing::debug!(%error, child = self.name, "could not lower the priority of a child");
        }
    }

    /// Makes the child nicer when it has run for longer than small pushes and fetches do, so that those come first. Not
    /// for a git that others wait for under a lock.
    pub(crate) fn demoted_when_long(mut self) -> Self {
        self.is_demoted_when_long = true;
        self
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        let is_running = matches!(self.child.try_wait(), Ok(None));
        self.has_ended.store(!is_running, Ordering::Relaxed);
        is_running
    }

    /// Returns the child with all that it starts.
    pub(crate) fn group(&self) -> ProcessGroup {
        ProcessGroup {
            pid: pid_of(&self.child),
            has_ended: Arc::clone(&self.has_ended),
            is_halted: false,
        }
    }

    /// Whether it stands still.
    #[cfg(test)]
    pub(crate) fn is_halted(&self) -> bool {
        let pid = pid_of(&self.child).map_or(0, |pid| pid.as_raw_nonzero().get());
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    }

    /// Waits for the end while reading stderr.
    pub(crate) async fn wait(&mut self) -> io::Result<(ExitStatus, Stderr)> {
        let demoted = pid_of(&self.child).filter(|_| self.is_demoted_when_long);
        let (stderr, name) = (self.stderr.take(), &self.name);
        let ended = async {
            let stderr = read_start(stderr, STDERR_BYTES_MAX).await?;
            let status = self.child.wait().await?;
            self.has_ended.store(true, Ordering::Relaxed);
            Ok((status, Stderr(stderr)))
        };
        tokio::pin!(ended);
        tokio::select! {
            biased;
            // As long as it has not ended, no other process has its pid.
            ended = &mut ended => return ended,
            () = sleep(LONG) => {}
        }
        if let Some(pid) = demoted
            && let Err(error) = demote(pid)
        {
            tracing::debug!(%error, child = name, "could not lower the priority of a child");
        }
        ended.await
    }

    /// Runs to the end with `input` on stdin; keeps the first `stdout_bytes_max` bytes of stdout. After `deadline` the
    /// child is killed: `None`.
    ///
    /// # Errors
    /// It cannot be written to or read from.
    pub(crate) async fn output(
        mut self,
        input: &[u8],
        stdout_bytes_max: usize,
        deadline: Duration,
    ) -> io::Result<Option<ChildOutput>> {
        let (stdin, stdout) = (self.stdin.take(), self.stdout.take());
        let write = async {
            match stdin {
                // A child that ends before it has read everything gives its reason on stderr.
                Some(mut stdin) => ignore_broken_pipe(stdin.write_all(input).await),
                None => Ok(()),
            }
        };
        let read = read_start(stdout, stdout_bytes_max);
        let work = async { tokio::try_join!(write, read, self.wait()) };
        let Ok(ended) = timeout(deadline, work).await else {
            return Ok(None);
        };
        ended.map(|((), stdout, (status, stderr))| Some(ChildOutput { status, stdout, stderr }))
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // No pid once the child was waited for: another process may have its number by now.
        if let Some(pid) = pid_of(&self.child)
            && let Err(error) = rustix::process::kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(%error, child = self.name, "could not kill a child that may have ended by itself");
        }
    }
}

/// A child's output on stderr, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Stderr(Vec<u8>);

impl Stderr {
    /// Returns the text as it was written.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Returns the lines, without control characters and quoted paths of this machine.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.text()
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect())
            .filter(|line: &String| !line.is_empty())
            .map(|line| without_paths(&line))
            .collect()
    }

    /// Returns the line that names what went wrong: the first `fatal:` or `error:`, else the first.
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

/// The limits of one child. Reaching a limit ends the child, not the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChildLimits {
    /// Address space (`RLIMIT_AS`): turns a delta bomb into a failed allocation. For a program that maps a whole
    /// database, [`ChildLimits::DATABASE`] limits only its private memory (`RLIMIT_DATA`).
    pub(crate) memory_bytes: u64,
    /// CPU time (`RLIMIT_CPU`).
    pub(crate) cpu_secs: u64,
    /// Largest file written (`RLIMIT_FSIZE`).
    pub(crate) file_bytes: u64,
}

impl ChildLimits {
    /// For a short git command: it reads commits, trees and tags into memory, and maps at most 512 MiB of packs in
    /// addition to their indexes (`core.packedGitLimit`). The only large file that it writes is `packed-refs`.
    pub(crate) const GIT_COMMAND: Self = Self {
        memory_bytes: 1 << 30,
        cpu_secs: 300,
        file_bytes: 256 << 20,
    };

    /// For a program that writes one event into a database, which it maps and which may have any size.
    pub(crate) const DATABASE: Self = Self {
        memory_bytes: 1 << 30,
        cpu_secs: 30,
        file_bytes: u64::MAX,
    };

    fn apply(self, pid: Pid) {
        let memory = match self.file_bytes {
            u64::MAX => Resource::Data,
            _ => Resource::As,
        };
        let limits = [
            (memory, self.memory_bytes, self.memory_bytes),
            // Separate, so that SIGXCPU comes before SIGKILL and gives the reason.
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
                tracing::debug!(%error, ?resource, "could not limit a child");
            }
        }
    }
}

/// Whether a signal that this process did not send has ended a child: a limit (`SIGXCPU`, `SIGXFSZ`), or a failed
/// allocation that git cannot report.
pub(crate) fn exceeded_limit(status: ExitStatus) -> bool {
    status.signal().is_some()
}

/// Takes a closed pipe for success: a child that ends early closes its stdin.
fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Replaces quoted absolute paths, which show an outsider this machine and nothing about the push.
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

/// Makes a child as nice as long work, unless it is nicer, and all in its process group.
fn demote(pid: Pid) -> io::Result<()> {
    let niceness = rustix::process::getpriority_process(Some(pid))?;
    Ok(rustix::process::setpriority_pgrp(
        Some(pid),
        niceness.max(LONG_PRIORITY),
    )?)
}

/// Reads to the end and keeps the start.
async fn read_start(output: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> io::Result<Vec<u8>> {
    let Some(mut output) = output else {
        return Ok(Vec::new());
    };
    let mut kept = Vec::new();
    (&mut output).take(bytes_max as u64).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut output, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// Of `nice(1)`.
const LOWEST_PRIORITY: i32 = 19;

/// The git of a small push or fetch takes less, on a busy machine too.
pub(crate) const LONG: Duration = Duration::from_millis(100);

/// Of `nice(1)`: a tenth of the time of short work, where there is not enough for both.
const LONG_PRIORITY: i32 = 10;

/// The first lines name the problem; a hostile pack can make git write a lot more.
const STDERR_BYTES_MAX: usize = 64 * 1024;
const LINE_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ChildProcess {
        let mut command = command(Path::new("/bin/sh"));
        command.arg("-c").arg(script);
        ChildProcess::spawn(command, "sh".to_owned(), Stdio::piped(), ChildLimits::GIT_COMMAND).unwrap()
    }

    #[tokio::test]
    async fn a_child_that_is_dropped_is_killed_with_all_that_it_started() {
        let mut child = shell("sleep 600 & echo $!; wait");
        let mut started = [0; 16];
        let len = child.stdout.as_mut().unwrap().read(&mut started).await.unwrap();
        let started: i32 = String::from_utf8_lossy(&started[..len]).trim().parse().unwrap();
        let pids = [pid_of(&child.child).unwrap(), Pid::from_raw(started).unwrap()];

        drop(child);

        let gone = async {
            for pid in pids {
                while is_alive(pid) {
                    tokio::task::yield_now().await;
                }
            }
        };
        assert!(timeout(Duration::from_secs(10), gone).await.is_ok());
    }

    /// Whether a process runs; one that has ended and was not waited for does not.
    fn is_alive(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    }

    #[tokio::test]
    async fn every_child_runs_within_limits() {
        for (limits, memory) in [
            (ChildLimits::GIT_COMMAND, "Max address space"),
            (ChildLimits::DATABASE, "Max data size"),
        ] {
            let mut command = command(Path::new("/bin/sh"));
            // It reads its limits once it knows that they are set.
            command.arg("-c").arg("read set; cat /proc/self/limits");
            let child = ChildProcess::spawn(command, "sh".to_owned(), Stdio::piped(), limits).unwrap();

            let output = child
                .output(b"set\n", 10_000, Duration::from_secs(20))
                .await
                .unwrap()
                .unwrap();

            let text = String::from_utf8(output.stdout).unwrap();
            let limit = |name: &str| {
                let line = text.lines().find(|line| line.starts_with(name)).unwrap();
                line[name.len()..].split_whitespace().next().unwrap().to_owned()
            };
            assert_eq!(limit(memory), limits.memory_bytes.to_string(), "{text}");
            assert_eq!(limit("Max cpu time"), limits.cpu_secs.to_string(), "{text}");
            assert_eq!(limit("Max core file size"), "0", "{text}");
        }
    }

    #[tokio::test]
    async fn the_start_of_a_childs_output_is_kept_and_its_rest_is_read() {
        let child = shell("cat; head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 3");

        let output = child.output(b"abc", 5, Duration::from_secs(20)).await.unwrap().unwrap();

        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"abc\0\0");
        assert_eq!(output.stderr.0.len(), STDERR_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_child_that_reads_nothing_or_does_not_end_is_no_error() {
        let deaf = shell("exec 0<&-; echo no >&2; exit 1");
        let input = vec![0; 1_000_000];
        let output = deaf.output(&input, 5, Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!(output.stderr.summary(), "no");

        let hanging = shell("sleep 600");
        assert!(
            hanging
                .output(b"", 5, Duration::from_millis(50))
                .await
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn messages_hold_neither_paths_nor_control_characters() {
        let stderr = Stderr(b"warning: x\nfatal: cannot open '/srv/data/x': \x1b[31mno\n".to_vec());

        assert_eq!(stderr.summary(), "fatal: cannot open '...': [31mno");
    }

    #[tokio::test]
    async fn a_child_is_as_nice_as_it_is_made_and_so_is_what_it_starts() {
        let child = shell("read line; sh -c 'nice'");
        child.be_nice(11);

        let output = child
            .output(b"go\n", 100, Duration::from_secs(60))
            .await
            .unwrap()
            .unwrap();

        assert_eq!(output.stdout, b"11\n");
    }

    #[tokio::test]
    async fn long_work_is_demoted_with_what_it_started_and_never_made_less_nice() {
        // The shell, and one that it starts at once, each wait until they are nicer than at first.
        let until_demoted = "first=$(nice); until test $(nice) -gt $first; do sleep 0.01; done";
        let script = format!("sh -c '{until_demoted}' & {until_demoted}; wait; nice");
        let output = |child: ChildProcess| child.output(b"", 100, Duration::from_secs(60));

        let long = output(shell(&script).demoted_when_long()).await.unwrap().unwrap();
        let short = output(shell("nice").demoted_when_long()).await.unwrap().unwrap();
        let own = rustix::process::getpriority_process(None).unwrap();

        assert_eq!(long.stdout, b"10\n");
        assert_eq!(short.stdout, format!("{own}\n").into_bytes());
        let nicest = shell("read line; nice");
        nicest.let_others_first();
        demote(pid_of(&nicest.child).unwrap()).unwrap();
        assert_eq!(
            nicest
                .output(b"\n", 100, Duration::from_secs(60))
                .await
                .unwrap()
                .unwrap()
                .stdout,
            b"19\n"
        );
    }
}
