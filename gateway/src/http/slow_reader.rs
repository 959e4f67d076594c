//! A connection whose client must read at a minimum rate, after a grace. Otherwise an answer, or a relay's output for a
//! WebSocket, would stay in memory for as long as a client keeps its socket open and reads nothing.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use tokio::time::Sleep;

use crate::fairness::least_rate::LeastRate;

/// A stream that breaks if the other side reads too slowly.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: S,
    least_rate: LeastRate,
    /// Since when a write waits for the other side.
    waits_since: Option<Instant>,
    /// The time that writes have waited, less the time that the bytes taken since are worth.
    behind: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S, least_rate: LeastRate) -> Self {
        Self {
            stream,
            least_rate,
            waits_since: None,
            behind: Duration::ZERO,
            timer: None,
        }
    }

    /// Counts a write that the other side took, or waits on with one that it does not.
    fn pace(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let since = *self.waits_since.get_or_insert(now);
        if let Poll::Ready(written) = written {
            self.waits_since = None;
            self.timer = None;
            let len = *written.as_ref().unwrap_or(&0);
            let worth = Duration::from_micros(len as u64 * 1_000_000 / self.least_rate.bytes_per_sec.max(1));
            self.behind = (self.behind + (now - since)).saturating_sub(worth);
            return Poll::Ready(written);
        }
        let ends_at = since + self.least_rate.grace.saturating_sub(self.behind);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(ends_at)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buf);
        self.pace(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.pace(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::io::DuplexStream;

    use super::*;

    /// Writes 1 MiB to a client that reads `bytes` every 30 s.
    async fn write_to_a_client_of(bytes: usize) -> io::Result<()> {
        let (server, mut client): (DuplexStream, DuplexStream) = tokio::io::duplex(64 * 1024);
        let reading = tokio::spawn(async move {
            let mut read = vec![0; bytes];
            while client.read_exact(&mut read).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            // Open for as long as the test.
            std::future::pending::<()>().await;
        });
        let mut server = Paced::new(
            server,
            LeastRate {
                bytes_per_sec: 1024,
                grace: Duration::from_secs(60),
            },
        );
        let written = server.write_all(&vec![0; 1 << 20]).await;
        reading.abort();
        written
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_too_slowly_is_cut_off() {
        for too_slow in [1, 10_000] {
            let written = write_to_a_client_of(too_slow).await;
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut, "{too_slow}");
        }
        assert!(write_to_a_client_of(40_000).await.is_ok());
    }
}
