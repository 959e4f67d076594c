//! The body of a fetch request as it arrives: its start is read before it is known whether this process answers or git.

use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;

use crate::fetch::error::UploadPackError;
use crate::fetch::ls_refs::LsRefs;
use crate::fetch::ls_refs::LsRefsParser;
use crate::fetch::ls_refs::UNEXPECTED_PACKET;
use crate::http::body::Body;
use crate::http::body::BodyError;
use crate::http::body::BodyLimits;
use crate::http::body::BodyReader;
use wire::pkt_line::PktLine;

/// A request, of which the start is kept until it is known who answers.
pub(crate) struct FetchRequest {
    body: BodyReader<Body>,
    start: BytesMut,
}

impl FetchRequest {
    /// Reads `body` within `limits`, and within [`REQUEST_DURATION_MAX`].
    pub(crate) fn new(body: Body, limits: BodyLimits) -> Self {
        let duration_max = limits.duration_max.min(REQUEST_DURATION_MAX);
        Self {
            body: BodyReader::new(body, BodyLimits { duration_max, ..limits }),
            start: BytesMut::new(),
        }
    }

    /// Returns the next chunk; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.body.next().await
    }

    /// Takes the bytes that were read so far but not passed on.
    pub(crate) fn take_start(&mut self) -> Bytes {
        std::mem::take(&mut self.start).freeze()
    }

    /// Reads more into the start; an end is an error.
    async fn more(&mut self) -> Result<(), UploadPackError> {
        let chunk = self
            .next()
            .await?
            .ok_or(UploadPackError::Malformed("it ends too early"))?;
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
                    return Err(UNEXPECTED_PACKET);
                }
                None => self.more().await?,
            }
        }
    }

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

/// For a whole request, however slowly its bytes come. One that names 100,000 objects has 5 MB.
const REQUEST_DURATION_MAX: Duration = Duration::from_secs(300);
