//! Attacks by messages to the relay: requests over everything, many and long filters, subscriptions, and what no relay
//! should be sent.

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind as EventKind;
use nostr::key::Keys;
use serde_json::Value;
use serde_json::json;

use crate::harness::options::Kind;
use crate::siege::attack::Assault;
use crate::siege::attack::Attack;
use crate::siege::attack::BOTH;
use crate::siege::attack::PAUSE;
use crate::siege::attack::Route;
use crate::siege::attack::side_by_side;
use crate::siege::attacker::Attacker;
use crate::siege::own_repository::random_id;
use crate::siege::websocket::Socket;
use crate::siege::websocket::send_all;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "many-filters",
        does: "REQs with 200 filters over everything, and reads the answers, on eight connections",
        costs: "4 KB a request",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(many_filters(attacker)),
    },
    Attack {
        name: "unread-answers",
        does: "REQs over everything, and reads nothing, on 100 connections",
        costs: "100 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(unread_answers(attacker)),
    },
    Attack {
        name: "counts",
        does: "COUNT with 200 filters over everything, on eight connections",
        costs: "4 KB a request",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(counts(attacker)),
    },
    Attack {
        name: "long-filters",
        does: "REQs whose filters name 5,000 ids, on four connections",
        costs: "350 KB a request",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(long_filters(attacker)),
    },
    Attack {
        name: "many-subscriptions",
        does: "20 connections with 200 subscriptions to everything, and reads nothing",
        costs: "20 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(many_subscriptions(attacker)),
    },
    Attack {
        name: "deep-json",
        does: "messages of 9 KB and of 380 KB of `[`",
        costs: "a message",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(deep_json(attacker)),
    },
    Attack {
        name: "negentropy",
        does: "200 NEG-OPEN over everything, on each of eight connections",
        costs: "20 KB a connection",
        worlds: &[Kind::Strfry],
        route: Route::Direct,
        prepare: |attacker| Box::pin(negentropy(attacker)),
    },
    Attack {
        name: "bad-events",
        does: "events with wrong ids and signatures, which have to be verified",
        costs: "small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(bad_events(attacker)),
    },
];

/// Has 3,000 notes of 2 KB stored, so that there is something to ask for.
async fn store_notes(attacker: &Attacker) {
    let author = Keys::generate();
    let note = |number: u64| {
        let builder = EventBuilder::new(EventKind::TextNote, format!("{number}{}", "x".repeat(2000)));
        builder.finalize(&author).unwrap()
    };
    send_all(attacker, &(0..3000).map(note).collect::<Vec<Event>>()).await;
}

/// Says one message after the other, and hears what ends each, on so many connections.
fn asking(attacker: Attacker, lanes: usize, message: impl Fn(u64) -> Value + Clone + Send + Sync + 'static) -> Assault {
    Box::pin(async move {
        side_by_side(lanes, |_| {
            let (attacker, message) = (attacker.clone(), message.clone());
            async move {
                for number in 0.. {
                    if ask(&attacker, &message, number).await.is_none() {
                        attacker.effort.answered("the connection ended");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        })
        .await;
    })
}

async fn ask(attacker: &Attacker, message: &impl Fn(u64) -> Value, number: u64) -> Option<()> {
    let mut socket = Socket::open(attacker).await?;
    for turn in 0..1000 {
        socket.say(message(number * 1000 + turn).to_string()).await?;
        loop {
            let answer = socket.hear().await?;
            let name = answer[0].as_str().unwrap_or_default().to_owned();
            if name != "EVENT" {
                attacker.effort.answered(&name);
                break;
            }
        }
        socket.say(json!(["CLOSE", "all"]).to_string()).await?;
    }
    Some(())
}

fn request(name: &str, filters: Vec<Value>) -> Value {
    let mut message = vec![json!(name), json!("all")];
    message.extend(filters);
    Value::Array(message)
}

async fn many_filters(attacker: Attacker) -> Assault {
    store_notes(&attacker).await;
    asking(attacker, 8, |_| {
        request(
            "REQ",
            (0..200)
                .map(|until| json!({"until": 4_000_000_000_u64 - until}))
                .collect(),
        )
    })
}

async fn counts(attacker: Attacker) -> Assault {
    store_notes(&attacker).await;
    asking(attacker, 8, |_| {
        request(
            "COUNT",
            (0..200)
                .map(|until| json!({"until": 4_000_000_000_u64 - until}))
                .collect(),
        )
    })
}

async fn long_filters(attacker: Attacker) -> Assault {
    store_notes(&attacker).await;
    let ids: Vec<String> = (0..5000).map(|_| random_id()).collect();
    asking(attacker, 4, move |_| request("REQ", vec![json!({"ids": ids})]))
}

async fn unread_answers(attacker: Attacker) -> Assault {
    store_notes(&attacker).await;
    unread(attacker, 100, 4)
}

async fn many_subscriptions(attacker: Attacker) -> Assault {
    store_notes(&attacker).await;
    unread(attacker, 20, 200)
}

/// Opens subscriptions to everything and reads nothing.
fn unread(attacker: Attacker, sockets: usize, subscriptions: usize) -> Assault {
    Box::pin(async move {
        side_by_side(sockets, |_| {
            let attacker = attacker.clone();
            async move {
                loop {
                    if let Some(mut socket) = Socket::open_reading(&attacker, Some(4096)).await {
                        for number in 0..subscriptions {
                            if socket
                                .say(json!(["REQ", format!("s{number}"), {}]).to_string())
                                .await
                                .is_some()
                            {
                                attacker.effort.answered("asked");
                            }
                        }
                        socket.until_cut_off().await;
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
async fn deep_json(attacker: Attacker) -> Assault {
    Box::pin(async move {
        side_by_side(4, |lane| {
            let attacker = attacker.clone();
            async move {
                let depth = [9_000, 380_000, 9_000, 60_000][lane];
                loop {
                    if let Some(mut socket) = Socket::open(&attacker).await {
                        let say = socket.say("[".repeat(depth)).await;
                        let answer = socket.hear().await;
                        attacker
                            .effort
                            .answered(&format!("{say:?} {}", answer.unwrap_or_default()[0]));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

async fn negentropy(attacker: Attacker) -> Assault {
    store_notes(&attacker).await;
    Box::pin(async move {
        side_by_side(8, |_| {
            let attacker = attacker.clone();
            async move {
                loop {
                    if let Some(mut socket) = Socket::open(&attacker).await {
                        for number in 0..200 {
                            let open = json!(["NEG-OPEN", format!("n{number}"), {}, "6100000200"]);
                            if socket.say(open.to_string()).await.is_none() {
                                break;
                            }
                        }
                        let answer = socket.hear().await.unwrap_or_default();
                        attacker.effort.answered(answer[0].as_str().unwrap_or("nothing"));
                        tokio::time::sleep(5 * PAUSE).await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn bad_events(attacker: Attacker) -> Assault {
    let event = EventBuilder::new(EventKind::TextNote, "x")
        .finalize(&Keys::generate())
        .unwrap();
    let mut other = json!(event);
    other["content"] = json!("y");
    let mut unsigned = json!(event);
    unsigned["sig"] = json!("0".repeat(128));
    asking(attacker, 2, move |number| match number % 2 {
        0 => json!(["EVENT", other]),
        _ => json!(["EVENT", unsigned]),
    })
}
