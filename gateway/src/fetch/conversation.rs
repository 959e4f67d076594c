//! One run of `git upload-pack`: the request goes in and the answer comes out at the same time.

use std::io;
use std::process::ExitStatus;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fetch::limits::UploadPackLimits;
use crate::fetch::request::FetchRequest;
use crate::process::ChildProcess;
use crate::process::Stderr;

/// A piece of an answer. A channel that closes before [`Chunk::End`] carried half of one.
#[derive(Debug)]
pub(crate) enum Chunk {
    Data(Bytes),
    End,
}

/// One run of `upload-pack`, in a task of its own: it must notice a client that is gone or asleep even while nobody
/// polls the answer.
pub(crate) struct Conversation<R> {
    pub(crate) child: ChildProcess,
    pub(crate) request: FetchRequest<R>,
    pub(crate) sender: mpsc::Sender<Chunk>,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl<R: AsyncRead + Send + Unpin> Conversation<R> {
    /// Runs until git has ended or the client is gone; a git that still runs is then killed by dropping the child.
    pub(crate) async fn run(mut self, limits: UploadPackLimits) {
        let stdin = self.child.stdin.take();
        let stdout = self.child.stdout.take();
        let talk = async {
            let answer = async {
                let forward = forward(stdout, &self.sender, limits);
                let ((), ended) = tokio::try_join!(forward, self.child.wait())?;
                Ok(ended)
            };
            tokio::pin!(answer);
            tokio::select! {
                // git has all it wants and is done; what else the client may send is nobody's.
                ended = &mut answer => ended,
                asked = ask(&mut self.request, stdin) => {
                    asked?;
                    answer.await
                }
            }
        };
        let talk = timeout(limits.duration_max, talk);
        let ended = tokio::select! {
            ended = talk => ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            () = self.sender.closed() => return,
        };
        let end = match ended {
            Ok((status, stderr)) => report_end(status, &stderr),
            Err(error) => Err(error),
        };
        match end {
            Ok(()) => {
                // Whoever does not take it is gone, or asleep, and hears that the answer was cut off.
                let sent = timeout(limits.stall_max, self.sender.send(Chunk::End)).await;
                tracing::trace!(?sent, "a fetch has ended");
            }
            Err(error) => tracing::warn!(%error, "a fetch was cut off"),
        }
        drop(self.permit);
    }
}

/// Tells whether the answer is whole. A git that ends with a status of its own has told the client why, in the answer.
fn report_end(status: ExitStatus, stderr: &Stderr) -> io::Result<()> {
    if status.code().is_none() {
        return Err(io::Error::other("git upload-pack was killed"));
    }
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
    sender: &mpsc::Sender<Chunk>,
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
        match timeout(limits.stall_max, sender.send(Chunk::Data(chunk.freeze()))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// One read of a full pipe.
const CHUNK_BYTES: usize = 64 * 1024;
