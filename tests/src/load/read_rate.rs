//! How many requests a second readers are answered, and how long one answer takes, on kept connections, beside warp
//! that answers the same number of bytes without looking at anything.

use std::io;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wire::path::repository_path;

use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::process::harness_program;
use crate::harness::repository::Repository;
use crate::harness::wait::eventually;
use crate::harness::wait::is_listened_at;
use crate::harness::world::World;
use crate::load::measure::median;

/// What a reader asks for.
#[derive(Debug, Clone, Copy)]
pub enum ReadRequest {
    /// The refs, by version 0 of git's protocol.
    InfoRefs,
    /// What the server can do, by version 2.
    InfoRefsV2,
    /// The refs, as a clone asks for them by version 2.
    LsRefs,
    /// All refs, by version 2.
    LsRefsAll,
    /// The page of the repository.
    Page,
}

impl ReadRequest {
    /// Returns it as it is sent to `world` about `repository`.
    pub fn of(self, world: &World, repository: &Repository) -> SentRequest {
        let path = repository_path(&repository.coordinate());
        let (head, body) = match self {
            Self::InfoRefs => (format!("GET {path}/info/refs?service=git-upload-pack HTTP/1.1\r\n"), ""),
            Self::InfoRefsV2 => (
                format!("GET {path}/info/refs?service=git-upload-pack HTTP/1.1\r\n{VERSION_2}"),
                "",
            ),
            Self::LsRefs => (post(&path), LS_REFS),
            Self::LsRefsAll => (post(&path), LS_REFS_ALL),
            Self::Page => (format!("GET {path} HTTP/1.1\r\n"), ""),
        };
        SentRequest::new(world.authority(), &head, body)
    }
}

fn post(path: &str) -> String {
    let content_type = "content-type: application/x-git-upload-pack-request\r\n";
    format!("POST {path}/git-upload-pack HTTP/1.1\r\n{content_type}{VERSION_2}")
}

/// warp, which answers with as many bytes as it is asked for.
pub struct ConstantServer {
    authority: String,
    _process: Process,
}

impl ConstantServer {
    /// Starts it.
    pub async fn start(folder: &Path) -> Self {
        let port = free_port();
        let log = folder.join("constant.log");
        let process = Process::start(&harness_program("constant-server"), &[port.to_string()], &log);
        let authority = format!("127.0.0.1:{port}");
        eventually("warp answers", async || is_listened_at(&authority).await).await;
        Self {
            authority,
            _process: process,
        }
    }

    /// Returns a request of the same kind that is answered with as many bytes.
    ///
    /// # Panics
    /// The other request is not answered.
    pub async fn like(&self, other: &SentRequest) -> SentRequest {
        let bytes = other.body_bytes().await;
        let method = if other.body.is_empty() { "GET" } else { "POST" };
        SentRequest::new(
            self.authority.clone(),
            &format!("{method} /{bytes} HTTP/1.1\r\n"),
            other.body,
        )
    }
}

/// A request to a server, as it is sent.
#[derive(Debug, Clone)]
pub struct SentRequest {
    authority: String,
    bytes: Vec<u8>,
    body: &'static str,
}

impl SentRequest {
    fn new(authority: String, head: &str, body: &'static str) -> Self {
        let length = body.len();
        let bytes = format!("{head}host: {authority}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes();
        Self { authority, bytes, body }
    }

    /// Returns how many bytes its answer has.
    ///
    /// # Panics
    /// It is not answered.
    pub async fn body_bytes(&self) -> usize {
        let mut connection = KeptConnection::open(&self.authority).await;
        connection.first(&self.bytes).await.unwrap().body
    }

    /// Returns how many answers a second come to each of two requests on eight connections, in turns for so long.
    ///
    /// # Panics
    /// It is not answered.
    pub async fn rates(both: [&Self; 2], time: Duration) -> [f64; 2] {
        let mut rates = [0.0; 2];
        for _ in 0..TURNS {
            for (request, rate) in both.into_iter().zip(&mut rates) {
                *rate += request.rate(time / (2 * TURNS)).await / f64::from(TURNS);
            }
        }
        rates
    }

    async fn rate(&self, time: Duration) -> f64 {
        let began = Instant::now();
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let Self { authority, bytes, .. } = self.clone();
            connections.spawn(async move {
                let mut connection = KeptConnection::open(&authority).await;
                let answer = connection.first(&bytes).await.unwrap();
                let mut answers = 1_u32;
                while began.elapsed() < time {
                    connection.next(&bytes, answer.head + answer.body).await.unwrap();
                    answers += 1;
                }
                answers
            });
        }
        let answers: u32 = connections.join_all().await.into_iter().sum();
        f64::from(answers) / began.elapsed().as_secs_f64()
    }

    /// Returns how long an answer to each of two requests takes on a connection, the median of so many in turns.
    ///
    /// # Panics
    /// It is not answered.
    pub async fn answer_times(both: [&Self; 2], rounds: usize) -> [Duration; 2] {
        let mut connections = Vec::new();
        for request in both {
            let mut connection = KeptConnection::open(&request.authority).await;
            let answer = connection.first(&request.bytes).await.unwrap();
            connections.push((request, connection, answer.head + answer.body));
        }
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for ((request, connection, length), times) in connections.iter_mut().zip(&mut times) {
                let sent = Instant::now();
                connection.next(&request.bytes, *length).await.unwrap();
                times.push(sent.elapsed());
            }
        }
        times.map(|times| median(&times))
    }

    /// Returns how long the first answer takes after each of so many changes, on a connection that was there before:
    /// the median.
    ///
    /// # Panics
    /// It is not answered.
    pub async fn time_after_change(&self, rounds: usize, mut change: impl AsyncFnMut()) -> Duration {
        let mut connection = KeptConnection::open(&self.authority).await;
        connection.first(&self.bytes).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..rounds {
            change().await;
            let sent = Instant::now();
            connection.first(&self.bytes).await.unwrap();
            times.push(sent.elapsed());
        }
        median(&times)
    }
}

/// A client that costs as little as one can: it looks at the first answer, and counts the bytes of the others.
struct KeptConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The bytes of an answer.
struct AnswerLength {
    head: usize,
    body: usize,
}

impl KeptConnection {
    async fn open(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Asks for the first time, and reads of how many bytes the answer is.
    async fn first(&mut self, request: &[u8]) -> io::Result<AnswerLength> {
        self.stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(HEAD_BYTES_EXPECTED);
        let head = loop {
            self.read_more(&mut answer).await?;
            let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = match length.and_then(|length| length.parse().ok()) {
            Some(body) if text.starts_with("http/1.1 200 ") => body,
            // What is streamed has no length: the answers of one repository are alike.
            None if text.starts_with("http/1.1 200 ") => {
                while !answer.ends_with(b"0\r\n\r\n") {
                    self.read_more(&mut answer).await?;
                }
                answer.len() - head
            }
            Some(_) | None => return Err(io::Error::other(text)),
        };
        self.read(head + body - answer.len()).await?;
        Ok(AnswerLength { head, body })
    }

    /// Asks again, and reads an answer of as many bytes.
    async fn next(&mut self, request: &[u8], length: usize) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.read(length).await
    }

    async fn read_more(&mut self, answer: &mut Vec<u8>) -> io::Result<()> {
        match self.stream.read_buf(answer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn read(&mut self, length: usize) -> io::Result<()> {
        self.buffer.resize(length, 0);
        self.stream.read_exact(&mut self.buffer).await?;
        Ok(())
    }
}

/// What a clone sends first.
const LS_REFS: &str = "0014command=ls-refs\n0014agent=git/2.47.30016object-format=sha100010009peel\n000csymrefs\n\
                       000bunborn\n0013ref-prefix HEAD001aref-prefix refs/heads/0019ref-prefix refs/tags/0000";
/// What `git ls-remote` sends.
const LS_REFS_ALL: &str = "0014command=ls-refs\n0014agent=git/2.47.30016object-format=sha100010009peel\n\
                           000csymrefs\n0000";
const VERSION_2: &str = "git-protocol: version=2\r\n";
const HEAD_BYTES_EXPECTED: usize = 4096;
const CONNECTIONS: usize = 8;
const TURNS: u32 = 3;
