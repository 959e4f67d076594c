//! The body of a fetch request as it arrives: bounded in bytes and in silence, its start read before it is known who
//! answers.

use std::io;

use bytes::Bytes;
use bytes::BytesMut;
use futures_util::Stream;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::fetch::ls_refs::LsRefs;
use crate::fetch::ls_refs::LsRefsError;
use crate::fetch::ls_refs::LsRefsParser;
use crate::fetch::process::UploadPackError;
use crate::fetch::process::UploadPackLimits;
use wire::pkt_line::PktLine;

/// A request body, counted and timed, of which the start is kept until it is known who answers.
pub(crate) struct FetchRequest<B> {
    body: B,
    limits: UploadPackLimits,
    start: BytesMut,
    received_bytes: u64,
}

impl<B: Stream<Item = io::Result<Bytes>> + Send + Unpin> FetchRequest<B> {
    pub(crate) fn new(body: B, limits: UploadPackLimits) -> Self {
        Self {
            body,
            limits,
            start: BytesMut::new(),
            received_bytes: 0,
        }
    }

    /// Returns the next chunk; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, UploadPackError> {
        let max = self.limits.stall_max;
        let next = timeout(max, self.body.next()).await;
        let chunk = next
            .map_err(|_| UploadPackError::Stalled { max })?
            .transpose()
            .map_err(UploadPackError::Body)?;
        let len = chunk.as_ref().map_or(0, Bytes::len);
        self.received_bytes += u64::try_from(len).unwrap_or(u64::MAX);
        let max = self.limits.request_bytes_max;
        if self.received_bytes > max {
            return Err(UploadPackError::TooLong { max });
        }
        Ok(chunk)
    }

    /// Takes what was read so far without being passed on.
    pub(crate) fn take_start(&mut self) -> Bytes {
        std::mem::take(&mut self.start).freeze()
    }

    /// Reads more into the start; an end is an error.
    async fn more(&mut self) -> Result<(), UploadPackError> {
        let chunk = self.next().await?.ok_or(UploadPackError::Truncated)?;
        self.start.extend_from_slice(&chunk);
        Ok(())
    }

    /// Returns the first line; `None` if the request begins with a flush.
    pub(crate) async fn first_line(&mut self) -> Result<Option<Bytes>, UploadPackError> {
        loop {
            match PktLine::decode(&self.start)? {
                Some((PktLine::Data(line), _)) => return Ok(Some(Bytes::copy_from_slice(line))),
                Some((PktLine::Flush, _)) => return Ok(None),
                Some((PktLine::Delimiter | PktLine::ResponseEnd, _)) => {
                    return Err(UploadPackError::LsRefs(LsRefsError::Packet));
                }
                None => self.more().await?,
            }
        }
    }

    /// Reads on to the end of an `ls-refs`.
    pub(crate) async fn ls_refs(&mut self) -> Result<LsRefs, UploadPackError> {
        let mut parser = LsRefsParser::default();
        loop {
            if let Some(request) = parser.take(&mut self.start)? {
                return Ok(request);
            }
            self.more().await?;
        }
    }
}
