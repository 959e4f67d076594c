//! An HTTP client that sends exactly the head that it is given, and tries nothing twice: tests send heads that no
//! library would write, and look at the bytes of the answers.

use std::io;
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
    /// Reads the status line.
    fn of(bytes: Vec<u8>) -> io::Result<Self> {
        let line = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).into_owned();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let no_http = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP: {line:?}"));
        Ok(Self {
            status: status.ok_or_else(no_http)?,
            bytes,
        })
    }

    /// Returns everything up to the body, in lower case.
    pub fn head(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.body_start()]).to_lowercase()
    }

    /// Returns what follows the head, as it was transferred.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body_start()..]
    }

    /// Returns the whole answer as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn body_start(&self) -> usize {
        head_end(&self.bytes).unwrap_or(self.bytes.len())
    }

    fn header(&self, name: &str) -> Option<String> {
        let head = self.head();
        let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned())
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
    send(&mut stream, authority, &format!("{head}connection: close\r\n"), body)
        .await
        .unwrap();
    let mut first = [0];
    in_time(stream.peek(&mut first)).await.expect("no answer");
    stream
}

/// Reads an answer up to the end of the connection.
///
/// # Panics
/// There is none.
pub async fn rest(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    in_time(stream.read_to_end(&mut bytes)).await.expect("no answer");
    Answer::of(bytes).unwrap()
}

/// Asks for another protocol, and returns the answer up to its body.
///
/// # Panics
/// The server does not answer.
pub async fn upgrade(authority: &str, head: &str) -> Answer {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    send(&mut stream, authority, head, b"").await.unwrap();
    Answer::of(in_time(read_head(&mut stream)).await.unwrap()).unwrap()
}

/// A client of one server that keeps its connection as long as the server does.
pub struct KeepAlive {
    authority: String,
    connection: Option<TcpStream>,
}

impl KeepAlive {
    /// A client of the server at `host:port`.
    pub fn new(authority: String) -> Self {
        Self {
            authority,
            connection: None,
        }
    }

    /// Asks for a path and returns the status of the answer, once it is read whole.
    ///
    /// # Errors
    /// The connection fails or ends, or nothing comes in time.
    pub async fn get(&mut self, path: &str) -> io::Result<u16> {
        in_time(self.exchange(path)).await
    }

    async fn exchange(&mut self, path: &str) -> io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(&self.authority).await?,
        };
        send(
            &mut connection,
            &self.authority,
            &format!("GET {path} HTTP/1.1\r\n"),
            b"",
        )
        .await?;
        let mut answer = Answer::of(read_head(&mut connection).await?)?;
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let length: usize = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer.head()))?;
        let end = answer.body_start() + length;
        while answer.bytes.len() < end {
            read_more(&mut connection, &mut answer.bytes).await?;
        }
        if answer.header("connection").as_deref() != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer.status)
    }
}

/// Sends a head, with `Host` and the empty line at its end, and a body.
async fn send(stream: &mut TcpStream, authority: &str, head: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("{head}host: {authority}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

/// Reads up to the end of a head, and what came with it.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while head_end(&bytes).is_none() {
        read_more(stream, &mut bytes).await?;
    }
    Ok(bytes)
}

async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

async fn in_time<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let exchanged = tokio::time::timeout(PATIENCE, exchange).await;
    exchanged.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// For one answer. A server may take a minute to give a silent client up.
const PATIENCE: Duration = Duration::from_secs(90);
