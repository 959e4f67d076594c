//! Request bodies as byte streams: decompressed if need be, bounded, never collected.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use futures_util::Stream;
use futures_util::TryStreamExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio_util::io::StreamReader;
use warp::Buf;
use warp::http::HeaderMap;
use warp::http::header;

/// A request body.
pub type Body = Pin<Box<dyn AsyncRead + Send + Sync>>;

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported Content-Encoding {encoding:?}: send the body as it is, or gzip")]
pub struct EncodingError {
    /// The encoding asked for.
    pub encoding: String,
}

/// Makes the body readable, at most `bytes_max` of it after decompression: reading on then fails.
///
/// # Errors
/// The body has an encoding that no git client uses.
pub fn open(
    headers: &HeaderMap,
    stream: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + Sync + 'static,
    bytes_max: u64,
) -> Result<Body, EncodingError> {
    let chunks = stream
        .map_ok(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))
        .map_err(io::Error::other);
    let plain = StreamReader::new(Box::pin(chunks));
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .map_or(&b"identity"[..], |value| value.as_bytes());
    match encoding {
        b"identity" | b"" => Ok(Box::pin(Bounded::new(plain, bytes_max))),
        // git compresses requests for a fetch from 1 KiB on.
        b"gzip" | b"x-gzip" => Ok(Box::pin(Bounded::new(GzipDecoder::new(plain), bytes_max))),
        other => Err(EncodingError {
            encoding: String::from_utf8_lossy(other).into_owned(),
        }),
    }
}

/// Reads and forgets what is left of a body, up to `bytes_max`: a client that is still sending does not read an
/// answer (facts/git-http 3.2, "Drain first"). Returns whether its end was reached.
pub async fn drain(body: &mut (impl AsyncRead + Unpin), bytes_max: u64) -> bool {
    let mut rest = body.take(bytes_max);
    let mut sink = tokio::io::sink();
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, tokio::io::copy(&mut rest, &mut sink)).await;
    drained.is_ok_and(|drained| drained.is_ok()) && rest.limit() > 0
}

/// For what is left of a body that nobody wants.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Fails once more than so many bytes were read: a decompression bomb ends here.
struct Bounded<R> {
    inner: Pin<Box<R>>,
    bytes_left: u64,
}

impl<R> Bounded<R> {
    fn new(inner: R, bytes_max: u64) -> Self {
        Self {
            inner: Box::pin(inner),
            bytes_left: bytes_max,
        }
    }
}

impl<R: AsyncRead> AsyncRead for Bounded<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.inner.as_mut().poll_read(context, buffer);
        let read = (buffer.filled().len() - before) as u64;
        match self.bytes_left.checked_sub(read) {
            Some(left) => {
                self.bytes_left = left;
                polled
            }
            None => {
                buffer.set_filled(before);
                let text = "the request is larger than this server takes";
                std::task::Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, text)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::GzipEncoder;
    use futures_util::stream;
    use tokio::io::AsyncWriteExt;
    use warp::http::HeaderValue;

    use super::*;

    async fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(bytes).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    async fn read(encoding: &'static str, bytes: Vec<u8>, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        let chunks: Vec<_> = bytes.chunks(7).map(|chunk| Ok(chunk.to_vec().into())).collect();
        let stream = stream::iter(chunks).map_ok(|chunk: bytes::Bytes| chunk);
        let mut body = open(&headers, stream, bytes_max).map_err(io::Error::other)?;
        let mut read = Vec::new();
        body.read_to_end(&mut read).await?;
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

        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
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
}
