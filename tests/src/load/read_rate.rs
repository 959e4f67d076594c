//! How many requests a second readers are answered, on kept connections, beside warp that answers the same number of
//! bytes without looking at anything.

use std::fmt;
use std::io;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wire::path::repository_path;

use crate::clients::git::GitClient;
use crate::clients::nostr::now;
use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::process::harness_program;
use crate::harness::repository::Repository;
use crate::harness::wait::eventually;
use crate::harness::wait::is_listened_at;
use crate::harness::world::World;

/// One kind of request, and how often it was answered.
#[derive(Debug)]
pub struct ReadRate {
    /// What was asked for.
    pub name: &'static str,
    /// Bytes of one answer's body.
    pub bytes: usize,
    /// Answers a second.
    pub ours: f64,
    /// Answers a second of warp, of as many bytes.
    pub constant: f64,
}

impl ReadRate {
    /// Measures every kind for about so long, in turns with warp.
    ///
    /// # Panics
    /// Something is not answered.
    pub async fn measure(world: &World, time: Duration) -> Vec<Self> {
        let constant = free_port();
        let log = world.folder().join("constant.log");
        let _warp = Process::start(&harness_program("constant-server"), &[constant.to_string()], &log);
        let authority = format!("127.0.0.1:{constant}");
        eventually("warp answers", async || is_listened_at(&authority).await).await;
        let one = repository_path(&served(world, "one", 0).await.coordinate());
        let many = repository_path(&served(world, "many", TAGS).await.coordinate());
        let info_refs =
            |path: &str, version| format!("GET {path}/info/refs?service=git-upload-pack HTTP/1.1\r\n{version}");
        let mut rates = Vec::new();
        for (name, head, body) in [
            ("info/refs, one branch", info_refs(&one, ""), ""),
            ("info/refs, version 2", info_refs(&one, VERSION_2), ""),
            ("ls-refs, one branch", post(&one), LS_REFS),
            ("page, one branch", format!("GET {one} HTTP/1.1\r\n"), ""),
            ("info/refs, 2,000 tags", info_refs(&many, ""), ""),
            ("ls-refs, 2,000 tags", post(&many), LS_REFS),
        ] {
            let request = |authority: &str, head: &str| {
                let length = body.len();
                format!("{head}host: {authority}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
            };
            let ours = (world.authority(), request(&world.authority(), &head));
            let bytes = KeptConnection::open(&ours.0).await.first(&ours.1).await.unwrap().body;
            let method = if body.is_empty() { "GET" } else { "POST" };
            let theirs = (
                authority.clone(),
                request(&authority, &format!("{method} /{bytes} HTTP/1.1\r\n")),
            );
            let (mut of_ours, mut of_theirs) = (0.0, 0.0);
            for _ in 0..TURNS {
                of_ours += rate(&ours, time / (2 * TURNS)).await / f64::from(TURNS);
                of_theirs += rate(&theirs, time / (2 * TURNS)).await / f64::from(TURNS);
            }
            rates.push(Self {
                name,
                bytes,
                ours: of_ours,
                constant: of_theirs,
            });
        }
        rates
    }
}

impl fmt::Display for ReadRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            bytes,
            ours,
            constant,
        } = self;
        let share = ours / constant;
        write!(
            f,
            "{name}: {ours:.0}/s; warp with {bytes} bytes {constant:.0}/s; {share:.2} of it"
        )
    }
}

/// Pushes a repository with a branch and so many tags.
async fn served(world: &World, identifier: &str, tags: usize) -> Repository {
    let (repository, mut nostr) = (Repository::new(identifier), world.nostr().await);
    let git: GitClient = world.git(identifier).await;
    let commit = git.commit("one").await;
    let tags: Vec<String> = (0..tags).map(|number| format!("refs/tags/v{number}")).collect();
    for tag in &tags {
        git.run(&["update-ref", tag, &commit]).await.expect_ok();
    }
    let mut refs = vec![("refs/heads/main", commit.as_str())];
    refs.extend(tags.iter().map(|tag| (tag.as_str(), commit.as_str())));
    let events = [
        world.announcement(&repository, now(), &[]),
        repository.state(now(), &refs),
    ];
    for event in &events {
        let answer = nostr.send(event).await;
        assert!(answer.taken, "{answer:?}");
    }
    git.push(&world.url(&repository), &["main", "refs/tags/*:refs/tags/*"])
        .await
        .expect_ok();
    repository
}

fn post(path: &str) -> String {
    let content_type = "content-type: application/x-git-upload-pack-request\r\n";
    format!("POST {path}/git-upload-pack HTTP/1.1\r\n{content_type}{VERSION_2}")
}

/// Returns how many answers a second come on eight connections.
async fn rate((authority, request): &(String, Vec<u8>), time: Duration) -> f64 {
    let began = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (authority, request) = (authority.clone(), request.clone());
        connections.spawn(async move {
            let mut connection = KeptConnection::open(&authority).await;
            let answer = connection.first(&request).await.unwrap();
            let mut answers = 1_u32;
            while began.elapsed() < time {
                connection.next(&request, answer.head + answer.body).await.unwrap();
                answers += 1;
            }
            answers
        });
    }
    let answers: u32 = connections.join_all().await.into_iter().sum();
    f64::from(answers) / began.elapsed().as_secs_f64()
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
        let mut answer = Vec::new();
        let head = loop {
            self.stream.read_buf(&mut answer).await?;
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
                    self.stream.read_buf(&mut answer).await?;
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

    async fn read(&mut self, length: usize) -> io::Result<()> {
        self.buffer.resize(length, 0);
        self.stream.read_exact(&mut self.buffer).await?;
        Ok(())
    }
}

/// What a clone sends first.
const LS_REFS: &str = "0014command=ls-refs\n0014agent=git/2.47.30016object-format=sha100010009peel\n000csymrefs\n\
                       000bunborn\n0013ref-prefix HEAD001aref-prefix refs/heads/0019ref-prefix refs/tags/0000";
const VERSION_2: &str = "git-protocol: version=2\r\n";
const TAGS: usize = 2_000;
const CONNECTIONS: usize = 8;
const TURNS: u32 = 3;
