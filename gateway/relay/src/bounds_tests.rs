//! The bounds of the relay, as strangers meet them.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::filter::Filter;
use nostr::key::Keys;
use nostr::types::Timestamp;
use serde_json::Value;
use serde_json::json;
use shared::relay_client::PublishOutcome;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::limits::RelayLimits;
use crate::server::RelayServer;
use crate::tests::AsAsked;
use crate::tests::Raw;
use crate::tests::ask;
use crate::tests::client;
use crate::tests::note;
use crate::tests::request;
use crate::tests::within;

async fn start_with(limits: RelayLimits) -> (RelayServer, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = RelayServer::start(listener, directory.path(), AsAsked, limits).await;
    (relay.unwrap(), directory)
}

/// The head of a masked frame of text (RFC 6455, section 5.2), whose mask changes nothing.
fn frame_head(bytes: u64, is_last: bool) -> Vec<u8> {
    let mut head = vec![if is_last { 0x81 } else { 0x01 }, 0xff];
    head.extend(bytes.to_be_bytes());
    head.extend([0; 4]);
    head
}

/// Each connection could leave a message of 393 KB unfinished for as long as it liked, and its buffer was kept.
#[tokio::test]
async fn unfinished_messages_of_one_address_have_a_bound_together() {
    let limits = RelayLimits {
        unread_bytes_per_address_max: 600_000,
        ..RelayLimits::default()
    };
    let (relay, _directory) = start_with(limits).await;
    let mut other = Raw::connect_as(&relay, Some("203.0.113.8")).await;
    other.0.get_mut().write_all(&frame_head(300_000, true)).await.unwrap();
    other.0.get_mut().write_all(&[b'x'; 250_000]).await.unwrap();
    let mut unfinished = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect_as(&relay, Some("203.0.113.7")).await;
        raw.0.get_mut().write_all(&frame_head(300_000, true)).await.unwrap();
        raw.0.get_mut().write_all(&[b'x'; 250_000]).await.unwrap();
        unfinished.push(raw);
    }

    let ends = unfinished.iter_mut().map(|raw| Box::pin(raw.hear()));
    let (first, _, ends) = within(futures_util::future::select_all(ends)).await;
    let (second, _, ends) = within(futures_util::future::select_all(ends)).await;
    assert_eq!([first, second], [Value::Null, Value::Null]);
    drop(ends);
    // The others finish theirs, and are answered.
    let mut answers = Vec::new();
    for raw in unfinished.iter_mut().chain([&mut other]) {
        raw.0.get_mut().write_all(&[b'x'; 50_000]).await.ok();
        answers.push(raw.hear().await[0].clone());
    }
    answers.sort_by_key(Value::is_null);
    assert_eq!(
        answers,
        [
            json!("NOTICE"),
            json!("NOTICE"),
            json!("NOTICE"),
            json!(null),
            json!(null)
        ]
    );
}

/// Authors, kinds and values of tags multiply: 2,900 authors and 25,000 kinds are 72 million ranges of an index.
#[tokio::test]
async fn combinations_in_one_request_of_a_stranger_have_a_bound() {
    let limits = RelayLimits {
        ranges_max: 100,
        ..RelayLimits::default()
    };
    let (relay, _directory) = start_with(limits).await;
    let mut stranger = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let mut own = Raw::connect(&relay).await;
    let author = |_| Keys::generate().public_key().to_hex();
    let authors: Vec<String> = (0..10).map(author).collect();
    let filter = |kinds: u16| json!({"authors": authors, "kinds": (0..kinds).collect::<Vec<_>>()});
    let eose = || ("EOSE".to_owned(), None);
    let text = "error: too many combinations of authors, kinds and tags: a request may have 100, split it";
    let refused = || ("CLOSED".to_owned(), Some(text.to_owned()));

    for verb in ["REQ", "COUNT"] {
        assert_eq!(
            ask(&mut stranger, request(verb, "s", vec![filter(11)])).await,
            refused()
        );
        let two = vec![filter(5), filter(6)];
        assert_eq!(ask(&mut stranger, request(verb, "s", two)).await, refused());
    }
    assert_eq!(ask(&mut stranger, request("REQ", "s", vec![filter(10)])).await, eose());
    assert_eq!(ask(&mut own, request("REQ", "s", vec![filter(100)])).await, eose());
}

/// The database finishes a look-up even if its client has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_up_is_its_addresss_until_it_ends() {
    let limits = RelayLimits {
        ranges_max: usize::MAX,
        unread_bytes_per_address_max: 110_000,
        ..RelayLimits::default()
    };
    let (relay, _directory) = start_with(limits).await;
    let author = |_| Keys::generate().public_key().to_hex();
    let authors: Vec<String> = (0..500).map(author).collect();
    let long = json!(["REQ", "s", {"authors": authors, "kinds": (0..1000).collect::<Vec<_>>()}]);
    let mut asking = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect_as(&relay, Some("203.0.113.7")).await;
        raw.say(&long).await;
        asking.push(raw);
    }
    // Once both are looked up, a third is not.
    let mut same = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let nothing = json!(["REQ", "s", {"limit": 0}]);
    loop {
        same.say(&nothing).await;
        match tokio::time::timeout(Duration::from_millis(100), same.hear()).await {
            Ok(answer) => assert_eq!(answer[0], "EOSE"),
            Err(_) => break,
        }
    }
    // Both end because of others of their address.
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect_as(&relay, Some("203.0.113.7")).await;
        raw.0.get_mut().write_all(&frame_head(300_000, true)).await.unwrap();
        raw.0.get_mut().write_all(&[b'x'; 10_000]).await.unwrap();
        others.push(raw);
    }
    assert_eq!(asking[0].hear().await, Value::Null);
    assert_eq!(asking[1].hear().await, Value::Null);

    let mut other = Raw::connect_as(&relay, Some("203.0.113.8")).await;
    other.say(&nothing).await;
    assert_eq!(other.hear().await[0], "EOSE");
    assert!(same.0.next().now_or_never().is_none(), "it waits for the look-ups");
    assert_eq!(same.hear().await[0], "EOSE");
}

fn of_kind(kind: u16, content: &str, keys: &Keys) -> Event {
    let builder = EventBuilder::new(Kind::from_u16(kind), content).tag(Tag::identifier("x"));
    builder.finalize(keys).unwrap()
}

/// The database took any stranger's events until it took nobody's, deletions and this host's own included.
#[tokio::test]
async fn a_full_database_has_room_for_this_hosts_events_and_loses_none() {
    let limits = RelayLimits {
        database_bytes_max: 16 << 20,
        ..RelayLimits::default()
    };
    let (relay, directory) = start_with(limits).await;
    let mut stranger = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let mut stored = Vec::new();
    let refused = loop {
        let event = note(&"x".repeat(200_000));
        stranger.say(json!(["EVENT", event])).await;
        let answer = stranger.hear().await;
        if answer[2] == json!(false) {
            break answer;
        }
        stored.push(event);
    };
    assert_eq!(refused[3], "error: the relay's database is full");
    assert!(stored.len() > 50, "{}", stored.len());

    let keys = Keys::generate();
    let deletion = of_kind(5, "", &keys);
    stranger.say(json!(["EVENT", deletion])).await;
    assert_eq!(stranger.hear().await[2], json!(true));
    stored.push(deletion);
    let own = note("own");
    assert_eq!(within(client(&relay).publish(&own)).await, PublishOutcome::Stored);
    stored.push(own);
    // A stranger's PRs and states are held all the same.
    let text = format!("purgatory: {}", "x".repeat(200_000));
    for kind in [1618, 30618] {
        let held = of_kind(kind, &format!("hold {text}"), &keys);
        stranger.say(json!(["EVENT", held])).await;
        assert_eq!(stranger.hear().await[3], text, "{kind}");
    }
    // What this host releases leaves room for states, and what was answered with OK is there.
    let (mut own, mut last) = (Raw::connect(&relay).await, true);
    for _ in 0..20 {
        let event = note(&"x".repeat(200_000));
        own.say(json!(["EVENT", event])).await;
        let answer = own.hear().await;
        last = answer[2] == json!(true);
        match last {
            true => stored.push(event),
            false => assert_eq!(answer[3], "error: the relay's database is full"),
        }
    }
    assert!(!last);
    for kind in [30617, 30618, 5] {
        let event = of_kind(kind, &"x".repeat(10_000), &keys);
        own.say(json!(["EVENT", event])).await;
        assert_eq!(own.hear().await[2], json!(true), "{kind}");
        stored.push(event);
    }
    within(relay.stop()).await;

    // Started with more, it takes events again. From a copy: this process has the other open until it ends.
    let limits = RelayLimits {
        database_bytes_max: 64 << 20,
        ..RelayLimits::default()
    };
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("data.mdb"), copy.path().join("data.mdb")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = RelayServer::start(listener, copy.path(), AsAsked, limits).await;
    let relay = relay.unwrap();
    let mut stranger = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let event = note("x");
    stranger.say(json!(["EVENT", event])).await;
    assert_eq!(stranger.hear().await[2], json!(true));
    let ids = stored.iter().map(|event| event.id);
    let found = within(client(&relay).query(vec![Filter::new().ids(ids)]))
        .await
        .unwrap();
    assert_eq!(found.len(), stored.len());
}

/// An event of 77 KB with 5,000 tags takes 7.5 MB of the disk, and anybody could have any number of them stored.
#[tokio::test]
async fn an_address_has_so_much_stored_in_a_day_and_others_not_less() {
    let limits = RelayLimits {
        stored_bytes_per_day_max: 1 << 20,
        ..RelayLimits::default()
    };
    let (relay, _directory) = start_with(limits).await;
    let tagged = || {
        let tags = (0..500).map(|n| Tag::parse(["t", &n.to_string()]).unwrap());
        let builder = EventBuilder::new(Kind::TextNote, "").tags(tags);
        builder.finalize(&Keys::generate()).unwrap()
    };
    let mut stranger = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let mut other = Raw::connect_as(&relay, Some("203.0.113.8")).await;
    let text = "rate-limited: your address may have 1048576 bytes a day stored by this relay: try again later";

    for raw in [&mut stranger, &mut other] {
        for answer in ["", text] {
            raw.say(json!(["EVENT", tagged()])).await;
            assert_eq!(raw.hear().await[3], answer);
        }
    }
    for _ in 0..3 {
        assert_eq!(within(client(&relay).publish(&tagged())).await, PublishOutcome::Stored);
    }
}

/// Its last message was further back than it may be silent once its answer was sent, and it ended.
#[tokio::test]
async fn a_slow_client_is_not_silent_while_it_is_sent_a_long_answer() {
    let (relay, _directory) = start_with(RelayLimits::default()).await;
    let content = "x".repeat(240_000);
    for _ in 0..60 {
        assert_eq!(
            within(client(&relay).publish(&note(&content))).await,
            PublishOutcome::Stored
        );
    }
    let mut slow = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    slow.say(json!(["REQ", "s", {}, {}])).await;
    assert_eq!(slow.hear().await[0], "EVENT");

    // Time goes on only where it is advanced: while a blocking task is there, it does not by itself.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || ended.recv());
    tokio::time::pause();
    for _ in 0..11 {
        tokio::time::advance(Duration::from_secs(15)).await;
        for _ in 0..3 {
            assert_eq!(slow.hear().await[0], "EVENT");
        }
    }
    let mut heard = 34;
    while slow.hear().await[0] == "EVENT" {
        heard += 1;
    }
    assert_eq!(heard, 60);

    slow.say(json!(["REQ", "t", {"limit": 0}])).await;
    assert_eq!(slow.hear().await, json!(["EOSE", "t"]));
    drop(end);
    blocking.await.unwrap().unwrap_err();
}

/// What was only held was charged to nobody, and this host had it stored later however much it was.
#[tokio::test]
async fn held_events_count_in_their_addresss_share_and_small_states_are_held_beyond_it() {
    let limits = RelayLimits {
        stored_bytes_per_day_max: 1 << 20,
        ..RelayLimits::default()
    };
    let (relay, _directory) = start_with(limits).await;
    let mut stranger = Raw::connect_as(&relay, Some("203.0.113.7")).await;
    let event = |kind: u16, content: &str, tags: u16| {
        let tags = (0..tags).map(|n| Tag::parse(["t", &n.to_string()]).unwrap());
        let builder = EventBuilder::new(Kind::from_u16(kind), content).tags(tags);
        let builder = builder.tag(Tag::identifier("x"));
        builder.finalize(&Keys::generate()).unwrap()
    };
    let (held, text) = (
        "purgatory: x",
        "rate-limited: your address may have 1048576 bytes a day stored by this relay: try again later",
    );
    // What is refused, not stored, or replaced before it comes is not charged.
    let keys = Keys::generate();
    for (age, tags, answer) in [(0, 1, ""), (10, 600, "replaced: have newer event")] {
        let tags = (0..tags).map(|n| Tag::parse(["t", &n.to_string()]).unwrap());
        let builder = EventBuilder::new(Kind::Metadata, "").tags(tags);
        let event = builder.custom_created_at(Timestamp::now() - Duration::from_secs(age));
        stranger.say(json!(["EVENT", event.finalize(&keys).unwrap()])).await;
        assert_eq!(stranger.hear().await[3], answer);
    }
    for (kind, content, tags, answer) in [
        (1618, "refuse no", 600, "no"),
        (20_001, "", 600, ""),
        (1618, "hold purgatory: x", 600, held),
        (1618, "hold purgatory: x", 600, text),
        (30618, "hold purgatory: x", 1, held),
        (30618, "hold purgatory: x", 600, text),
        (30618, "", 100, text),
    ] {
        stranger.say(json!(["EVENT", event(kind, content, tags)])).await;
        assert_eq!(stranger.hear().await[3], answer, "{kind} {content} {tags}");
    }
}
