//! A client that hangs up at any byte of a push: nothing is changed or all of it is done, and nothing is left of it.

use std::time::Duration;
use std::time::Instant;

use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::measure::took;
use tests::load::noise::noise;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::in_quarantine;

in_both_worlds!(a_push_that_is_cut_off_at_any_byte_changes_nothing_or_is_done);

/// The request of a push as git sends it.
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// Has git push through a listener that passes on what git asks before and keeps the push itself.
    async fn record(world: &World, served: &Served) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let url = served.url.replace(&world.authority(), &authority);
        let git = served.git.clone();
        let push = tokio::spawn(async move { git.push(&url, &["main"]).await });
        let recorded = loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (head, mut body) = read_head(&mut client).await;
            if head.starts_with("GET") {
                let mut server = TcpStream::connect(world.authority()).await.unwrap();
                let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
                server.write_all(head.as_bytes()).await.unwrap();
                tokio::io::copy(&mut server, &mut client).await.unwrap();
                continue;
            }
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.unwrap().parse().unwrap();
            while body.len() < length {
                assert_ne!(client.read_buf(&mut body).await.unwrap(), 0);
            }
            break Self { head, body };
        };
        push.await.unwrap().expect_refused();
        recorded
    }

    /// The request as it was sent.
    fn whole(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }

    /// The request as git sends a large push.
    fn chunked(&self) -> Vec<u8> {
        let length = format!("Content-Length: {}", self.body.len());
        let mut bytes = self.head.replace(&length, "Transfer-Encoding: chunked").into_bytes();
        let (commands, pack) = self.body.split_at(position(&self.body, b"PACK"));
        for chunk in commands.chunks(CHUNK_BYTES).chain(pack.chunks(CHUNK_BYTES)) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

async fn read_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).unwrap(), body);
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
}

fn position(bytes: &[u8], needle: &[u8]) -> usize {
    let found = bytes.windows(needle.len()).position(|window| window == needle);
    found.expect("it is in there")
}

/// Where to cut: every byte of the command list and of the pack's head and tail, and some in between.
fn cuts(request: &[u8]) -> Vec<usize> {
    let (commands, pack) = (position(request, b"\r\n\r\n") + 4, position(request, b"PACK"));
    let is_cut = |&at: &usize| match at {
        at if at < commands => at % 31 == 0,
        at if at < pack + EDGE_BYTES || at + EDGE_BYTES > request.len() => true,
        at => at % 173 == 0,
    };
    (1..request.len()).filter(is_cut).collect()
}

/// How a client goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// It is gone.
    Vanishes,
    /// It says that it has said everything, and listens on.
    SaysSo,
}

async fn send(world: &World, bytes: &[u8], way: Way) {
    let mut stream = TcpStream::connect(world.authority()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    if let Way::SaysSo = way {
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        // How it ends is the server's choice.
        drop(end.expect("the server ends the connection"));
    }
}

async fn a_push_that_is_cut_off_at_any_byte_changes_nothing_or_is_done(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit_file("noise", &noise(1, 4000)).await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    let request = Request::record(&world, &served).await;
    let before = served.refs().await;

    let began = Instant::now();
    let mut count = 0;
    for bytes in [request.whole(), request.chunked()] {
        for at in cuts(&bytes) {
            let way = if at % 2 == 0 { Way::Vanishes } else { Way::SaysSo };
            send(&world, &bytes[..at], way).await;
            count += 1;
            if at % 16 == 0 {
                assert_eq!(served.refs().await, before, "cut at {at} of {}, {way:?}", bytes.len());
            }
        }
        assert_eq!(served.refs().await, before);
    }
    took(&format!("{count} pushes that are cut off"), began);
    assert!(count > 300, "only {count} cuts");
    eventually("nothing is left in the quarantine", async || in_quarantine(&world) == 0).await;
    took("the same, until nothing is left", began);
    assert_eq!(served.refs().await, before);
    assert!(!nostr.serves(&state).await);

    // All of it, and gone before the answer.
    send(&world, &request.whole(), Way::Vanishes).await;
    eventually("nothing is left in the quarantine", async || in_quarantine(&world) == 0).await;
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&state).await);
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second)]);
}

const CHUNK_BYTES: usize = 61;
const EDGE_BYTES: usize = 40;
