//! What arrives on a connection and is no whole message yet: counted, because a client may leave it unfinished, and the
//! buffer that it needed stays with the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::message_bytes::ConnectionBytes;

/// The message that is arriving. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct IncomingMessages {
    arriving: Arc<Mutex<Arriving>>,
    bytes: ConnectionBytes,
}

#[derive(Debug, Default)]
struct Arriving {
    /// Of messages that are not read yet.
    unread: usize,
    /// Since when there are any.
    since: Option<Instant>,
    /// How much of the largest such message was counted. Its buffer is kept.
    counted: usize,
}

/// A stream that counts what is read from it.
#[derive(Debug)]
pub(super) struct CountedStream<S> {
    stream: S,
    incoming: IncomingMessages,
}

impl IncomingMessages {
    pub(super) fn new(bytes: ConnectionBytes) -> Self {
        let arriving = Arc::default();
        Self { arriving, bytes }
    }

    pub(super) fn counts<S>(&self, stream: S) -> CountedStream<S> {
        let incoming = self.clone();
        CountedStream { stream, incoming }
    }

    /// Since when a message is arriving.
    pub(super) fn since(&self) -> Option<Instant> {
        self.arriving.lock().since
    }

    /// A message was read. What has arrived of the next one, up to the size of the buffer for reading, is not counted.
    pub(super) fn read_message(&self) {
        let mut arriving = self.arriving.lock();
        (arriving.unread, arriving.since) = (0, None);
    }

    /// A ping or pong was read, which may come within a message.
    pub(super) fn read_control(&self, payload_bytes: usize) {
        let mut arriving = self.arriving.lock();
        arriving.unread = arriving.unread.saturating_sub(payload_bytes + CONTROL_HEAD_BYTES);
        if arriving.unread == 0 {
            arriving.since = None;
        }
    }

    fn came(&self, bytes: usize) {
        let mut arriving = self.arriving.lock();
        let steps_before = arriving.unread.div_ceil(STEP_BYTES);
        arriving.unread += bytes;
        arriving.since.get_or_insert_with(Instant::now);
        if arriving.counted > 0 && arriving.unread.div_ceil(STEP_BYTES) > steps_before {
            self.bytes.moves();
        }
        if arriving.unread > arriving.counted + FREE_BYTES {
            let more = arriving.unread - FREE_BYTES - arriving.counted;
            // Whole steps, so that few reads of a large message have to ask.
            let more = more.next_multiple_of(STEP_BYTES);
            arriving.counted += more;
            drop(arriving);
            self.bytes.add(more);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buf))?;
        self.incoming.came(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Of a masked control frame (RFC 6455, section 5.2).
const CONTROL_HEAD_BYTES: usize = 6;
/// Most messages are shorter, and not counted.
const FREE_BYTES: usize = 4 * 1024;
const STEP_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::message_bytes::MessageBytes;

    #[test]
    fn a_message_arrives_since_its_first_byte_whatever_pings_come_within() {
        let all = MessageBytes::new(100_000, 100_000);
        let incoming = IncomingMessages::new(all.of(Some([203, 0, 113, 7].into())));
        assert_eq!(incoming.since(), None);

        incoming.came(6 + 4);
        incoming.read_control(4);
        assert_eq!(incoming.since(), None);
        incoming.came(20);
        let since = incoming.since();
        assert!(since.is_some());
        for _ in 0..1000 {
            incoming.came(6 + 125);
            incoming.read_control(125);
        }
        assert_eq!(incoming.since(), since);
        incoming.read_message();
        assert_eq!(incoming.since(), None);
    }

    /// The one with most ended, whatever it was doing.
    #[test]
    fn an_idle_buffer_gives_way_to_a_message_that_arrives() {
        let all = MessageBytes::new(100_000, 100_000);
        let connect = || all.of(Some([203, 0, 113, 7].into()));
        let [first, idle, new] = [connect(), connect(), connect()];
        let [to_first, to_idle, to_new] = [&first, &idle, &new].map(|bytes| IncomingMessages::new(bytes.clone()));
        for (incoming, bytes) in [(&to_first, 40_000), (&to_idle, 30_000)] {
            incoming.came(bytes);
            incoming.read_message();
        }

        to_first.came(1000);
        to_new.came(30_000);

        assert!(idle.ended().now_or_never().is_some());
        assert_eq!([&first, &new].map(|bytes| bytes.ended().now_or_never()), [None, None]);
    }

    #[test]
    fn the_largest_message_counts_as_long_as_its_connection() {
        let all = MessageBytes::new(100_000, 100_000);
        let incoming = IncomingMessages::new(all.of(Some([203, 0, 113, 7].into())));
        let counted = || incoming.arriving.lock().counted;

        for (bytes, in_all) in [(FREE_BYTES, 0), (40_000, 49_152), (30_000, 49_152), (60_000, 65_536)] {
            for _ in 0..bytes / 1000 {
                incoming.came(1000);
            }
            incoming.read_message();
            assert_eq!(counted(), in_all, "{bytes}");
        }
    }
}
