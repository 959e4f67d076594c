//! Request bodies as byte streams: decompressed if need be, bounded, never collected.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use futures_util::Stream;
use futures_util::TryStreamExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_util::io::StreamReader;
use warp::Buf;
use warp::http::HeaderMap;
use warp::http::header;

/// A request body.
pub(crate) type Body = Pin<Box<dyn AsyncRead + Send + Sync>>;

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported Content-Encoding {encoding:?}: send the body as it is, or gzip")]
pub(crate) struct EncodingError {
    /// The encoding asked for.
    pub(crate) encoding: String,
}

/// Makes the body readable, at most `bytes_max` of it after decompression: reading on then fails.
///
/// # Errors
/// The body has an encoding that no git client uses.
pub(crate) fn open(
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

/// How much of a body is read and forgotten, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainLimits {
    /// Bytes read at most.
    pub(crate) bytes_max: u64,
    /// Without a byte.
    pub(crate) stall_max: Duration,
    /// In all, or a byte now and then would keep the connection for ever.
    pub(crate) duration_max: Duration,
}

/// Reads and forgets what is left of a body: a client that is still sending does not read an answer (facts/git-http
/// 3.2, "Drain first"). Returns whether its end was reached.
pub(crate) async fn drain(body: &mut (impl AsyncRead + Unpin), limits: DrainLimits) -> bool {
    let mut rest = body.take(limits.bytes_max);
    let mut chunk = vec![0; DRAIN_CHUNK_BYTES];
    let to_the_end = async {
        loop {
            match timeout(limits.stall_max, rest.read(&mut chunk)).await {
                Ok(Ok(0)) => return rest.limit() > 0,
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    };
    timeout(limits.duration_max, to_the_end).await.unwrap_or(false)
}

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

/// Read at once while a body is drained.
const DRAIN_CHUNK_BYTES: usize = 16 * 1024;

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

    #[tokio::test]
    async fn draining_ends_with_the_body_or_at_a_bound() {
        // A refused push of which nothing more came kept its connection for ever.
        let limits = DrainLimits {
            bytes_max: 100,
            stall_max: Duration::from_millis(50),
            duration_max: Duration::from_millis(200),
        };
        let never = stream::pending::<io::Result<bytes::Bytes>>();
        let byte = || io::Result::Ok(bytes::Bytes::from_static(b"x"));
        let drip = stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((byte(), ()))
        });
        let bodies: [(&str, Body, bool); 4] = [
            ("its end", Box::pin(&b"0000"[..]), true),
            ("too long", Box::pin(&[0; 101][..]), false),
            ("stalled", Box::pin(StreamReader::new(Box::pin(never))), false),
            (
                "a byte now and then",
                Box::pin(StreamReader::new(Box::pin(drip))),
                false,
            ),
        ];
        for (story, mut body, ended) in bodies {
            let drained = timeout(Duration::from_secs(10), drain(&mut body, limits)).await;

            assert_eq!(drained, Ok(ended), "{story}");
        }
    }
}
