//! One run of `git upload-pack`, within limits: the request goes in and the answer comes out at the same time.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fetch::request::FetchRequest;
use crate::process::ChildProcess;

/// What one fetch may cost, and all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadPackLimits {
    /// Most gits at once.
    pub(crate) children_max: usize,
    /// Longest wait for one of them to end.
    pub(crate) queue_wait_max: Duration,
    /// Longest wait for the client to send or to take the next bytes.
    pub(crate) stall_max: Duration,
    /// Longest time of one answer.
    pub(crate) duration_max: Duration,
    /// Most bytes of a request.
    pub(crate) request_bytes_max: u64,
    /// Most memory of one git.
    pub(crate) memory_bytes_max: u64,
    /// Most CPU time of one git.
    pub(crate) cpu_secs_max: u64,
}

impl UploadPackLimits {
    /// Room for clones of large projects, a few at a time.
    pub(crate) const DEFAULT: Self = Self {
        children_max: 4,
        queue_wait_max: Duration::from_secs(30),
        stall_max: Duration::from_secs(60),
        duration_max: Duration::from_secs(6 * 3600),
        // 100,000 objects wanted are 5 MB, what a client has is at most 1 MB more.
        request_bytes_max: 8 << 20,
        memory_bytes_max: 4 << 30,
        cpu_secs_max: 3600,
    };
}

/// Runs `git upload-pack` until it has ended or the client is gone. An error is for the log: the answer is not whole.
pub(crate) async fn converse<R>(
    mut child: ChildProcess,
    mut request: FetchRequest<R>,
    answer: mpsc::Sender<Bytes>,
    limits: UploadPackLimits,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        let answered = async { tokio::try_join!(forward(stdout, &answer, limits), child.wait()) };
        tokio::pin!(answered);
        tokio::select! {
            // git has all it wants and is done; what else the client may send is nobody's.
            ended = &mut answered => ended,
            asked = ask(&mut request, stdin) => {
                asked?;
                answered.await
            }
        }
    };
    let ended = tokio::select! {
        ended = timeout(limits.duration_max, talk) => ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        // Nobody reads the answer; a git that still runs is killed with `child`.
        () = answer.closed() => return Ok(()),
    };
    let ((), (status, stderr)) = ended?;
    if status.code().is_none() {
        return Err(io::Error::other("git upload-pack was killed"));
    }
    // A git that ends with a status of its own has told the client why, in the answer.
    if !status.success() {
        tracing::info!(%status, message = stderr.summary(), "git upload-pack refused");
    }
    Ok(())
}

async fn ask<R>(request: &mut FetchRequest<R>, stdin: Option<ChildStdin>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let Some(mut stdin) = stdin else {
        return Ok(());
    };
    let mut chunk = Some(request.take_start());
    while let Some(bytes) = chunk {
        match stdin.write_all(&bytes).await {
            Ok(()) => chunk = request.next().await.map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn forward(
    stdout: Option<ChildStdout>,
    answer: &mpsc::Sender<Bytes>,
    limits: UploadPackLimits,
) -> io::Result<()> {
    let Some(mut stdout) = stdout else {
        return Ok(());
    };
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        if stdout.read_buf(&mut chunk).await? == 0 {
            return Ok(());
        }
        match timeout(limits.stall_max, answer.send(chunk.freeze())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// One read of a full pipe.
const CHUNK_BYTES: usize = 64 * 1024;
