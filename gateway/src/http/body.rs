//! Request bodies as byte streams: decompressed if need be, read within limits, never collected.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use bytes::BytesMut;
use futures_util::Stream;
use futures_util::TryStreamExt;
use tokio::io::AsyncBufRead;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tokio_util::io::StreamReader;
use warp::Buf;
use warp::http::HeaderMap;
use warp::http::header;

/// The body of a request: read, it is what the client means, and drained, what the client sends.
pub(crate) enum Body {
    Plain(SentBody),
    Compressed(Box<GzipDecoder<SentBody>>),
}

type SentBody = Pin<Box<dyn AsyncBufRead + Send + Sync>>;

impl Body {
    /// Makes a body of bytes that are not compressed.
    #[cfg(test)]
    pub(crate) fn plain(bytes: impl AsyncRead + Send + Sync + 'static) -> Self {
        Self::Plain(Box::pin(tokio::io::BufReader::new(bytes)))
    }

    /// Whether few bytes of the client may be many when they are read.
    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }

    /// Reads and discards what the client still sends, which is not decompressed: a client that is still sending does
    /// not read an answer (docs/facts/git-http.md 3.2).
    pub(crate) async fn drain(&mut self, limits: BodyLimits) {
        let sent = match self {
            Self::Plain(sent) => sent,
            Self::Compressed(decoder) => decoder.get_mut(),
        };
        if let Err(error) = to_the_end(sent, limits).await {
            tracing::debug!(%error, "the rest of a request was not read");
        }
    }
}

impl AsyncRead for Body {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(sent) => sent.as_mut().poll_read(context, buffer),
            Self::Compressed(decoder) => Pin::new(decoder).poll_read(context, buffer),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported Content-Encoding {encoding:?}: send the body as it is, or gzip")]
pub(crate) struct EncodingError {
    pub(crate) encoding: String,
}

/// Makes the body readable, and decompresses it. The output has no bound of its own: read it with a [`BodyReader`].
pub(crate) fn open(
    headers: &HeaderMap,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + Sync + 'static,
) -> Result<Body, EncodingError> {
    let chunks = stream
        .map_ok(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))
        .map_err(io::Error::other);
    let plain = StreamReader::new(Box::pin(chunks));
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .map_or(&b"identity"[..], |value| value.as_bytes());
    match encoding {
        b"identity" | b"" => Ok(Body::Plain(Box::pin(plain))),
        // git compresses requests for a fetch from 1 KiB on, and JGit small pushes too (docs/facts/git-http.md 3.3).
        b"gzip" | b"x-gzip" => Ok(Body::Compressed(Box::new(GzipDecoder::new(Box::pin(plain))))),
        other => Err(EncodingError {
            encoding: String::from_utf8_lossy(other).into_owned(),
        }),
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Most bytes, after decompression.
    pub(crate) bytes_max: u64,
    /// Longest wait for the next byte.
    pub(crate) stall_max: Duration,
    /// Longest time in all, or a byte now and then would keep the connection open without end.
    pub(crate) duration_max: Duration,
}

/// Why a body was not read to its end. The text is for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the request has more than {bytes_max} bytes")]
    TooLong { bytes_max: u64 },
    #[error("nothing was received for {} s", max.as_secs())]
    Stalled { max: Duration },
    #[error("the request took more than {} s", max.as_secs())]
    Deadline { max: Duration },
    /// The connection ended before the body did, or the body cannot be decompressed.
    #[error("the request broke off")]
    Broken(#[source] io::Error),
}

/// Reads a body in chunks, within limits. Several readers may follow each other on one body, each with its own limits.
pub(crate) struct BodyReader<R> {
    body: R,
    limits: BodyLimits,
    deadline: Instant,
    received_bytes: u64,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> BodyReader<R> {
    /// Reads `body` within `limits`, whose time begins now.
    pub(crate) fn new(body: R, limits: BodyLimits) -> Self {
        Self {
            body,
            limits,
            deadline: Instant::now() + limits.duration_max,
            received_bytes: 0,
            buffer: BytesMut::new(),
        }
    }

    /// Returns the next chunk; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let BodyLimits {
            bytes_max,
            stall_max,
            duration_max,
        } = self.limits;
        if self.buffer.capacity() < CHUNK_BYTES / 4 {
            self.buffer.reserve(CHUNK_BYTES);
        }
        let stalls_at = Instant::now() + stall_max;
        let read = timeout_at(stalls_at.min(self.deadline), self.body.read_buf(&mut self.buffer));
        let len = match read.await {
            Ok(read) => read.map_err(BodyError::Broken)?,
            Err(_) if stalls_at < self.deadline => return Err(BodyError::Stalled { max: stall_max }),
            Err(_) => return Err(BodyError::Deadline { max: duration_max }),
        };
        self.received_bytes += len as u64;
        if self.received_bytes > bytes_max {
            return Err(BodyError::TooLong { bytes_max });
        }
        Ok((len > 0).then(|| self.buffer.split().freeze()))
    }
}

async fn to_the_end(body: &mut (impl AsyncRead + Unpin), limits: BodyLimits) -> Result<(), BodyError> {
    let mut rest = BodyReader::new(body, limits);
    while rest.next().await?.is_some() {}
    Ok(())
}

/// Read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Whether a body follows the head of a request (RFC 9112, 6).
pub(crate) fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0")
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::GzipEncoder;
    use futures_util::stream;
    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;
    use warp::http::HeaderValue;

    use super::*;

    async fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(bytes).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    fn opened(encoding: &'static str, bytes: &[u8]) -> Result<Body, EncodingError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        let chunks: Vec<_> = bytes.chunks(7).map(|chunk| Ok(chunk.to_vec().into())).collect();
        open(&headers, stream::iter(chunks).map_ok(|chunk: Bytes| chunk))
    }

    async fn read(
        encoding: &'static str,
        bytes: Vec<u8>,
        bytes_max: u64,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let body = opened(encoding, &bytes)?;
        let limits = BodyLimits {
            bytes_max,
            stall_max: Duration::from_secs(10),
            duration_max: Duration::from_secs(10),
        };
        let mut reader = BodyReader::new(body, limits);
        let mut read = Vec::new();
        while let Some(chunk) = reader.next().await? {
            read.extend(chunk);
        }
        Ok(read)
    }

    #[tokio::test]
    async fn a_compressed_body_is_decompressed() {
        assert_eq!(read("gzip", gzipped(b"0000").await, 100).await.unwrap(), b"0000");
        assert_eq!(read("identity", b"0000".to_vec(), 100).await.unwrap(), b"0000");
    }

    #[tokio::test]
    async fn a_decompression_bomb_ends_at_the_bound() {
        let bomb = gzipped(&vec![0; 1_000_000]).await;

        let error = read("gzip", bomb, 1000).await.unwrap_err();

        assert_eq!(error.to_string(), "the request has more than 1000 bytes");
    }

    /// 65 KB of a refused push were 64 MiB to read.
    #[tokio::test]
    async fn what_is_drained_is_not_decompressed() {
        let bomb = gzipped(&vec![0; 1_000_000]).await;
        let limits = BodyLimits {
            bytes_max: bomb.len() as u64,
            stall_max: Duration::from_secs(10),
            duration_max: Duration::from_secs(10),
        };
        let mut body = opened("gzip", &bomb).unwrap();
        let mut start = [0; 100];
        body.read_exact(&mut start).await.unwrap();

        body.drain(limits).await;

        let Body::Compressed(mut decoder) = body else {
            panic!("it is compressed")
        };
        assert_eq!(
            decoder.get_mut().read(&mut start).await.unwrap(),
            0,
            "all of it was read"
        );
    }

    #[tokio::test]
    async fn an_unknown_encoding_is_refused() {
        assert!(
            read("br", Vec::new(), 100)
                .await
                .unwrap_err()
                .to_string()
                .contains("br")
        );
    }

    #[tokio::test]
    async fn reading_ends_with_the_body_or_at_a_limit() {
        // A refused push of which nothing more came kept its connection for ever.
        let limits = BodyLimits {
            bytes_max: 100,
            stall_max: Duration::from_millis(50),
            duration_max: Duration::from_millis(200),
        };
        let never = stream::pending::<io::Result<Bytes>>();
        let broken = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset));
        let byte = || io::Result::Ok(Bytes::from_static(b"x"));
        let drip = stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((byte(), ()))
        });
        let bodies: [(&str, SentBody, &str); 5] = [
            ("its end", Box::pin(&b"0000"[..]), "Ok"),
            ("broken", Box::pin(StreamReader::new(stream::iter([broken]))), "Broken"),
            ("too long", Box::pin(&[0; 101][..]), "TooLong"),
            ("stalled", Box::pin(StreamReader::new(Box::pin(never))), "Stalled"),
            (
                "a byte now and then",
                Box::pin(StreamReader::new(Box::pin(drip))),
                "Deadline",
            ),
        ];
        for (story, mut body, expected) in bodies {
            let read = timeout(Duration::from_secs(10), to_the_end(&mut body, limits))
                .await
                .unwrap();

            let ended = read.map_or_else(|error| format!("{error:?}"), |()| "Ok".to_owned());
            assert!(ended.starts_with(expected), "{story}: {ended}");
        }
    }
}
