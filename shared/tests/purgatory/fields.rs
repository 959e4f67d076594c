//! How an entry stands in Redis: no field that is empty or follows from another, and as earlier versions wrote it.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::key::Keys;
use shared::nip01::Deletion;
use shared::purgatory::*;

use crate::fixture::*;

#[tokio::test]
async fn a_held_state_has_no_field_that_is_empty_or_follows_from_another() {
    let fixture = Fixture::redis().await;
    let event = state(&Keys::generate(), 1);

    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();

    let fields: BTreeSet<String> = fixture.server().ask(&["HKEYS", &key(&event)]).await;
    let expected = [
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
}

/// As Redis comes, without the settings that we ship.
#[tokio::test]
async fn a_held_state_takes_little_memory_in_any_redis() {
    let fixture = Fixture::redis().await;
    let event = state(&Keys::generate(), 1);
    let json = event.as_json().len() as u64;

    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();

    let index = format!("{{purgatory}}:coordinate:{}:repo", event.pubkey);
    let mut bytes = 0;
    for key in [&key(&event), &index] {
        bytes += fixture
            .server()
            .ask::<u64>(&["MEMORY", "USAGE", key, "SAMPLES", "0"])
            .await;
    }
    assert!(bytes < 2 * json + 1000, "{bytes} for {json}");
}

#[tokio::test]
async fn what_an_earlier_version_holds_is_read_released_and_gone() {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let [announced, stated] = [announcement(&author, 1), state(&author, 2)];
    for event in [&announced, &stated] {
        fixture.purgatory.hold(&hold(event, LONG)).await.unwrap();
        let written = fixture.entry(event).await;
        write_as_before(&fixture, event).await;
        assert_eq!(fixture.entry(event).await, written);
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
    assert!(left.is_empty(), "{left:?}");
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
async fn what_an_earlier_version_holds_is_deleted_by_its_address() {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let [announced, stated] = [announcement(&author, 1), state(&author, 2)];
    for event in [&announced, &stated] {
        fixture.purgatory.hold(&hold(event, LONG)).await.unwrap();
        write_as_before(&fixture, event).await;
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

/// Earlier versions wrote every field, whatever was in it, and had one index with the author in each member.
async fn write_as_before(fixture: &Fixture, event: &Event) {
    let server = fixture.server();
    let bytes = event.as_json().len().to_string();
    let fields = [
        ("author", event.pubkey.to_hex()),
        ("source_group", "IP4 203.0.113.7".to_owned()),
        ("bytes", bytes),
        ("last_seen", "1700000000".to_owned()),
        ("waiting_for", String::new()),
        ("release_error", String::new()),
        ("after", "[]".to_owned()),
        ("lease", String::new()),
    ];
    for (field, value) in fields {
        let new: u64 = server.ask(&["HSET", &key(event), field, &value]).await;
        assert_eq!(new, 1, "{field} was there");
    }
    let kind = event.kind.as_u16();
    let name = if kind == 30617 { "announcements" } else { "coordinate" };
    let index = format!("{{purgatory}}:{name}:{}:repo", event.pubkey);
    let removed: u64 = server.ask(&["ZREM", &index, &event.id.to_hex()]).await;
    assert_eq!(removed, 1);
    let index = format!("{{purgatory}}:coordinate:{}:repo", event.pubkey);
    let member = format!("{}:{kind}:{}", event.pubkey, event.id);
    let added: u64 = server.ask(&["ZADD", &index, "0", &member]).await;
    assert_eq!(added, 1);
}

fn key(event: &Event) -> String {
    format!("{{purgatory}}:entry:{}", event.id)
}

/// What is no event's.
const KEPT: [&str; 3] = ["{purgatory}:changes", "{purgatory}:dirty", "{purgatory}:leases"];
