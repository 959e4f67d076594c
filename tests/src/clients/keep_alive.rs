//! An HTTP client that keeps its connection as long as the server does, and never tries anything twice.

use std::io;
use std::time::Duration;

use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpStream;

/// The client of one server.
pub struct KeepAlive {
    authority: String,
    connection: Option<BufReader<TcpStream>>,
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
    /// The connection fails or ends, or nothing comes for a minute.
    pub async fn get(&mut self, path: &str) -> io::Result<u16> {
        let exchanged = tokio::time::timeout(Duration::from_secs(60), self.exchange(path)).await;
        exchanged.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn exchange(&mut self, path: &str) -> io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(&self.authority).await?),
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.authority);
        connection.write_all(request.as_bytes()).await?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, head.clone());
        let length = header("content-length:")
            .and_then(|length| length.parse().ok())
            .ok_or_else(unreadable)?;
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await?;
        if header("connection:") != Some("close") {
            self.connection = Some(connection);
        }
        head.split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(unreadable)
    }
}
