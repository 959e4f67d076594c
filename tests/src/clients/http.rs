//! An HTTP client that sends exactly what it is told to.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Status line, headers and body.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// Returns everything up to the body, in lower case.
    pub fn head(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.body_start()]).to_lowercase()
    }

    /// Returns what follows the head, as it was transferred.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_start()..]
    }

    fn body_start(&self) -> usize {
        let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n");
        end.map_or(self.bytes.len(), |end| end + 4)
    }
}

/// Sends a request on a connection of its own. `head` comes without `Host` and the empty line at its end.
///
/// # Panics
/// The server does not answer.
pub async fn request(authority: &str, head: &str, body: &[u8]) -> Answer {
    rest(&mut begin(authority, head, body).await).await
}

/// Sends a request as [`request`] does, and waits until the answer begins.
///
/// # Panics
/// The server does not answer.
pub async fn begin(authority: &str, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let head = format!("{head}host: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut first = [0];
    let begins = tokio::time::timeout(Duration::from_secs(90), stream.peek(&mut first));
    begins.await.expect("no answer").unwrap();
    stream
}

/// Reads an answer up to the end of the connection.
///
/// # Panics
/// There is none.
pub async fn rest(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(90), stream.read_to_end(&mut bytes));
    read.await.expect("no answer").unwrap();
    let line = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).into_owned();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no HTTP: {line:?}")),
        bytes,
    }
}
