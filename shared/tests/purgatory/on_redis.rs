//! What only Redis can do: be lost, full, hung, forgotten in part, read by people.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::Keys;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use shared::nip01::Deletion;
use shared::nip34::Identifier;
use shared::purgatory::*;

use crate::fixture::*;
use crate::server::RedisServer;

/// Everything must be well again this long after Redis is (docs/reliability.md).
pub(crate) const RECOVERY: Duration = Duration::from_secs(2);
/// Longest wait for an answer from a Redis that is gone.
const PATIENCE: Duration = Duration::from_millis(1500);

pub(crate) fn repository_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

async fn connect(server: &RedisServer) -> Purgatory {
    Purgatory::connect(&settings(&server.url()), LIMITS).await.unwrap()
}

/// Repeats a hold until it is done.
async fn hold_until_held(purgatory: &Purgatory, hold: &Hold) {
    let start = Instant::now();
    while purgatory.hold(hold).await.is_err() {
        assert!(start.elapsed() < 5 * RECOVERY, "redis is not found again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn held_events_survive_a_crash_of_redis_and_all_recovers_by_itself() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let purgatory = connect(&server).await;
    let mut notifications = purgatory.notifications();
    let [before, after] = [1, 2].map(|at| state(&Keys::generate(), at));
    purgatory.hold(&hold(&before, LONG)).await.unwrap();

    server.kill();
    let start = Instant::now();
    for _ in 0..3 {
        let error = purgatory.hold(&hold(&after, LONG)).await.unwrap_err();
        assert!(matches!(error, PurgatoryError::Unavailable { .. }));
    }
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    while tokio::time::timeout(Duration::from_millis(50), notifications.next())
        .await
        .is_ok()
    {}

    server.start_again().await;
    hold_until_held(&purgatory, &hold(&after, LONG)).await;
    let reading = purgatory.read(&everybodys(&["repo"])).await.unwrap();
    let held: BTreeSet<_> = ids(reading.entries.iter().map(|entry| entry.event.as_ref()));
    assert_eq!(held, ids([&before, &after]));
    let woken = tokio::time::timeout(RECOVERY, notifications.next()).await;
    assert!(woken.is_ok());
}

#[tokio::test]
async fn a_purgatory_can_be_made_before_redis_is_there() {
    let mut server = RedisServer::start().await;
    server.kill();

    let purgatory = connect(&server).await;

    let error = purgatory.check_server().await.unwrap_err();
    assert!(matches!(error, PurgatoryError::Unavailable { .. }));
    server.start_again().await;
    let start = Instant::now();
    while purgatory.check_server().await.is_err() {
        assert!(start.elapsed() < 5 * RECOVERY, "redis is not found");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_redis_that_hangs_is_waited_for_once_and_then_not_asked_until_it_is_back() {
    let server = RedisServer::start().await;
    let purgatory = Purgatory::connect(&RedisSettings::at(&server.url()), LIMITS)
        .await
        .unwrap();
    let event = state(&Keys::generate(), 1);
    hold_until_held(&purgatory, &hold(&event, LONG)).await;

    server.signal("-STOP");
    let error = purgatory.hold(&hold(&event, LONG)).await.unwrap_err();
    assert!(matches!(error, PurgatoryError::Unavailable { .. }));
    for _ in 0..100 {
        let error = purgatory.hold(&hold(&event, LONG)).await.unwrap_err();
        assert!(is_not_asked(&error), "{error:?}");
    }

    server.signal("-CONT");
    hold_until_held(&purgatory, &hold(&event, LONG)).await;
}

/// Tells whether the error is that of a call that was not made.
fn is_not_asked(error: &PurgatoryError) -> bool {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let is_not_asked = source.is_some_and(|text| text.contains("used again when it answers a probe in time"));
    matches!(error, PurgatoryError::Unavailable { .. }) && is_not_asked
}

#[tokio::test]
async fn slow_answers_are_used_and_several_in_a_row_end_the_asking() {
    let server = RedisServer::start().await;
    let settings = RedisSettings {
        // Every answer is slow, those to probes too.
        slow: Duration::ZERO,
        call_timeout: Duration::from_secs(10),
        ..RedisSettings::at(&server.url())
    };
    let purgatory = Purgatory::connect(&settings, LIMITS).await.unwrap();
    let event = state(&Keys::generate(), 1);

    let mut answers = 0;
    let error = loop {
        match purgatory.hold(&hold(&event, LONG)).await {
            Ok(_) => answers += 1,
            Err(error) => break error,
        }
    };

    // To load the scripts was the first.
    assert_eq!(answers, 4);
    assert!(is_not_asked(&error), "{error:?}");
}

#[tokio::test]
async fn a_full_redis_refuses_to_hold_and_can_still_empty_itself() {
    let server = RedisServer::start().await;
    let purgatory = connect(&server).await;
    let author = Keys::generate();
    let [held, releasing, other] = [1, 2, 3].map(|at| state(&author, at));
    let waiting = announcement(&author, 1);
    let place = coordinate(&author, "repo");
    for event in [&held, &releasing] {
        purgatory.hold(&hold(event, 0)).await.unwrap();
    }
    purgatory.hold(&hold(&waiting, 0)).await.unwrap();
    let put = purgatory.put_placeholder(&held.id, &place, oid('a'), 0, None);
    assert_eq!(put.await.unwrap(), PlaceholderOutcome::Recorded);

    let () = server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;

    let before = purgatory.read(&everybodys(&["repo"])).await.unwrap();
    let error = purgatory.hold(&hold(&other, LONG)).await.unwrap_err();
    assert!(matches!(error, PurgatoryError::Full { .. }), "{error:?}");
    let put = purgatory.put_placeholder(&other.id, &place, oid('a'), 0, None);
    assert!(matches!(put.await, Err(PurgatoryError::Full { .. })));
    let after = purgatory.read(&everybodys(&["repo"])).await.unwrap();
    assert_eq!((after.entries, after.dirty), (before.entries, before.dirty.clone()));

    // Everything else goes on.
    let leased = purgatory
        .mark_releasing(&[release(&releasing)], 0)
        .await
        .unwrap()
        .leased;
    assert_eq!(leased.len(), 1);
    let lease = purgatory.take_due(9, LONG).await.unwrap()[0].lease;
    let served = Settlement::Served;
    assert!(purgatory.settle(&releasing.id, lease, &served).await.unwrap());
    assert_eq!(purgatory.extend(&ids([&waiting]), 0).await.unwrap(), 1);
    assert_eq!(purgatory.mark_overdue(9, 0).await.unwrap(), 3);
    let notes = BTreeMap::from([(held.id, "x".to_owned())]);
    purgatory.note_waiting(&notes).await.unwrap();
    purgatory.mark_dirty(&coordinates(&["a"])).await.unwrap();
    for (name, number) in purgatory.dirty(9).await.unwrap() {
        assert!(purgatory.clear_dirty(&name, number).await.unwrap());
    }
    assert!(purgatory.expire(&held.id, Expiry::Gone).await.unwrap());
    assert_eq!(purgatory.end(&ids([&waiting])).await.unwrap(), 1);
    let dropped = purgatory.drop_placeholder(&held.id, &place, oid('a'));
    assert!(dropped.await.unwrap());
    let deletion = Deletion {
        author: author.public_key(),
        created_at: 9,
        event_ids: ids([&other]),
        addresses: BTreeSet::new(),
    };
    assert_eq!(purgatory.delete(&deletion).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_kept_out_has_a_bound_for_one_author_and_for_all() {
    let fixture = Fixture::redis().await;
    let server = fixture.server();
    let gates = async || {
        let keys: Vec<String> = server.ask(&["KEYS", "{purgatory}:deleted:*"]).await;
        let mut counts = Vec::new();
        for key in keys {
            counts.push(server.ask::<u64>(&["HLEN", &key]).await);
        }
        counts
    };
    let request = |author: &Keys, number: u64| Deletion {
        author: author.public_key(),
        created_at: number,
        event_ids: (0..100).map(|place| id_of(100 * number + place)).collect(),
        addresses: (0..100).map(|place| (30618, long_name(100 * number + place))).collect(),
    };

    let author = Keys::generate();
    for number in 0..9 {
        fixture.purgatory.delete(&request(&author, number)).await.unwrap();
    }
    // Two spans, if the clock passed from one into the other.
    assert!(gates().await.iter().all(|count| *count <= 400), "{:?}", gates().await);

    for number in 0..80 {
        let other = Keys::generate();
        fixture.purgatory.delete(&request(&other, number)).await.unwrap();
    }
    let keys: Vec<String> = server.ask(&["KEYS", "{purgatory}:gate_bytes:*"]).await;
    for key in keys {
        let bytes: u64 = server.ask(&["GET", &key]).await;
        assert!(bytes <= (8 << 20) + 2000, "{bytes}");
    }
    let mut counts = gates().await;
    counts.sort_unstable();
    assert_eq!(counts.len().max(81), counts.len(), "everybody has some room");
    assert!(counts[0] >= 16, "{counts:?}");
}

fn id_of(number: u64) -> EventId {
    EventId::from_hex(&format!("{number:064x}")).unwrap()
}

fn long_name(number: u64) -> Identifier {
    identifier(&format!("{number:07}{}", "🦀".repeat(62)))
}

/// The backstop removed overdue entries that no reconcile could decide about, two days after their deadline.
#[tokio::test]
async fn nothing_overdue_ends_by_itself_while_a_gateway_asks_for_it() {
    let server = RedisServer::start().await;
    let purgatory = connect(&server).await;
    let author = Keys::generate();
    let event = announcement(&author, 1);
    let place = coordinate(&author, "repo");
    purgatory.hold(&hold(&event, 0)).await.unwrap();
    let put = purgatory.put_placeholder(&event.id, &place, oid('a'), 0, None);
    assert_eq!(put.await.unwrap(), PlaceholderOutcome::Recorded);
    let pubkey = author.public_key().to_hex();
    let keys = [
        format!("{{purgatory}}:entry:{}", event.id),
        format!("{{purgatory}}:placeholder:{}:{pubkey}:repo:{}", event.id, oid('a')),
        format!("{{purgatory}}:placeholders:{pubkey}:repo"),
    ];
    for key in &keys {
        let shortened: u64 = server.ask(&["EXPIRE", key, "60"]).await;
        assert_eq!(shortened, 1, "{key}");
    }

    assert_eq!(purgatory.mark_overdue(9, LONG).await.unwrap(), 2);

    for key in &keys {
        let secs: i64 = server.ask(&["TTL", key]).await;
        assert!(secs > 24 * 3600, "{key}: {secs}");
    }
}

#[tokio::test]
async fn an_entry_that_vanished_is_read_no_more_and_leaves_the_indices() {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let event = announcement(&author, 1);
    let place = coordinate(&author, "repo");
    fixture.purgatory.hold(&hold(&event, 0)).await.unwrap();
    let put = fixture.purgatory.put_placeholder(&event.id, &place, oid('a'), 0, None);
    assert_eq!(put.await.unwrap(), PlaceholderOutcome::Recorded);
    let tail = format!("{}:{}:repo:{}", event.id, author.public_key().to_hex(), oid('a'));
    let entry = format!("{{purgatory}}:entry:{}", event.id);
    let placeholder = format!("{{purgatory}}:placeholder:{tail}");

    let deleted: u64 = fixture.server().ask(&["DEL", &entry, &placeholder]).await;
    assert_eq!(deleted, 2);

    let reading = fixture.read(&["repo"]).await;
    assert_eq!((reading.entries.len(), reading.placeholders.len()), (0, 0));
    let pubkey = author.public_key().to_hex();
    for index in [format!("own:{pubkey}"), format!("placeholders:{pubkey}:repo")] {
        let index = format!("{{purgatory}}:{index}");
        let left: bool = fixture.server().ask(&["EXISTS", &index]).await;
        assert!(!left, "{index}");
    }
    let overdue = fixture.purgatory.mark_overdue(9, 0).await.unwrap();
    assert_eq!(overdue, 0);
    for set in ["{purgatory}:entries", "{purgatory}:placeholders", "{purgatory}:bytes"] {
        let left: bool = fixture.server().ask(&["EXISTS", set]).await;
        assert!(!left, "{set}");
    }
    // Its place is free: an older announcement is held.
    let older = announcement(&author, 0);
    let outcome = fixture.purgatory.hold(&hold(&older, LONG)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Held);
}

#[tokio::test]
async fn what_a_crash_leaked_into_the_limits_stops_counting() {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let server = fixture.server();
    let old = (server.now().await - 48 * 3600).to_string();
    let author_key = format!("{{purgatory}}:author:{}", author.public_key().to_hex());
    let bytes_key = format!("{{purgatory}}:author_bytes:{}", author.public_key().to_hex());
    for count in 0..9 {
        for key in ["{purgatory}:entries", &author_key] {
            let _: u64 = server.ask(&["ZADD", key, &old, &format!("{count}:10000")]).await;
        }
    }
    // Most of two days and a span ago.
    let counts = [
        format!("{{purgatory}}:own_counts:{}", author.public_key().to_hex()),
        "{purgatory}:source_counts:IP4%20203.0.113.7".to_owned(),
    ];
    let span = (server.now().await / SPAN_SECS - 48 * 3600 / SPAN_SECS - 1).to_string();
    for key in &counts {
        let _: u64 = server.ask(&["HSET", key, &span, "9:90000"]).await;
    }
    let sums = ["{purgatory}:bytes", &bytes_key];
    for sum in sums {
        let () = server.ask(&["SET", sum, "90000"]).await;
    }

    let outcome = fixture.purgatory.hold(&hold(&state(&author, 1), LONG)).await;

    assert_eq!(outcome.unwrap(), HoldOutcome::Held);
    let entries: u64 = server.ask(&["ZCARD", "{purgatory}:entries"]).await;
    assert_eq!(entries, 1);
    for sum in sums {
        let bytes: Option<u64> = server.ask(&["GET", sum]).await;
        assert!(bytes.unwrap_or(0) < 10_000, "{sum}: {bytes:?}");
    }
    for key in &counts {
        let spans: Vec<String> = server.ask(&["HKEYS", key]).await;
        assert!(spans.len() == 1 && spans[0] != span, "{key}: {spans:?}");
    }
}

/// Of a span of which a part has not ended for long, all count.
#[tokio::test]
async fn what_a_crash_leaked_counts_for_two_days_and_no_less() {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let server = fixture.server();
    let key = format!("{{purgatory}}:own_counts:{}", author.public_key().to_hex());
    let span = ((server.now().await - 48 * 3600) / SPAN_SECS + 1).to_string();
    let _: u64 = server.ask(&["HSET", &key, &span, "9:90000"]).await;

    let outcome = fixture.purgatory.hold(&hold(&state(&author, 1), LONG)).await;

    assert_eq!(outcome.unwrap(), HoldOutcome::Full(Limit::EntriesPerAuthor));
}

/// How long the span of deadlines is that are counted together.
const SPAN_SECS: u64 = 6 * 3600;

#[tokio::test]
async fn what_a_crash_leaked_is_taken_out_of_a_limit_that_others_count_in() {
    let fixture = Fixture::redis().await;
    let server = fixture.server();
    let event = state(&Keys::generate(), 1);
    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    let before: u64 = server.ask(&["GET", "{purgatory}:bytes"]).await;
    let old = (server.now().await - 48 * 3600).to_string();
    let _: u64 = server.ask(&["ZADD", "{purgatory}:entries", &old, "leaked:70000"]).await;
    let _: u64 = server.ask(&["INCRBY", "{purgatory}:bytes", "70000"]).await;

    let outcome = fixture.purgatory.hold(&hold(&state(&Keys::generate(), 1), LONG)).await;

    assert_eq!(outcome.unwrap(), HoldOutcome::Held);
    let after: u64 = server.ask(&["GET", "{purgatory}:bytes"]).await;
    assert!(after.abs_diff(2 * before) < 10, "{after} for two of {before}");
}

/// A PR is looked at again long before its deadline, and no gateway may run meanwhile.
#[tokio::test]
async fn what_is_here_is_not_taken_for_leaked_however_late_it_is() {
    let fixture = Fixture::redis().await;
    let server = fixture.server();
    let event = state(&Keys::generate(), 1);
    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    let member = format!("{}:{}", event.id, event.as_json().len());
    let old = (server.now().await - 49 * 3600).to_string();
    let new: u64 = server.ask(&["ZADD", "{purgatory}:entries", &old, &member]).await;
    assert_eq!(new, 0, "it was there");

    let outcome = fixture.purgatory.hold(&hold(&state(&Keys::generate(), 1), LONG)).await;

    assert_eq!(outcome.unwrap(), HoldOutcome::Held);
    fixture.clear_dirty().await;
    assert_eq!(fixture.purgatory.mark_overdue(9, LONG).await.unwrap(), 1);
    assert_eq!(fixture.clear_dirty().await, ["repo"]);
}

#[tokio::test]
async fn only_what_waits_has_a_backstop() {
    let fixture = Fixture::redis().await;
    let event = announcement(&Keys::generate(), 1);
    let key = format!("{{purgatory}}:entry:{}", event.id);
    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    let deadline = fixture.entry(&event).await.unwrap().deadline;

    let author = event.pubkey.to_hex();
    for key in [
        &key,
        &format!("{{purgatory}}:own_counts:{author}"),
        "{purgatory}:source_counts:IP4%20203.0.113.7",
    ] {
        let ends: u64 = fixture.server().ask(&["EXPIRETIME", key]).await;
        assert_eq!(ends, deadline + 48 * 3600, "{key}");
    }

    let leased = fixture.purgatory.mark_releasing(&[release(&event)], LONG).await;
    assert_eq!(leased.unwrap().leased.len(), 1);
    let ends: i64 = fixture.server().ask(&["EXPIRETIME", &key]).await;
    assert_eq!(ends, -1);
}

#[tokio::test]
async fn every_hold_writes() {
    // WAIT confirms what its connection wrote last: a repeated hold that wrote nothing would confirm nothing.
    let fixture = Fixture::redis().await;
    let event = state(&Keys::generate(), 1);
    let key = format!("{{purgatory}}:entry:{}", event.id);
    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    let _: u64 = fixture.server().ask(&["HSET", &key, "last_seen", "0"]).await;

    fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();

    let last_seen: u64 = fixture.server().ask(&["HGET", &key, "last_seen"]).await;
    assert_ne!(last_seen, 0);
}

#[tokio::test]
async fn what_a_replica_does_not_have_is_not_held_and_held_when_it_is_back() {
    let master = RedisServer::start_with(&["--save", "", "--repl-diskless-sync-delay", "0"]).await;
    let replica = RedisServer::start_with(&["--save", "", "--replicaof", "127.0.0.1", &master.port()]).await;
    replicated(&replica).await;
    let settings = RedisSettings {
        replicas: 1,
        // Long enough for a machine that is busy.
        replicas_wait: Duration::from_secs(10),
        ..settings(&master.url())
    };
    let patient = Purgatory::connect(&settings, LIMITS).await.unwrap();
    let author = Keys::generate();
    let [first, second] = [1, 2].map(|at| state(&author, at));
    let held = HoldOutcome::Held;
    assert_eq!(patient.hold(&hold(&first, LONG)).await.unwrap(), held);
    let key = format!("{{purgatory}}:entry:{}", first.id);
    assert!(replica.ask::<bool>(&["EXISTS", &key]).await);

    replica.signal("-STOP");
    let settings = RedisSettings {
        replicas_wait: Duration::from_millis(100),
        ..settings
    };
    let hasty = Purgatory::connect(&settings, LIMITS).await.unwrap();
    // The second one would find itself held, and is no better off.
    for _ in 0..2 {
        let error = hasty.hold(&hold(&second, LONG)).await.unwrap_err();
        assert!(
            matches!(
                error,
                PurgatoryError::Unconfirmed {
                    confirmed: 0,
                    wanted: 1,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    let place = coordinate(&author, "repo");
    let put = hasty.put_placeholder(&first.id, &place, oid('a'), LONG, None);
    assert!(matches!(put.await, Err(PurgatoryError::Unconfirmed { .. })));
    // Everything else goes on.
    assert_eq!(hasty.read(&everybodys(&["repo"])).await.unwrap().entries.len(), 2);

    replica.signal("-CONT");
    replicated(&replica).await;
    let again = patient.hold(&hold(&second, LONG)).await.unwrap();
    assert_eq!(again, HoldOutcome::AlreadyHeld(EntryStatus::Held));
    let key = format!("{{purgatory}}:entry:{}", second.id);
    assert!(replica.ask::<bool>(&["EXISTS", &key]).await);
}

/// Waits until a replica follows its master.
async fn replicated(replica: &RedisServer) {
    let start = Instant::now();
    loop {
        let info: String = replica.ask(&["INFO", "replication"]).await;
        if info.contains("master_link_status:up") {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no replication: {info}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_an_epoch_ends_with_is_told_apart() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let purgatory = connect(&server).await;
    let new = purgatory.epoch().await.unwrap();
    assert!(new.is_unknown());
    let first = purgatory.begin_epoch(&new).await.unwrap();

    server.kill();
    server.start_again().await;
    let connected_anew = connect(&server).await;
    let restarted = connected_anew.epoch().await.unwrap();
    assert_eq!(restarted.name, first);
    assert!(!restarted.is_unknown() && restarted.is_of_another_server());
    let second = connected_anew.begin_epoch(&restarted).await.unwrap();
    assert!(!connected_anew.epoch().await.unwrap().is_of_another_server());

    let () = server.ask(&["FLUSHALL"]).await;
    let emptied = connected_anew.epoch().await.unwrap();
    assert!(emptied.is_unknown());
    let third = connected_anew.begin_epoch(&emptied).await.unwrap();
    // The same server, and yet another epoch: who missed the loss can tell.
    assert_eq!(BTreeSet::from([first, second, third]).len(), 3);
}

#[tokio::test]
async fn numbers_are_not_used_again_after_redis_lost_everything() {
    let fixture = Fixture::redis().await;
    let name = coordinates(&["repo"]);
    fixture.purgatory.mark_dirty(&name).await.unwrap();
    let (repo, number) = fixture.purgatory.dirty(1).await.unwrap().remove(0);

    let () = fixture.server().ask(&["FLUSHALL"]).await;
    fixture.let_a_second_pass().await;
    fixture.purgatory.mark_dirty(&name).await.unwrap();

    assert!(!fixture.purgatory.clear_dirty(&repo, number).await.unwrap());
    let again = fixture.purgatory.dirty(1).await.unwrap();
    assert!(again[0].1 > number);
}

/// A replica becomes the master, and has not heard of the last numbers.
#[tokio::test]
async fn numbers_are_not_used_again_when_the_counter_goes_back() {
    let fixture = Fixture::redis().await;
    let name = coordinates(&["repo"]);
    fixture.purgatory.mark_dirty(&name).await.unwrap();
    let (repo, first) = fixture.purgatory.dirty(1).await.unwrap().remove(0);
    let heard_of: String = fixture.server().ask(&["GET", "{purgatory}:changes"]).await;
    fixture.purgatory.mark_dirty(&name).await.unwrap();
    let (_, number) = fixture.purgatory.dirty(1).await.unwrap().remove(0);

    let () = fixture.server().ask(&["SET", "{purgatory}:changes", &heard_of]).await;
    fixture.purgatory.mark_dirty(&name).await.unwrap();

    assert!(first < number);
    assert!(!fixture.purgatory.clear_dirty(&repo, number).await.unwrap());
    assert!(fixture.purgatory.dirty(1).await.unwrap()[0].1 > number);
}

/// Counts the scripts and the commands that clients asked for since the last count.
async fn calls(server: &RedisServer, connection: &mut MultiplexedConnection) -> (u64, u64) {
    let stats: String = cmd("INFO").arg("commandstats").query_async(connection).await.unwrap();
    let _: () = server.ask(&["CONFIG", "RESETSTAT"]).await;
    let count = |command: &str| {
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    (count("evalsha"), count("eval") + count("script|load"))
}

#[tokio::test]
async fn reading_and_holding_are_one_round_trip_each() {
    let fixture = Fixture::redis().await;
    let server = fixture.server();
    let mut connection = server.connection().await;
    let author = Keys::generate();
    calls(server, &mut connection).await;

    for at in 1..=2 {
        let event = announcement(&author, at);
        fixture.purgatory.hold(&hold(&event, LONG)).await.unwrap();
        assert_eq!(calls(server, &mut connection).await, (1, 0));
        fixture.read(&["repo", "a", "b"]).await;
        assert_eq!(calls(server, &mut connection).await, (1, 0));
    }
}

#[tokio::test]
async fn the_shipped_settings_are_what_the_check_wants() {
    let config = repository_root().join("strfry-config/redis.conf");
    let server = RedisServer::start_with(&[config.to_str().unwrap()]).await;

    let warnings = connect(&server).await.check_server().await.unwrap();

    assert_eq!(warnings, []);
}

#[tokio::test]
async fn settings_that_lose_events_are_named() {
    let server = RedisServer::start_with(&[
        "--appendonly",
        "no",
        "--appendfsync",
        "everysec",
        "--no-appendfsync-on-rewrite",
        "yes",
        "--maxmemory-policy",
        "allkeys-lru",
    ])
    .await;

    let warnings = connect(&server).await.check_server().await.unwrap();

    let off = [
        "appendonly no",
        "appendfsync everysec",
        "no-appendfsync-on-rewrite yes",
        "maxmemory-policy allkeys-lru",
    ];
    assert_eq!(warnings.len(), off.len());
    for (warning, setting) in warnings.iter().zip(off) {
        assert!(warning.finding.contains(setting), "{warning}");
    }
}

#[tokio::test]
async fn the_rights_named_in_the_doc_are_enough() {
    let doc = std::fs::read_to_string(repository_root().join("docs/redis.md")).unwrap();
    let rules = doc.split("(`ACL SETUSER`): `").nth(1).unwrap();
    let rules = rules.split('`').next().unwrap();
    let fixture = Fixture::redis().await;
    let server = fixture.server();
    let mut command = vec!["ACL", "SETUSER", "grasp", "on", ">secret"];
    command.extend(rules.split(' '));
    let () = server.ask(&command).await;
    let url = server.url().replace("redis://", "redis://grasp:secret@");

    let purgatory = Purgatory::connect(&settings(&url), LIMITS).await.unwrap();
    let event = state(&Keys::generate(), 1);
    purgatory.hold(&hold(&event, LONG)).await.unwrap();
    purgatory.read(&everybodys(&["repo"])).await.unwrap();
    assert_eq!(purgatory.dirty(9).await.unwrap().len(), 1);
    let mut notifications = purgatory.notifications();
    let woken = tokio::time::timeout(RECOVERY, notifications.next()).await;
    assert!(woken.is_ok());
    let warnings = purgatory.check_server().await.unwrap();
    let is_about_rights = |fault: &&ServerFault| fault.finding.contains("does not");
    assert_eq!(warnings.iter().filter(is_about_rights).count(), 0, "{warnings:?}");

    let () = server.ask(&["ACL", "SETUSER", "grasp", "-config|get"]).await;
    let warnings = purgatory.check_server().await.unwrap();
    assert!(warnings.iter().all(|fault| fault.finding.contains("does not report")));
    assert_eq!(warnings.len(), 4);
}

/// Everything started without a word, then each git event was refused.
#[tokio::test]
async fn each_right_that_the_user_does_not_have_is_named() {
    let server = RedisServer::start().await;
    for (missing, named) in [
        ("-evalsha", &["EVALSHA"][..]),
        ("-script|load", &["EVALSHA"]),
        ("-zadd -hset", &["HSET", "ZADD"]),
        ("-info", &["INFO"]),
        ("-publish", &["PUBLISH"]),
        ("-subscribe", &["SUBSCRIBE"]),
        ("resetchannels", &["PUBLISH", "SUBSCRIBE"]),
        ("-@write", &["SET", "HSET", "ZADD", "DEL"]),
        ("resetkeys ~other:*", &["EVALSHA"]),
    ] {
        let () = server.ask(&["SCRIPT", "FLUSH"]).await;
        let () = server.ask(&["ACL", "SETUSER", "grasp", "reset"]).await;
        let rules = format!("on >secret ~{{purgatory}}:* &{{purgatory}}:wake +@all {missing}");
        let mut command = vec!["ACL", "SETUSER", "grasp"];
        command.extend(rules.split(' '));
        let () = server.ask(&command).await;
        let url = server.url().replace("redis://", "redis://grasp:secret@");
        let purgatory = Purgatory::connect(&settings(&url), LIMITS).await.unwrap();

        let warnings = purgatory.check_server().await.unwrap();

        for command in named {
            assert!(
                warnings.iter().any(|fault| is_refused(fault, command)),
                "{missing}: {command} in {warnings:#?}"
            );
        }
    }
    let left: Vec<String> = server.ask(&["KEYS", "*probe:*"]).await;
    assert_eq!(left, [""; 0]);

    // One that is no Redis and lacks a command.
    let other = RedisServer::start_with(&["--rename-command", "ZREMRANGEBYRANK", ""]).await;
    let warnings = connect(&other).await.check_server().await.unwrap();
    let lacking = warnings.iter().filter(|fault| is_refused(fault, "ZREMRANGEBYRANK"));
    assert_eq!(lacking.count(), 1, "{warnings:#?}");
}

/// Whether the server is said not to do a command.
fn is_refused(fault: &ServerFault, command: &str) -> bool {
    let commands = fault.finding.strip_prefix("redis does not run ");
    let commands = commands.and_then(|rest| rest.split_once(" for the purgatory"));
    commands.is_some_and(|(commands, _)| commands.split(", ").any(|refused| refused == command))
}

#[tokio::test]
async fn a_redis_at_a_unix_socket_is_used_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis socket");
    let server = RedisServer::start_with(&["--unixsocket", socket.to_str().unwrap()]).await;
    let () = server
        .ask(&["ACL", "SETUSER", "grasp", "on", ">p@ss w", "~*", "&*", "+@all"])
        .await;
    let path = socket.to_str().unwrap().replace(' ', "%20");

    let url = format!("unix://{path}?user=grasp&pass=p%40ss+w");
    let purgatory = Purgatory::connect(&settings(&url), LIMITS).await.unwrap();

    let event = state(&Keys::generate(), 1);
    assert_eq!(purgatory.hold(&hold(&event, LONG)).await.unwrap(), HoldOutcome::Held);
    let mut notifications = purgatory.notifications();
    let woken = tokio::time::timeout(RECOVERY, notifications.next()).await;
    assert!(woken.is_ok());
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let closed = "redis://user:hunter2@127.0.0.1:1/";
    let purgatory = Purgatory::connect(&settings(closed), LIMITS).await.unwrap();
    let unavailable = purgatory.dirty(1).await.unwrap_err();
    let server = RedisServer::start().await;
    let wrong = server.url().replace("redis://", "redis://user:hunter2@");
    let purgatory = Purgatory::connect(&settings(&wrong), LIMITS).await.unwrap();
    let refused = purgatory.dirty(1).await.unwrap_err();
    let unusable = Purgatory::connect(&settings("http://user:hunter2@host/"), LIMITS).await;

    let mut errors = vec![unavailable, refused];
    errors.extend(unusable.err());

    assert_eq!(errors.len(), 3);
    for error in &errors {
        let mut text = format!("{error} {error:?}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(matches!(
        &errors[..],
        [
            PurgatoryError::Unavailable { .. },
            PurgatoryError::Script { .. },
            PurgatoryError::Url { .. }
        ]
    ));
}

#[tokio::test]
async fn what_people_spoil_is_named_and_stops_nobody_else() {
    let fixture = Fixture::redis().await;
    let author = Keys::generate();
    let [spoilt, good] = [1, 2].map(|at| state(&author, at));
    let releases = [release(&spoilt), release(&good)];
    let leased = fixture.purgatory.mark_releasing(&releases, 0).await;
    assert_eq!(leased.unwrap().leased.len(), 2);
    let key = format!("{{purgatory}}:entry:{}", spoilt.id);
    let _: u64 = fixture.server().ask(&["HSET", &key, "event", "{}"]).await;

    let repo = everybodys(&["repo"]);
    let error = fixture.purgatory.read(&repo).await.unwrap_err();
    assert!(matches!(error, PurgatoryError::Protocol { .. }));
    let taken = fixture.purgatory.take_due(9, LONG).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event, good);
}

/// Rows of the table under `heading` in docs/redis.md: the first cell without backquotes, and the second.
fn documented(doc: &str, heading: &str) -> BTreeMap<String, String> {
    let section = doc.split_once(heading).unwrap().1;
    let section = section.split("\n#").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| {
            let second = rest.split(" | ").next().unwrap();
            (name.to_owned(), second.to_owned())
        })
        .collect()
}

#[tokio::test]
async fn redis_holds_the_keys_types_and_fields_of_the_doc_and_no_others() {
    let doc = std::fs::read_to_string(repository_root().join("docs/redis.md")).unwrap();
    let keys = documented(&doc, "## Keys");
    let (fixture, author) = (Fixture::redis().await, Keys::generate());
    fixture.set_limits_of_one_repository();
    let [held, releasing, behind] = [1, 2, 3].map(|at| state(&author, at));
    let announcement = listing(&author, 1, &[&Keys::generate()]);
    for event in [&held, &announcement] {
        fixture.purgatory.hold(&hold(event, LONG)).await.unwrap();
    }
    fill_fields(&fixture, &held, &releasing).await;
    let behind = Release {
        after: ids([&releasing]),
        ..release(&behind)
    };
    let marked = fixture.purgatory.mark_releasing(&[behind], LONG).await;
    assert_eq!(marked.unwrap().waiting.len(), 1);
    let place = coordinate(&author, "repo");
    let put = fixture
        .purgatory
        .put_placeholder(&held.id, &place, oid('a'), LONG, Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(put.await.unwrap(), PlaceholderOutcome::Recorded);
    let pr = Hold {
        coordinates: home(&held),
        ..hold_from(&event(&Keys::generate(), 1618, "unused", 1), "IP6 2001:db8::7")
    };
    fixture.purgatory.hold(&pr).await.unwrap();
    fixture.purgatory.begin_rounds(&home(&held)).await.unwrap();
    let related = Hold {
        coordinates: BTreeSet::new(),
        behind: Some(Behind {
            refers_to: ids([&pr.event]),
            last_lease: String::new(),
            may_be_early: false,
        }),
        ..hold(&event(&Keys::generate(), 1111, "unused", 1), LONG)
    };
    assert_eq!(fixture.purgatory.hold(&related).await.unwrap(), HoldOutcome::Held);
    let deletion = Deletion {
        author: author.public_key(),
        created_at: 0,
        event_ids: ids([&state(&author, 3)]),
        addresses: BTreeSet::from([(30617, identifier("x"))]),
    };
    fixture.purgatory.delete(&deletion).await.unwrap();
    let vanished = fixture.purgatory.vanish(&author.public_key(), 0).await;
    assert_eq!(vanished.unwrap(), 0, "all are later");
    fill_keys_of_the_server(&fixture.purgatory).await;
    let server = fixture.server();
    write_keys_of_earlier_versions(server).await;

    let found: Vec<String> = server.ask(&["KEYS", "*"]).await;
    let (mut seen, mut seen_fields) = (BTreeSet::new(), BTreeSet::new());
    for key in &found {
        let form = form_of(key, &keys);
        let kind: String = server.ask(&["TYPE", key]).await;
        assert_eq!(kind, keys[&form], "{key}");
        let heading = match form.as_str() {
            "{purgatory}:entry:<event-id>" => Some("### Fields of an entry"),
            form if form.starts_with("{purgatory}:placeholder:") => Some("### Fields of a placeholder"),
            _ => None,
        };
        if let Some(heading) = heading {
            let fields: Vec<String> = server.ask(&["HKEYS", key]).await;
            seen_fields.extend(fields.into_iter().map(|field| (heading, field)));
        }
        seen.insert(form);
    }
    assert_eq!(seen, keys.into_keys().collect());
    let headings = ["### Fields of an entry", "### Fields of a placeholder"];
    let fields = headings.map(|heading| documented(&doc, heading).into_keys().map(move |field| (heading, field)));
    assert_eq!(seen_fields, fields.into_iter().flatten().collect());
}

async fn write_keys_of_earlier_versions(server: &RedisServer) {
    let of_repository = format!("{}:repo", "a".repeat(64));
    let sets = [
        "deadlines".to_owned(),
        format!("announcements:{of_repository}"),
        format!("coordinate:{of_repository}"),
        "source:IP4%20203.0.113.7".to_owned(),
    ];
    for set in sets {
        let set = format!("{{purgatory}}:{set}");
        server.ask::<u64>(&["ZADD", &set, "1", "an id"]).await;
    }
    let texts = [
        format!("announcement:{of_repository}"),
        "source_bytes:IP4%20203.0.113.7".to_owned(),
    ];
    for text in texts {
        let () = server.ask(&["SET", &format!("{{purgatory}}:{text}"), "1"]).await;
    }
}

/// Writes what an entry has only later: one that is held, and one that is releasing and was not taken by the relay.
async fn fill_fields(fixture: &Fixture, held: &Event, releasing: &Event) {
    let again = fixture.purgatory.hold(&hold(held, LONG)).await;
    assert_eq!(again.unwrap(), HoldOutcome::AlreadyHeld(EntryStatus::Held));
    let note = BTreeMap::from([(held.id, "an object".to_owned())]);
    fixture.purgatory.note_waiting(&note).await.unwrap();
    let leased = fixture.purgatory.mark_releasing(&[release(releasing)], LONG).await;
    let retry = Settlement::Retry {
        after_secs: 0,
        error: "down".to_owned(),
    };
    let lease = leased.unwrap().leased[0].lease;
    assert!(fixture.purgatory.settle(&releasing.id, lease, &retry).await.unwrap());
    assert_eq!(fixture.purgatory.take_due(1, LONG).await.unwrap().len(), 1);
}

/// Writes what stands for no event.
async fn fill_keys_of_the_server(purgatory: &Purgatory) {
    let hold = Hold {
        is_new_repository: true,
        ..hold(&announcement(&Keys::generate(), 1), LONG)
    };
    assert_eq!(purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
    purgatory.check_server().await.unwrap();
    let epoch = purgatory.epoch().await.unwrap();
    purgatory.begin_epoch(&epoch).await.unwrap();
    purgatory.report_settings("plugin", "{}", LONG).await.unwrap();
    purgatory.note_refusal(&NotedRefusal::default()).await.unwrap();
    let decisions = [("state:held".to_owned(), 1)];
    purgatory.add_decisions(&decisions).await.unwrap();
}

/// Finds the documented form of a key: the same parts, where `<...>` stands for any one part.
fn form_of(key: &str, forms: &BTreeMap<String, String>) -> String {
    let parts: Vec<_> = key.split(':').collect();
    let mut matching = forms.keys().filter(|form| {
        let form: Vec<_> = form.split(':').collect();
        form.len() == parts.len()
            && form
                .iter()
                .zip(&parts)
                .all(|(form, part)| form.starts_with('<') || form == part)
    });
    let form = matching.next().unwrap_or_else(|| panic!("{key} has no doc"));
    assert_eq!(matching.next(), None, "{key} is ambiguous");
    form.clone()
}
