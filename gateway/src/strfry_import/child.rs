//! The only place that spawns strfry: one child, bounded in time and in what is read of it.
//!
//! What its words mean is read in `import.rs`.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::Command;

/// How a strfry ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs strfry to its end with `input` on its stdin. After `deadline` it is killed: `None`.
///
/// # Errors
/// It cannot be started, written to or read from.
pub(crate) async fn run(
    program: &Path,
    arguments: &[OsString],
    input: &[u8],
    deadline: Duration,
) -> io::Result<Option<Ended>> {
    let mut child = Running(spawn(program, arguments)?);
    let stdin = child.0.stdin.take();
    let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
    let work = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that ends before it has read everything says why on stderr.
                match stdin.write_all(input).await {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            Ok(())
        };
        let ((), stdout, stderr) = tokio::try_join!(write, read_start(stdout), read_start(stderr))?;
        let status = child.0.wait().await?;
        Ok(Ended { status, stdout, stderr })
    };
    match tokio::time::timeout(deadline, work).await {
        Ok(ended) => ended.map(Some),
        Err(_) => Ok(None),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where strfry is spawned; it is no git"
)]
fn spawn(program: &Path, arguments: &[OsString]) -> io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: what is given may be a script around strfry, and ends with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// A running strfry. Dropped, it and all that it started are killed. LMDB's lock is robust: the next one recovers it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // No pid once the child was waited for: its number may belong to somebody else by now.
        let pid = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid
            && let Err(error) = rustix::process::kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(%error, "could not kill a strfry that may have ended by itself");
        }
    }
}

/// Reads to the end and keeps the start.
async fn read_start(output: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut output) = output else {
        return Ok(String::new());
    };
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match output.read(&mut chunk).await? {
            0 => return Ok(String::from_utf8_lossy(&kept).into_owned()),
            length if kept.len() < OUTPUT_BYTES_MAX => kept.extend_from_slice(&chunk[..length]),
            _ => {}
        }
    }
}

/// An import of one event says a dozen lines.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
