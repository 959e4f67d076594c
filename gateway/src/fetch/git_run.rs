//! One run of `git upload-pack`, within limits. Its request is complete before it begins, and its output is read at
//! once, so no client delays it. Sending the answer is separate for each client.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::time::timeout;

use crate::fetch::limits::UploadPackLimits;
use crate::fetch::long_pipe::LongPipe;
use crate::fetch::slot::YieldingSlot;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::SpoolReader;
use crate::git::command::Git;
use crate::git::error::GitError;
use crate::process::ChildLimits;
use crate::process::ChildProcess;
use crate::repositories::layout::in_background;
use wire::protocol::GitProtocol;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitEnd {
    Answered,
    /// The client has got the reason.
    Refused,
    /// Before its answer was whole: nobody reads it.
    Abandoned,
}

/// Lets git answer into the spool, and gives its slot back when it has ended. An error is for the log: the answer is
/// not whole.
pub(super) async fn let_git_answer(
    child: ChildProcess,
    request: SpoolReader,
    answer: &FetchSpool,
    slot: YieldingSlot,
    duration_max: Duration,
) -> io::Result<GitEnd> {
    tokio::select! {
        ended = timeout(duration_max, run_git(child, request, answer, slot)) => {
            ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        () = answer.abandoned() => Ok(GitEnd::Abandoned),
    }
}

pub(super) fn start_git(
    git: &Git,
    path: &Path,
    protocol: Option<&GitProtocol>,
    limits: &UploadPackLimits,
) -> Result<ChildProcess, GitError> {
    let mut invocation = git
        .invoke("upload-pack")
        // Exactly this path: no `.git` tried behind it.
        .arg("--strict")
        .arg("--stateless-rpc")
        .arg(path)
        .limits(ChildLimits {
            memory_bytes: limits.memory_bytes_max,
            cpu_secs: limits.cpu_secs_max,
            file_bytes: SCRATCH_BYTES_MAX,
        });
    if let Some(protocol) = protocol {
        invocation = invocation.env("GIT_PROTOCOL", protocol.as_str());
    }
    Ok(invocation.spawn(Stdio::piped())?.demoted_when_long())
}

async fn run_git(
    mut child: ChildProcess,
    request: SpoolReader,
    answer: &FetchSpool,
    mut slot: YieldingSlot,
) -> io::Result<GitEnd> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let shared = slot.share(child.group());
    let answered = async { tokio::try_join!(spool(stdout, answer, &mut slot), child.wait()) };
    tokio::pin!(answered);
    let asked = async {
        tokio::select! {
            // git has read all that it wants; the rest of the request is ignored.
            ended = &mut answered => ended,
            asked = ask(request, stdin) => {
                asked?;
                answered.await
            }
        }
    };
    let ((), (status, stderr)) = tokio::select! {
        biased;
        ended = asked => ended?,
        never = shared => match never {},
    };
    if status.code().is_none() {
        return Err(io::Error::other("git upload-pack was killed"));
    }
    if status.success() {
        return Ok(GitEnd::Answered);
    }
    tracing::info!(%status, message = stderr.summary(), "git upload-pack refused");
    Ok(GitEnd::Refused)
}

async fn ask(mut request: SpoolReader, stdin: Option<ChildStdin>) -> io::Result<()> {
    let Some(mut stdin) = stdin else {
        return Ok(());
    };
    while let Some(bytes) = request.next().await? {
        match stdin.write_all(&bytes).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes what git writes as fast as it does.
async fn spool(stdout: Option<ChildStdout>, answer: &FetchSpool, slot: &mut YieldingSlot) -> io::Result<()> {
    let Some(mut stdout) = stdout else {
        return Ok(());
    };
    let mut buffer = BytesMut::new();
    while answer.len() < LONG_BYTES {
        if buffer.capacity() < CHUNK_BYTES / 4 {
            buffer.reserve(CHUNK_BYTES);
        }
        if stdout.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        slot.add(answer, &buffer.split().freeze()).await?;
    }
    spool_rest(LongPipe::new(stdout.into_owned_fd()?)?, answer, slot).await
}

/// The same of a long answer.
async fn spool_rest(mut pipe: LongPipe, answer: &FetchSpool, slot: &mut YieldingSlot) -> io::Result<()> {
    loop {
        let (read, back) = in_background(move || (pipe.read(), pipe)).await;
        pipe = back;
        let bytes = read?;
        if bytes.is_empty() {
            return Ok(());
        }
        slot.add(answer, &bytes).await?;
    }
}

/// One read of a full pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a client waits for after that is the end.
const LONG_BYTES: u64 = 1 << 20;

/// What upload-pack may write to disk: nothing of size.
const SCRATCH_BYTES_MAX: u64 = 64 << 20;
