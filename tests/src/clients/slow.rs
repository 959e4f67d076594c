//! A stranger at another address of this machine, whose sockets send a push or read a clone as slowly as they can.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use nostr::key::Keys;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

/// Somebody at 127.0.0.2 who waits.
#[derive(Debug, Clone)]
pub struct Stranger {
    server: SocketAddr,
    path: String,
}

impl Stranger {
    /// Turns to the repository at this URL.
    ///
    /// # Panics
    /// It is no URL of a server on this machine.
    pub fn of(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        Self {
            server: authority.parse().unwrap(),
            path: format!("/{path}"),
        }
    }

    /// Sends the beginning of a push that anybody may make, of a PR's commit, and nothing more.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn begin_push(&self) -> TcpStream {
        let body = [&pull_request(&"1".repeat(40)), b"PACK\0\0\0\x02\0\0\0\x01".as_slice()].concat();
        // More is promised than is sent.
        self.post("git-receive-pack", "", &body, body.len() + 1000).await
    }

    /// Sends a push of a PR's commit that the repository has, whole, and reads nothing.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn push_known(&self, commit: &str) -> TcpStream {
        let body = [&pull_request(commit), EMPTY_PACK].concat();
        self.post("git-receive-pack", "", &body, body.len()).await
    }

    /// Sends as many commands as a push may have, and does not end the push.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn begin_long_push(&self) -> TcpStream {
        let name = "long/".repeat(20);
        let lines = (0..20_000).map(|number| {
            let capabilities = if number == 0 { "\0 report-status" } else { "" };
            let command = format!(
                "{} {number:040x} refs/heads/{name}{number}{capabilities}",
                "0".repeat(40)
            );
            format!("{:04x}{command}", command.len() + 4)
        });
        let body = lines.collect::<String>() + "0000";
        self.post("git-receive-pack", "", body.as_bytes(), body.len() + 1000)
            .await
    }

    /// Asks for a clone that has this commit, and reads nothing.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn begin_clone(&self, commit: &str) -> TcpStream {
        let (mut socket, rest) = self.begin_to_ask(commit).await;
        socket.write_all(&rest).await.unwrap();
        socket
    }

    /// Begins to ask for a clone that has this commit. Returns the rest of what is to be asked.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn begin_to_ask(&self, commit: &str) -> (TcpStream, Vec<u8>) {
        let lines = ["command=fetch\n", "0001", "no-progress\n"];
        let want = format!("want {commit}\n");
        let body: String = lines
            .into_iter()
            .chain([want.as_str(), "done\n"])
            .map(|line| match line {
                "0001" => line.to_owned(),
                line => format!("{:04x}{line}", line.len() + 4),
            })
            .collect();
        let rest = b"0000".to_vec();
        let length = body.len() + rest.len();
        let headers = "git-protocol: version=2\r\n";
        let socket = self.post("git-upload-pack", headers, body.as_bytes(), length).await;
        (socket, rest)
    }

    /// Asks for the refs by version 2 with these arguments, and reads nothing.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn begin_ls_refs(&self, arguments: &[&str]) -> TcpStream {
        let lines: String = arguments
            .iter()
            .map(|line| format!("{:04x}{line}", line.len() + 4))
            .collect();
        let body = format!("0013command=ls-refs0001{lines}0000");
        let headers = "git-protocol: version=2\r\n";
        self.post("git-upload-pack", headers, body.as_bytes(), body.len()).await
    }

    /// Asks for the advertisement by version 1, and reads nothing.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn begin_info_refs(&self) -> TcpStream {
        let target = "info/refs?service=git-upload-pack";
        self.send(&format!("GET {}/{target}", self.path), "git-protocol: version=1\r\n")
            .await
    }

    async fn post(&self, service: &str, headers: &str, body: &[u8], length: usize) -> TcpStream {
        let headers = format!("{headers}content-type: application/x-{service}-request\r\ncontent-length: {length}\r\n");
        let mut stream = self.send(&format!("POST {}/{service}", self.path), &headers).await;
        stream.write_all(body).await.unwrap();
        stream
    }

    async fn send(&self, line: &str, headers: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
        // The system takes next to nothing for a client that does not read.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(self.server).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n",
            self.server
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

/// The commands of a push that anybody may make, of a PR's commit.
pub fn pull_request(commit: &str) -> Vec<u8> {
    let event_id = Keys::generate().public_key().to_hex();
    let command = format!("{} {commit} refs/nostr/{event_id}\0 report-status", "0".repeat(40));
    format!("{:04x}{command}0000", command.len() + 4).into_bytes()
}

/// A pack without objects, and its hash (`gitformat-pack(5)`).
pub const EMPTY_PACK: &[u8] =
    b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

/// Waits until an answer begins, without reading it.
///
/// # Panics
/// The connection fails.
pub async fn has_begun(stream: &TcpStream) {
    assert_eq!(stream.peek(&mut [0]).await.unwrap(), 1);
}

/// Reads to the end of the connection.
pub async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // One that is cut off has no orderly end.
    drop(stream.read_to_end(&mut bytes).await);
    bytes
}
