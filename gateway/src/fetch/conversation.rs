//! One run of `git upload-pack`, within limits. Its request is complete before it begins, and its output is read at
//! once, so no client delays it. Sending the answer is separate for each client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use futures_util::Stream;
use futures_util::stream;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fairness::least_rate::LeastRate;
use crate::fairness::shares::Claim;
use crate::fetch::slot::FetchSlot;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::SpoolReader;
use crate::process::ChildProcess;
use crate::repositories::disk_use::DiskLimits;

/// What one fetch may cost, and all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadPackLimits {
    /// Most gits at once.
    pub(crate) children_max: usize,
    /// Longest wait for one of them to end.
    pub(crate) queue_wait_max: Duration,
    /// Longest wait for the client to send or to take the next bytes.
    pub(crate) stall_max: Duration,
    /// How slowly a client may send or take.
    pub(crate) least_rate: LeastRate,
    /// Most fetches at once, also those whose git has ended.
    pub(crate) transfers_max: usize,
    /// Most bytes of requests and answers that wait on disk, in all.
    pub(crate) spool_bytes_max: u64,
    /// The same of one answer: git waits for the reader with the rest.
    pub(crate) answer_bytes_max: u64,
    /// Longest wait for an answer that git writes for somebody else just now.
    pub(crate) another_wait_max: Duration,
    /// Most bytes of answers that are kept for others; below 4 none is.
    pub(crate) kept_bytes_max: u64,
    /// Bytes of the disk that stay free.
    pub(crate) disk_free_min: u64,
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
        least_rate: LeastRate::DEFAULT,
        transfers_max: 256,
        spool_bytes_max: 4 << 30,
        answer_bytes_max: 1 << 30,
        // Most clones take git no longer. Of one that does, a client has lost no more than this.
        another_wait_max: Duration::from_secs(5),
        kept_bytes_max: 4 << 30,
        disk_free_min: DiskLimits::DEFAULT.free_min,
        duration_max: Duration::from_secs(6 * 3600),
        // 100,000 objects wanted are 5 MB, what a client has is at most 1 MB more.
        request_bytes_max: 8 << 20,
        memory_bytes_max: 4 << 30,
        cpu_secs_max: 3600,
    };
}

/// One fetch that git answers.
pub(super) struct Conversation {
    pub(super) child: ChildProcess,
    /// All that the client asks.
    pub(super) request: SpoolReader,
    pub(super) answer: Arc<FetchSpool>,
    pub(super) slot: FetchSlot,
}

/// How git ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitEnd {
    /// With an answer.
    Answered,
    /// The client has got the reason.
    Refused,
    /// Before its answer was whole: nobody reads it.
    Abandoned,
}

impl Conversation {
    /// Lets git answer into the spool, and gives its slot back when it has ended. An error is for the log: the answer
    /// is not whole.
    pub(super) async fn run(self, duration_max: Duration) -> io::Result<GitEnd> {
        let Self {
            child,
            request,
            answer,
            slot,
        } = self;
        tokio::select! {
            ended = timeout(duration_max, run_git(child, request, &answer, slot)) => {
                ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
            () = answer.abandoned() => Ok(GitEnd::Abandoned),
        }
    }
}

async fn run_git(
    mut child: ChildProcess,
    request: SpoolReader,
    answer: &FetchSpool,
    mut slot: FetchSlot,
) -> io::Result<GitEnd> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let answered = async { tokio::try_join!(spool(stdout, answer, &mut slot), child.wait()) };
    tokio::pin!(answered);
    let ((), (status, stderr)) = tokio::select! {
        // git has read all that it wants; the rest of the request is ignored.
        ended = &mut answered => ended?,
        asked = ask(request, stdin) => {
            asked?;
            answered.await?
        }
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
async fn spool(stdout: Option<ChildStdout>, answer: &FetchSpool, slot: &mut FetchSlot) -> io::Result<()> {
    let Some(mut stdout) = stdout else {
        return Ok(());
    };
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < CHUNK_BYTES / 4 {
            buffer.reserve(CHUNK_BYTES);
        }
        if stdout.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        slot.add(answer, &buffer.split().freeze()).await?;
    }
}

/// Returns what `run` sends, and an error behind it if `run` fails.
pub(super) fn sent_by(
    run: JoinHandle<io::Result<()>>,
    chunks: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync {
    stream::unfold((chunks, Some(run)), |(mut chunks, run)| async move {
        match chunks.recv().await {
            Some(chunk) => Some((Ok(chunk), (chunks, run))),
            None => match run?.await {
                Ok(Ok(())) => None,
                Ok(Err(_)) | Err(_) => Some((Err(cut_off()), (chunks, None))),
            },
        }
    })
}

pub(super) fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "git upload-pack was cut off")
}

/// Sends an answer to a client, until it is all sent, or the client is gone or too slow. An error is for the log: the
/// client does not get all.
pub(super) async fn deliver(
    answer: SpoolReader,
    claim: &Claim,
    client: mpsc::Sender<Bytes>,
    limits: UploadPackLimits,
) -> io::Result<()> {
    tokio::select! {
        ended = timeout(limits.duration_max, send(answer, &client, limits)) => {
            ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        () = client.closed() => Ok(()),
        () = claim.ended() => Err(io::Error::other("its slot was needed for another address")),
    }
}

async fn send(mut answer: SpoolReader, client: &mpsc::Sender<Bytes>, limits: UploadPackLimits) -> io::Result<()> {
    let mut patience = limits.least_rate.begin();
    while let Some(bytes) = answer.next().await? {
        let len = bytes.len();
        let taken = patience.wait(timeout(limits.stall_max, client.send(bytes))).await;
        match taken.map_err(io::Error::other)? {
            Ok(Ok(())) => patience.moved(len),
            Ok(Err(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}

/// One read of a full pipe.
const CHUNK_BYTES: usize = 64 * 1024;
