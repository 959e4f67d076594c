//! How an entry stands in Redis: no field that is empty or follows from another, in little memory, and as earlier
//! versions wrote it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::key::Keys;
use shared::nip01::Deletion;
use shared::purgatory::*;

use crate::fixture::*;
use crate::on_redis::repository_root;
use crate::server::RedisServer;

#[tokio::test]
async fn a_held_state_has_no_field_that_is_empty_or_follows_from_another() {
    let fixture = Fixture::redis().await;
    let event = state(&Keys::generate(), 1);

    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();

    let fields: BTreeSet<String> = fixture.server().ask(&["HKEYS", &key(&event)]).await;
    let expected = [
        "bytes",
        "coordinates",
        "created_at",
        "deadline",
        "event",
        "held_since",
        "kind",
        "source",
        "status",
    ];
    assert_eq!(fields, expected.map(str::to_owned).into());
    let json: String = fixture.server().ask(&["HGET", &key(&event), "event"]).await;
    let members: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&String> = members.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        ["content", "sig", "tags"],
        "the others are in fields and in the key"
    );
    let bytes: usize = fixture.server().ask(&["HGET", &key(&event), "bytes"]).await;
    assert_eq!(bytes, event.as_json().len());

    let long = large_state(&Keys::generate(), 1, 5000);
    fixture.purgatory.hold(&hold(&long, LONG)).await.unwrap();
    let json: String = fixture.server().ask(&["HGET", &key(&long), "event"]).await;
    assert_eq!(json, long.as_json(), "to put it together takes long");
}

/// What the contract allows for each held event, with the settings that we ship.
#[tokio::test]
async fn many_events_take_little_more_memory_than_their_json() {
    let config = repository_root().join("strfry-config/redis.conf");
    let server = RedisServer::start_with(&[config.to_str().unwrap(), "--appendfsync", "no"]).await;
    let purgatory = Purgatory::connect(&settings(&server.url()), LIMITS).await.unwrap();
    let author = Keys::generate();
    for kind in [30617, 30618] {
        let () = server.ask(&["FLUSHALL"]).await;
        let mut json = 0;
        for number in 0..MANY {
            let event = event(&author, kind, &format!("repository-{number}"), 1);
            json += event.as_json().len() as u64;
            let hold = Hold {
                room: Room::Always,
                ..hold(&event, LONG)
            };
            assert_eq!(purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        }
        let _: u64 = server.ask(&["DEL", "{purgatory}:dirty"]).await;

        let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
        // And what Redis does not count: that a key ends, in which places of its tables keys are.
        let mut bytes = 64 * keys.len() as u64;
        for key in &keys {
            bytes += server.ask::<u64>(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).await;
        }

        let [each, json] = [bytes, json].map(|bytes| bytes / MANY);
        assert!(5 * each < 8 * json + 5 * 600, "{kind}: {each} for {json}");
    }
}

/// What the limits count for an announcement covers what the index of listings takes for it.
#[tokio::test]
async fn whom_announcements_list_takes_no_more_memory_than_the_limits_count() {
    let config = repository_root().join("strfry-config/redis.conf");
    for settings_of_ours in [vec![], vec![config.to_str().unwrap(), "--appendfsync", "no"]] {
        let server = RedisServer::start_with(&settings_of_ours).await;
        let purgatory = Purgatory::connect(&settings(&server.url()), LIMITS).await.unwrap();
        for name in ["r".to_owned(), "🦀".repeat(63)] {
            let () = server.ask(&["FLUSHALL"]).await;
            let owner = Keys::generate();
            let mut before = (0, 0);
            for listed_count in [0, 1, 20, 200] {
                let listed = (0..listed_count).map(|_| Keys::generate().public_key());
                let hold = Hold {
                    room: Room::Always,
                    ..hold(&listing_of(&owner, &name, listed_count, listed), LONG)
                };
                assert_eq!(purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);

                let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
                let mut bytes = 64 * keys.len() as u64;
                for key in &keys {
                    bytes += server.ask::<u64>(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).await;
                }
                let counted: u64 = server.ask(&["GET", "{purgatory}:bytes"]).await;
                if listed_count == 0 {
                    before = (bytes, counted);
                }
                let [bytes, counted] = [bytes - before.0, counted - before.1];
                assert!(bytes <= counted, "{listed_count}: {bytes} for {counted}");
            }
        }
    }
}

/// As Redis comes, without the settings that we ship.
#[tokio::test]
async fn a_held_state_takes_little_memory_in_any_redis() {
    let fixture = Fixture::redis().await;
    let event = state(&Keys::generate(), 1);
    let json = event.as_json().len() as u64;

    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();

    let keys: Vec<String> = fixture.server().ask(&["KEYS", "*"]).await;
    let mut bytes = 0;
    for key in keys.iter().filter(|key| !OF_ALL.contains(&key.as_str())) {
        let key = ["MEMORY", "USAGE", key, "SAMPLES", "0"];
        bytes += fixture.server().ask::<u64>(&key).await;
    }
    assert!(bytes < 2 * json + 2000, "{bytes} for {json}");
}

#[tokio::test]
async fn what_an_earlier_version_holds_is_read_released_and_gone() {
    for written_by in EARLIER {
        is_read_released_and_gone(written_by).await;
    }
}

async fn is_read_released_and_gone(written_by: Earlier) {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let [announced, stated] = [announcement(&author, 1), state(&author, 2)];
    for event in [&announced, &stated] {
        fixture.purgatory.hold(&hold(event, LONG)).await.unwrap();
        let written = fixture.entry(event).await;
        write_as_before(&fixture, event, written_by).await;
        assert_eq!(fixture.entry(event).await, written, "{written_by:?}");
        // Whom it belongs to, and which event it is, is not known of some fields alone.
        let ids = ids([event]);
        assert_eq!(fixture.purgatory.entries(&ids).await.unwrap(), Vec::from_iter(written));
    }

    let leased = fixture
        .purgatory
        .mark_releasing(&[release(&announced), release(&stated)], LONG)
        .await;

    for Leased { event, lease, .. } in leased.unwrap().leased {
        assert!(
            fixture
                .purgatory
                .settle(&event.id, lease, &Settlement::Served)
                .await
                .unwrap()
        );
    }
    let left: Vec<String> = fixture.server().ask(&["KEYS", "*"]).await;
    let left: Vec<&String> = left.iter().filter(|key| !KEPT.contains(&key.as_str())).collect();
    assert!(left.is_empty(), "{written_by:?}: {left:?}");
}

/// Has three states of one author held as an earlier version did.
async fn three_of_an_earlier_version(written_by: Earlier) -> (Fixture, Keys, Vec<Event>) {
    let (fixture, author) = (Fixture::redis().await, Keys::generate());
    let held: Vec<Event> = (1..=3).map(|at| state(&author, at)).collect();
    for event in &held {
        fixture.purgatory.hold(&hold(event, LONG)).await.unwrap();
        write_as_before(&fixture, event, written_by).await;
    }
    (fixture, author, held)
}

#[tokio::test]
async fn what_an_earlier_version_holds_counts_until_it_is_gone() {
    for written_by in EARLIER {
        let (fixture, author, held) = three_of_an_earlier_version(written_by).await;
        // One of them is extended: from then on it is as those of this version.
        assert_eq!(fixture.purgatory.extend(&ids(&held[..1]), 2 * LONG).await.unwrap(), 1);
        let hold_next = async |at| {
            let outcome = fixture.purgatory.hold(&hold(&state(&author, at), LONG)).await;
            outcome.unwrap()
        };

        assert_eq!(hold_next(4).await, HoldOutcome::Held);
        assert_eq!(hold_next(5).await, HoldOutcome::Full(Limit::EntriesPerAuthor));
        for event in &held {
            assert_eq!(fixture.purgatory.end(&ids([event])).await.unwrap(), 1);
            assert_eq!(hold_next(6).await, HoldOutcome::Held, "{written_by:?}");
        }
        assert_eq!(hold_next(7).await, HoldOutcome::Full(Limit::EntriesPerAuthor));
    }
}

#[tokio::test]
async fn what_an_earlier_version_holds_is_replaced_by_a_later_announcement_only() {
    for written_by in EARLIER {
        let fixture = Fixture::redis().await;
        let author = Keys::generate();
        let [before, held, later] = [1, 2, 3].map(|at| announcement(&author, at));
        fixture.purgatory.hold(&hold(&held, LONG)).await.unwrap();
        write_as_before(&fixture, &held, written_by).await;

        let outcome = fixture.purgatory.hold(&hold(&before, LONG)).await.unwrap();
        assert_eq!(outcome, HoldOutcome::Replaced, "{written_by:?}");
        let outcome = fixture.purgatory.hold(&hold(&later, LONG)).await.unwrap();
        assert_eq!(outcome, HoldOutcome::Held, "{written_by:?}");

        let left = fixture.read(&["repo"]).await.entries;
        let left: Vec<_> = left.iter().map(|entry| entry.event.id).collect();
        assert_eq!(left, [later.id], "{written_by:?}");
    }
}

#[tokio::test]
async fn an_author_vanishes_with_what_an_earlier_version_holds() {
    for written_by in EARLIER {
        let (fixture, author, held) = three_of_an_earlier_version(written_by).await;
        assert_eq!(fixture.purgatory.extend(&ids(&held[..1]), 2 * LONG).await.unwrap(), 1);

        assert_eq!(fixture.purgatory.vanish(&author.public_key(), 9).await.unwrap(), 3);

        assert_eq!(fixture.read(&["repo"]).await.entries, [], "{written_by:?}");
    }
}

/// Earlier versions had one index more, of what ends when.
#[tokio::test]
async fn what_an_earlier_version_kept_beside_the_limits_goes_and_its_events_end_in_time() {
    let fixture = Fixture::redis().await;
    let event = state(&Keys::generate(), 1);
    fixture.purgatory.hold(&hold(&event, 0)).await.unwrap();
    let server = fixture.server();
    let added: u64 = server
        .ask(&["ZADD", "{purgatory}:deadlines", "1", &event.id.to_hex()])
        .await;
    assert_eq!(added, 1);
    // Which had left the limits, as members did that were late by days.
    let bytes: String = server.ask(&["GET", "{purgatory}:bytes"]).await;
    let removed: u64 = server.ask(&["DEL", "{purgatory}:entries", "{purgatory}:bytes"]).await;
    assert_eq!(removed, 2);

    assert_eq!(fixture.purgatory.mark_overdue(9, LONG).await.unwrap(), 1);

    let left: bool = server.ask(&["EXISTS", "{purgatory}:deadlines"]).await;
    assert!(!left);
    let counted: String = server.ask(&["GET", "{purgatory}:bytes"]).await;
    assert_eq!(counted, bytes);
}

#[tokio::test]
async fn a_pr_that_an_earlier_version_holds_counts_is_reconciled_and_gone() {
    let fixture = Fixture::redis().await;
    let (owner, author) = (Keys::generate(), Keys::generate());
    let [held, next] = [1, 2].map(|at| event(&author, 1618, "unused", at));
    let offer = |event| Hold {
        coordinates: [coordinate(&owner, "repo")].into(),
        ..hold(event, LONG)
    };
    assert_eq!(fixture.purgatory.hold(&offer(&held)).await.unwrap(), HoldOutcome::Held);
    let server = fixture.server();
    let [listed, looked_at] =
        ["pull_requests", "looked_at"].map(|name| format!("{{purgatory}}:{name}:{}:repo", owner.public_key()));
    let [member, before] =
        [&held.pubkey.to_hex()[..16], &format!("{}:1618", held.pubkey)].map(|author| format!("{author}:{}", held.id));
    for key in [&listed, &looked_at] {
        let score: String = server.ask(&["ZSCORE", key, &member]).await;
        assert_eq!(server.ask::<u64>(&["ZREM", key, &member]).await, 1);
        assert_eq!(server.ask::<u64>(&["ZADD", key, &score, &before]).await, 1);
    }
    // As many as the author may have there, with that one.
    for number in 1..LIMITS.entries_per_share_max {
        let other = format!("{}:1618:{number}", held.pubkey);
        assert_eq!(server.ask::<u64>(&["ZADD", &listed, "0", &other]).await, 1);
    }

    let outcome = fixture.purgatory.hold(&offer(&next)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Full(Limit::EntriesPerShare));
    let unreconciled = fixture
        .purgatory
        .unreconciled_page(&coordinate(&owner, "repo"))
        .await
        .unwrap();
    assert_eq!(unreconciled.event_ids(), ids([&held]));
    assert_eq!(fixture.purgatory.end(&ids([&held])).await.unwrap(), 1);
    for key in [&listed, &looked_at] {
        let score: Option<String> = server.ask(&["ZSCORE", key, &before]).await;
        assert_eq!(score, None, "{key}");
    }
}

/// Earlier versions had one for each event and repository.
#[tokio::test]
async fn a_placeholder_of_an_earlier_version_is_read_counted_renewed_and_dropped() {
    let fixture = Fixture::redis().await;
    let (owner, server) = (Keys::generate(), fixture.server());
    let place = coordinate(&owner, "repo");
    let [id, other] = [1, 2].map(|at| state(&owner, at).id);
    let pusher = std::net::Ipv4Addr::LOCALHOST.into();
    let put = async |id, commit| {
        let put = fixture
            .purgatory
            .put_placeholder(id, &place, oid(commit), LONG, Some(pusher));
        put.await.unwrap()
    };
    for (id, commit) in [(&id, 'a'), (&other, 'a')] {
        assert_eq!(put(id, commit).await, PlaceholderOutcome::Recorded);
        let earlier = format!("{id}:{}:repo", owner.public_key());
        let tail = format!("{earlier}:{}", oid(commit));
        let [from, to] = [&tail, &earlier].map(|tail| format!("{{purgatory}}:placeholder:{tail}"));
        let () = server.ask(&["RENAME", &from, &to]).await;
        let of_repository = format!("placeholders:{}:repo", owner.public_key());
        for set in [
            of_repository.as_str(),
            "placeholders_from:IP4%20127.0.0.1",
            "placeholders",
        ] {
            let set = format!("{{purgatory}}:{set}");
            let score: String = server.ask(&["ZSCORE", &set, &tail]).await;
            assert_eq!(server.ask::<u64>(&["ZREM", &set, &tail]).await, 1);
            assert_eq!(server.ask::<u64>(&["ZADD", &set, &score, &earlier]).await, 1);
        }
    }
    assert_eq!(fixture.read(&["repo"]).await.placeholders.len(), 2);
    let full = PlaceholderOutcome::Full(PlaceholderLimit::PlaceholdersPerSource);

    // Another commit for the event is one more, and the same commit is not.
    assert_eq!(put(&id, 'b').await, full);
    assert_eq!(put(&id, 'a').await, PlaceholderOutcome::Recorded);
    let commits = [(id, oid('a')), (other, oid('a'))];
    let fit = fixture.purgatory.placeholders_fit(&place, &commits, pusher).await;
    assert_eq!(fit.unwrap(), PlaceholderOutcome::Recorded);
    fixture.look_at_pull_requests().await;
    for id in [&id, &other] {
        assert!(fixture.purgatory.drop_placeholder(id, &place, oid('a')).await.unwrap());
    }
    fixture.look_at_pull_requests().await;
    let left: Vec<String> = server.ask(&["KEYS", "*"]).await;
    let left: Vec<&String> = left.iter().filter(|key| !KEPT.contains(&key.as_str())).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_an_earlier_version_holds_is_deleted_by_its_address() {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let [announced, stated] = [announcement(&author, 1), state(&author, 2)];
    for event in [&announced, &stated] {
        fixture.purgatory.hold(&hold(event, LONG)).await.unwrap();
        write_as_before(&fixture, event, Earlier::WithAuthors).await;
    }
    let deletion = Deletion {
        author: author.public_key(),
        created_at: 9,
        event_ids: BTreeSet::new(),
        addresses: BTreeSet::from([(30617, identifier("repo"))]),
    };

    assert_eq!(fixture.purgatory.delete(&deletion).await.unwrap(), 1);

    assert_eq!(fixture.entry(&announced).await, None);
    assert!(fixture.entry(&stated).await.is_some());
}

/// Which version has written an entry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Earlier {
    /// The one that wrote every field, whatever was in it, and had one index with the author in each member.
    WithAuthors,
    /// The one that wrote the JSON of an event whole, and had an index for each repository.
    WithIds,
}

const EARLIER: [Earlier; 2] = [Earlier::WithAuthors, Earlier::WithIds];

/// Makes of an entry what an earlier version would have made of its event.
async fn write_as_before(fixture: &Fixture, event: &Event, written_by: Earlier) {
    let server = fixture.server();
    let json = event.as_json();
    let (pubkey, id, bytes) = (event.pubkey.to_hex(), event.id.to_hex(), json.len());
    let deadline: String = server.ask(&["HGET", &key(event), "deadline"]).await;
    let _: u64 = server.ask(&["HSET", &key(event), "event", &json]).await;
    let _: u64 = server.ask(&["HDEL", &key(event), "bytes"]).await;
    if written_by == Earlier::WithAuthors {
        write_all_fields(server, event, &pubkey).await;
    }

    let kind = event.kind.as_u16();
    let own = format!("{{purgatory}}:own:{pubkey}");
    let removed: u64 = server.ask(&["ZREM", &own, &format!("repo:{kind}:{id}")]).await;
    assert_eq!(removed, 1);
    let (index, member) = match (written_by, kind) {
        (Earlier::WithAuthors, _) => ("coordinate", format!("{pubkey}:{kind}:{id}")),
        (Earlier::WithIds, 30617) => ("announcements", id.clone()),
        (Earlier::WithIds, _) => ("coordinate", id.clone()),
    };
    let index = format!("{{purgatory}}:{index}:{pubkey}:repo");
    assert_eq!(server.ask::<u64>(&["ZADD", &index, "0", &member]).await, 1);
    if kind == 30617 {
        let one = format!("{{purgatory}}:announcement:{pubkey}:repo");
        let () = server.ask(&["SET", &one, &id]).await;
    }
    for (limit, of) in [("author", &*pubkey), ("source", SOURCE)] {
        let counts = if limit == "author" {
            "own_counts"
        } else {
            "source_counts"
        };
        take_off_counts(server, &format!("{{purgatory}}:{counts}:{of}"), bytes).await;
        let [set, sum] = [limit.to_owned(), format!("{limit}_bytes")].map(|name| format!("{{purgatory}}:{name}:{of}"));
        let added: u64 = server.ask(&["ZADD", &set, &deadline, &format!("{id}:{bytes}")]).await;
        assert_eq!(added, 1);
        let _: u64 = server.ask(&["INCRBY", &sum, &bytes.to_string()]).await;
    }
}

async fn write_all_fields(server: &RedisServer, event: &Event, pubkey: &str) {
    let bytes = event.as_json().len().to_string();
    let fields = [
        ("author", pubkey),
        ("source_group", "IP4 203.0.113.7"),
        ("bytes", &bytes),
        ("last_seen", "1700000000"),
        ("waiting_for", ""),
        ("release_error", ""),
        ("after", "[]"),
        ("lease", ""),
    ];
    for (field, value) in fields {
        let new: u64 = server.ask(&["HSET", &key(event), field, value]).await;
        assert_eq!(new, 1, "{field} was there");
    }
}

/// Takes an event off the only span of some counts in which there are any.
async fn take_off_counts(server: &RedisServer, key: &str, bytes: usize) {
    let counts: BTreeMap<String, String> = server.ask(&["HGETALL", key]).await;
    let (span, value) = counts.last_key_value().unwrap();
    let (entries, of_all) = value.split_once(':').unwrap();
    let (entries, of_all): (usize, usize) = (entries.parse().unwrap(), of_all.parse().unwrap());
    let left = format!("{}:{}", entries - 1, of_all - bytes);
    let _: u64 = match entries {
        1 => server.ask(&["HDEL", key, span]).await,
        _ => server.ask(&["HSET", key, span, &left]).await,
    };
}

fn key(event: &Event) -> String {
    format!("{{purgatory}}:entry:{}", event.id)
}

/// Where [`hold`] says that events come from, as it stands in keys.
const SOURCE: &str = "IP4%20203.0.113.7";

/// So many that no key is small.
const MANY: u64 = 150;

/// Of which each event takes little more.
const OF_ALL: [&str; 4] = [
    "{purgatory}:bytes",
    "{purgatory}:changes",
    "{purgatory}:dirty",
    "{purgatory}:entries",
];

/// What is no event's.
const KEPT: [&str; 3] = ["{purgatory}:changes", "{purgatory}:dirty", "{purgatory}:leases"];
