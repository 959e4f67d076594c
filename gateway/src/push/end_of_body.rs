//! Tells when the body of a request has been read to its end: only then does a client read an answer.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::ReadBuf;
use tokio::sync::oneshot;

use crate::http::body::Body;

/// A body that tells when it has been read, or dropped.
pub(crate) struct WatchedBody {
    body: Body,
    ended: Option<oneshot::Sender<()>>,
}

impl WatchedBody {
    /// Watches `body`. The receiver is done, with or without a value, once the body is not read any more.
    pub(crate) fn new(body: Body) -> (Self, oneshot::Receiver<()>) {
        let (ended, end) = oneshot::channel();
        (
            Self {
                body,
                ended: Some(ended),
            },
            end,
        )
    }
}

impl AsyncRead for WatchedBody {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.body.as_mut().poll_read(context, buffer);
        let at_end = polled.is_ready() && buffer.filled().len() == before && buffer.remaining() > 0;
        if at_end && let Some(ended) = self.ended.take() {
            // Whoever waited may have gone.
            ended.send(()).ok();
        }
        polled
    }
}
