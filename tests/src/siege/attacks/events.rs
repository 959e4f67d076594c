//! Attacks by events that make the purgatory, or whoever reads it, work: deletions, large events, and floods.

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::key::Keys;

use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
use crate::siege::attack::Assault;
use crate::siege::attack::Attack;
use crate::siege::attack::BOTH;
use crate::siege::attack::Route;
use crate::siege::attack::repeating;
use crate::siege::attacker::Attacker;
use crate::siege::attacker::coordinate;
use crate::siege::own_repository::random_id;
use crate::siege::websocket::send_all;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "deletions-of-many",
        does: "kind 5 with 100 `a` tags, one after the other, on an identifier of which 2,000 events are held",
        costs: "2,000 small events, and then some a second",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(deletions_of_many(attacker)),
    },
    Attack {
        name: "deletions-of-nothing",
        does: "kind 5 with 100 `e` and 100 long `a` tags, one after the other, of what is not here",
        costs: "events of 30 KB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(deletions_of_nothing(attacker)),
    },
    Attack {
        name: "deletions-of-large",
        does: "kind 5 with 1,000 `e` tags that name eight events of 250 KB again and again, one after the other",
        costs: "2 MB, and then 72 KB each",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(deletions_of_large(attacker)),
    },
    Attack {
        name: "deletions-of-ones-own",
        does: "has 20 kind 5 events of 250 KB stored, and sends announcements and states of the same author",
        costs: "5 MB, and then small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(deletions_of_ones_own(attacker)),
    },
    Attack {
        name: "large-events",
        does: "has 64 MB of states under the victim's identifier held, each of 250 KB, and sends PRs to it",
        costs: "64 MB",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(large_events(attacker)),
    },
    Attack {
        name: "vanishings",
        does: "kind 62 events of 25 KB, nearly the most that is taken, by keys with a repository of the victim's identifier",
        costs: "25 KB each",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(vanishings(attacker)),
    },
    Attack {
        name: "announcements",
        does: "announces 4,000 repositories",
        costs: "4,000 small events",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(announcements(attacker)),
    },
    Attack {
        name: "listings",
        does: "announces repositories with long names, each with 200 maintainers, and others with each newer announcement",
        costs: "14 KB each",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(listings(attacker)),
    },
    Attack {
        name: "notes",
        does: "sends notes of 200 KB, one after the other",
        costs: "200 KB each",
        worlds: BOTH,
        route: Route::Direct,
        prepare: |attacker| Box::pin(notes(attacker)),
    },
];

async fn deletions_of_many(attacker: Attacker) -> Assault {
    let keys: Vec<Keys> = (0..10).map(|_| Keys::generate()).collect();
    let identifier = attacker.victim.identifier();
    let mut events: Vec<Event> = Vec::new();
    for owner in &keys {
        events.push(attacker.announcement(owner, &identifier, now(), &[]));
        let address = tag(&["a", &coordinate(owner, &identifier).to_string()]);
        for number in 1..200 {
            let commit = tag(&["c", &format!("{:040x}", number + 1)]);
            events.push(sign(owner, 1618, now(), &[address.clone(), commit]));
        }
    }
    send_all(&attacker, &events).await;
    let deletion = move |number: u64| {
        let owner = &keys[number as usize % keys.len()];
        let address = |kind| tag(&["a", &format!("{kind}:{}:{identifier}", owner.public_key().to_hex())]);
        // The entries themselves stay, for the next one.
        let tags: Vec<_> = (30_000..30_100).map(address).collect();
        sign(owner, 5, now() - number, &tags)
    };
    repeating(attacker, deletion)
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn deletions_of_nothing(attacker: Attacker) -> Assault {
    repeating(attacker, |number| {
        // Each key has a share: he has many.
        let owner = Keys::generate();
        let name = "n".repeat(180);
        let address = |other| {
            tag(&[
                "a",
                &format!("30617:{}:{number}-{other}{name}", owner.public_key().to_hex()),
            ])
        };
        let event = |_| tag(&["e", &random_id()]);
        let tags: Vec<_> = (0..100).map(address).chain((0..100).map(event)).collect();
        sign(&owner, 5, now(), &tags)
    })
}

async fn deletions_of_large(attacker: Attacker) -> Assault {
    // Requests themselves: a deletion of them has no effect, so they stay.
    let content = "x".repeat(250_000);
    let large: Vec<Event> = (0..8)
        .map(|number| {
            let named = nostr::event::Tag::parse(["e", &format!("{number:064x}")]).unwrap();
            let builder = EventBuilder::new(Kind::EventDeletion, &content).tags([named]);
            builder.finalize(&Keys::generate()).unwrap()
        })
        .collect();
    send_all(&attacker, &large).await;
    let named: Vec<Vec<String>> = large.iter().map(|event| tag(&["e", &event.id.to_hex()])).collect();
    repeating(attacker, move |_| {
        let tags: Vec<_> = named.iter().cycle().take(1_000).cloned().collect();
        sign(&Keys::generate(), 5, now(), &tags)
    })
}

async fn deletions_of_ones_own(attacker: Attacker) -> Assault {
    let owner = Keys::generate();
    let content = "x".repeat(250_000);
    let requests: Vec<Event> = (0..20)
        .map(|number| {
            let named = nostr::event::Tag::parse(["e", &format!("{number:064x}")]).unwrap();
            let builder = EventBuilder::new(Kind::EventDeletion, &content).tags([named]);
            builder.finalize(&owner).unwrap()
        })
        .collect();
    send_all(&attacker, &requests).await;
    let announcer = attacker.clone();
    // Whoever decides about one of his events looks for a request to delete it.
    repeating(attacker, move |number| {
        let identifier = format!("own-{}", number / 2 % 50);
        let created_at = now() - 100_000 + number;
        if number % 2 == 0 {
            return announcer.announcement(&owner, &identifier, created_at, &[]);
        }
        let tags = [
            tag(&["d", &identifier]),
            tag(&["refs/heads/main", &format!("{number:040x}")]),
        ];
        sign(&owner, 30618, created_at, &tags)
    })
}

async fn large_events(attacker: Attacker) -> Assault {
    let identifier = attacker.victim.identifier();
    let mut events = Vec::new();
    for owner in (0..4).map(|_| Keys::generate()) {
        events.push(attacker.announcement(&owner, &identifier, now(), &[]));
        for number in 0..62 {
            let tags = [
                tag(&["d", &identifier]),
                tag(&["refs/heads/main", &format!("{:040x}", number + 1)]),
                tag(&["description", &"x".repeat(250_000)]),
            ];
            events.push(sign(&owner, 30618, now() - number, &tags));
        }
    }
    send_all(&attacker, &events).await;
    // Whoever decides about one more reads the others, if he reads what is not his.
    let victim = attacker.victim.coordinate.to_string();
    repeating(attacker, move |number| {
        let tags = [tag(&["a", &victim]), tag(&["c", &format!("{:040x}", number + 1)])];
        sign(&Keys::generate(), 1618, now(), &tags)
    })
}

async fn vanishings(attacker: Attacker) -> Assault {
    let identifier = attacker.victim.identifier();
    let keys: Vec<Keys> = (0..10).map(|_| Keys::generate()).collect();
    let announcements: Vec<_> = keys
        .iter()
        .map(|owner| attacker.announcement(owner, &identifier, now(), &[]))
        .collect();
    send_all(&attacker, &announcements).await;
    repeating(attacker, move |number| {
        let owner = &keys[number as usize % keys.len()];
        let builder = EventBuilder::new(Kind::from_u16(62), "x".repeat(25_000));
        let relay = nostr::event::Tag::parse(["relay", "wss://elsewhere.example"]).unwrap();
        let created_at = nostr::types::Timestamp::from_secs(now() - number);
        builder
            .tags([relay])
            .custom_created_at(created_at)
            .finalize(owner)
            .unwrap()
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn announcements(attacker: Attacker) -> Assault {
    let announcer = attacker.clone();
    let keys: Vec<Keys> = (0..8).map(|_| Keys::generate()).collect();
    repeating(attacker, move |number| {
        let owner = &keys[number as usize % keys.len()];
        announcer.announcement(owner, &format!("flood-{number}"), now(), &[])
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn listings(attacker: Attacker) -> Assault {
    let announcer = attacker.clone();
    let keys: Vec<Keys> = (0..8).map(|_| Keys::generate()).collect();
    let first = now() - 100_000;
    repeating(attacker, move |number| {
        // As many as an address may have held, and then the same ones again.
        let place = number % 200;
        // Of the most bytes that either relay takes, as long in keys as can be.
        let identifier = format!("{place:03}{}", "🦀".repeat(44));
        let maintainers: Vec<String> = (0..200).map(|_| random_id()).collect();
        let maintainers = [vec!["maintainers".to_owned()], maintainers].concat();
        let owner = &keys[place as usize % keys.len()];
        announcer.announcement(owner, &identifier, first + number, &[maintainers])
    })
}

#[expect(clippy::unused_async, reason = "nothing has to be prepared")]
async fn notes(attacker: Attacker) -> Assault {
    repeating(attacker, |_| {
        let builder = EventBuilder::new(Kind::TextNote, "x".repeat(200_000));
        builder.finalize(&Keys::generate()).unwrap()
    })
}
