//! One unprivileged client: some keys, and one address that is not the honest user's. What is refused him is counted
//! and ends nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use nostr::event::Event;
use nostr::key::Keys;
use shared::nip34;
use shared::nip34::Coordinate;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use wire::path::repository_path;

use crate::clients::nostr::sign;
use crate::clients::nostr::tag;

/// Somebody who attacks a server. Clones are the same client.
#[derive(Debug, Clone)]
pub(super) struct Attacker {
    pub(super) server: SocketAddr,
    pub(super) address: Ipv4Addr,
    /// More header fields of each of his requests, such as a proxy adds them.
    pub(super) fields: &'static str,
    pub(super) victim: Victim,
    /// A folder of his own.
    pub(super) folder: PathBuf,
    pub(super) effort: Effort,
}

/// What everybody can know of the honest user's repository.
#[derive(Debug, Clone)]
pub(super) struct Victim {
    pub(super) coordinate: Coordinate,
    /// `/<npub>/<identifier>.git`
    pub(super) path: String,
    /// The commit on its main branch, when the attack was prepared.
    pub(super) tip: String,
}

impl Victim {
    /// Returns the name that he shares.
    pub(super) fn identifier(&self) -> String {
        self.coordinate.identifier.to_string()
    }
}

/// What an attack did, and how it was answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Effort(Arc<Mutex<EffortBook>>);

#[derive(Debug, Default)]
struct EffortBook {
    answers: BTreeMap<String, u64>,
    sent_bytes: u64,
    sockets: u64,
}

impl Effort {
    pub(super) fn answered(&self, answer: &str) {
        // Enough to tell answers from each other.
        let kind: String = answer.chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
        *self.book().answers.entry(kind).or_default() += 1;
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.book().sent_bytes += bytes as u64;
    }

    fn opened(&self) {
        self.book().sockets += 1;
    }

    /// Returns the bytes that were sent, and the sockets that were opened.
    pub(super) fn spent(&self) -> (u64, u64) {
        let book = self.book();
        (book.sent_bytes, book.sockets)
    }

    /// Returns the answers, the most frequent first.
    pub(super) fn answers(&self) -> Vec<(String, u64)> {
        let mut answers: Vec<_> = self.book().answers.clone().into_iter().collect();
        answers.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        answers
    }

    fn book(&self) -> MutexGuard<'_, EffortBook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attacker {
    /// Connects from his address; `None`: he is not let in.
    pub(super) async fn connect(&self) -> Option<TcpStream> {
        self.connect_reading(None).await
    }

    /// Connects, with so much room for what he does not read.
    ///
    /// # Panics
    /// The system has no socket for him.
    pub(super) async fn connect_reading(&self, room: Option<u32>) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.address, 0).into()).unwrap();
        if let Some(room) = room {
            socket.set_recv_buffer_size(room).unwrap();
        }
        let stream = tokio::time::timeout(PATIENCE, socket.connect(self.server))
            .await
            .ok()?
            .ok()?;
        self.effort.opened();
        Some(stream)
    }

    /// Sends a request, and returns the socket before the answer is read.
    pub(super) async fn begin(&self, room: Option<u32>, request: &Request) -> Option<TcpStream> {
        let mut stream = self.connect_reading(room).await?;
        self.write(&mut stream, request.head(self).as_bytes()).await?;
        self.write(&mut stream, &request.body).await?;
        Some(stream)
    }

    /// Sends a request and reads the answer, which is counted by its status.
    pub(super) async fn request(&self, request: &Request) -> Option<(u16, Vec<u8>)> {
        let answer = self.ask(request).await;
        match &answer {
            Some((status, _)) => self.effort.answered(status_text(*status)),
            None => self.effort.answered("no answer"),
        }
        answer
    }

    async fn ask(&self, request: &Request) -> Option<(u16, Vec<u8>)> {
        let mut stream = self.begin(None, request).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.ok()?.ok()?;
        let status = String::from_utf8_lossy(answer.get(9..12)?).parse().ok()?;
        Some((status, answer))
    }

    /// Sends bytes as fast as they are taken.
    pub(super) async fn write(&self, stream: &mut TcpStream, bytes: &[u8]) -> Option<()> {
        let written = tokio::time::timeout(PATIENCE, stream.write_all(bytes)).await;
        // Whoever is refused before the end of his body finds the connection closed.
        if let Ok(Ok(())) = written {
            self.effort.sent(bytes.len());
        }
        written.ok()?.ok()
    }

    /// Pushes, as git does by HTTP, and returns the whole answer.
    pub(super) async fn push(&self, path: &str, commands: &[Command], pack: &[u8]) -> Option<String> {
        let request = Request::service(path, "git-receive-pack", "", push_body(commands, pack));
        let (_, answer) = self.request(&request).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let refusal = text.find("ng refs/").or_else(|| text.find("unpack "));
        self.effort
            .answered(text[refusal.unwrap_or_default()..].lines().next().unwrap_or_default());
        Some(text)
    }

    /// Announces a repository on this server.
    pub(super) fn announcement(&self, owner: &Keys, identifier: &str, created_at: u64, more: &[Vec<String>]) -> Event {
        let server = self.server;
        let coordinate = coordinate(owner, identifier);
        let mut tags = vec![
            tag(&["d", identifier]),
            tag(&["clone", &format!("http://{server}{}", repository_path(&coordinate))]),
            tag(&["relays", &format!("ws://{server}")]),
        ];
        tags.extend_from_slice(more);
        sign(owner, nip34::ANNOUNCEMENT, created_at, &tags)
    }
}

/// The coordinate of somebody's repository.
///
/// # Panics
/// The identifier is none.
pub(super) fn coordinate(owner: &Keys, identifier: &str) -> Coordinate {
    Coordinate {
        owner: owner.public_key(),
        identifier: identifier.parse().unwrap(),
    }
}

/// A request that he makes.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Method and path.
    pub(super) line: String,
    /// Header fields, each with its end of line.
    pub(super) fields: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn get(path: &str) -> Self {
        Self {
            line: format!("GET {path}"),
            fields: String::new(),
            body: Vec::new(),
        }
    }

    /// A request for one of git's services.
    pub(super) fn service(path: &str, service: &str, fields: &str, body: Vec<u8>) -> Self {
        Self {
            line: format!("POST {path}/{service}"),
            fields: format!(
                "content-type: application/x-{service}-request\r\ncontent-length: {}\r\n{fields}",
                body.len()
            ),
            body,
        }
    }

    /// What comes before the body.
    pub(super) fn head(&self, attacker: &Attacker) -> String {
        let Self { line, fields, .. } = self;
        let (server, more) = (attacker.server, attacker.fields);
        format!("{line} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n{more}{fields}\r\n")
    }
}

/// What a push asks for one ref.
#[derive(Debug, Clone)]
pub(super) struct Command {
    old: String,
    new: String,
    name: String,
}

impl Command {
    /// Moves a ref from one object to another; from `None`: it is new.
    pub(super) fn update(old: Option<&str>, new: &str, name: &str) -> Self {
        Self {
            old: old.map_or_else(|| "0".repeat(40), str::to_owned),
            new: new.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Creates the ref of a PR.
    pub(super) fn pull_request(event_id: &str, commit: &str) -> Self {
        Self::update(None, commit, &format!("refs/nostr/{event_id}"))
    }
}

/// The body of a push.
pub(super) fn push_body(commands: &[Command], pack: &[u8]) -> Vec<u8> {
    let mut body = String::new();
    for (number, Command { old, new, name }) in commands.iter().enumerate() {
        let capabilities = if number == 0 { "\0 report-status" } else { "" };
        body.push_str(&pkt_line(&format!("{old} {new} {name}{capabilities}")));
    }
    body.push_str("0000");
    [body.as_bytes(), pack].concat()
}

/// A line as git writes it.
pub(super) fn pkt_line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// Digits are left out of answers, since they differ where nothing else does.
fn status_text(status: u16) -> &'static str {
    match status {
        200 => "HTTP ok",
        204 => "HTTP no content",
        400 => "HTTP bad request",
        403 => "HTTP forbidden",
        404 => "HTTP not found",
        405 => "HTTP method not allowed",
        408 => "HTTP timeout",
        413 => "HTTP too large",
        415 => "HTTP unsupported media type",
        429 => "HTTP too many requests",
        431 => "HTTP head too large",
        500 => "HTTP server error",
        503 => "HTTP unavailable",
        _ => "HTTP another status",
    }
}

/// His address; the honest user comes from 127.0.0.1.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A second one: a host with IPv4 and IPv6 has two.
pub(super) const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// For each answer.
const PATIENCE: Duration = Duration::from_secs(30);
