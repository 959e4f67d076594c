//! How many new repositories one source may announce in a day.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use nostr::key::Keys;
use shared::purgatory::*;

use crate::fixture::*;

const FULL: HoldOutcome = HoldOutcome::Full(Limit::NewRepositoriesPerSource);

fn of_a_new_repository(source: &str) -> Hold {
    Hold {
        is_new_repository: true,
        ..hold_from(&announcement(&Keys::generate(), 1), source)
    }
}

/// Holds the announcement of a new repository, and ends it again if it is held: other limits are not asked here.
async fn offer(purgatory: &Purgatory, source: &str) -> HoldOutcome {
    let offered = of_a_new_repository(source);
    let outcome = purgatory.hold(&offered).await.unwrap();
    purgatory.end(&ids([&offered.event])).await.unwrap();
    outcome
}

async fn of_one_source_so_many_are_held_in_a_day(p: Fixture) {
    for host in 1..=LIMITS.new_repositories_per_day_max {
        let source = format!("IP6 2001:db8:1:2::{host}");
        assert_eq!(offer(&p.purgatory, &source).await, HoldOutcome::Held);
    }
    p.clear_dirty().await;

    assert_eq!(offer(&p.purgatory, "IP6 2001:db8:1:2::99").await, FULL);

    assert_eq!(p.clear_dirty().await, [""; 0], "nothing has changed");
    assert_eq!(offer(&p.purgatory, "IP6 2001:db8:1:3::1").await, HoldOutcome::Held);
    let here_already = hold_from(&announcement(&Keys::generate(), 1), "IP6 2001:db8:1:2::1");
    assert_eq!(p.purgatory.hold(&here_already).await.unwrap(), HoldOutcome::Held);
    let complete = Hold {
        room: Room::Always,
        ..of_a_new_repository("IP6 2001:db8:1:2::1")
    };
    assert_eq!(p.purgatory.hold(&complete).await.unwrap(), HoldOutcome::Held);
}

#[tokio::test]
async fn of_one_source_so_many_are_held_in_a_day_in_memory() {
    of_one_source_so_many_are_held_in_a_day(Fixture::memory()).await;
}

#[tokio::test]
async fn of_one_source_so_many_are_held_in_a_day_in_redis() {
    of_one_source_so_many_are_held_in_a_day(Fixture::redis().await).await;
}

/// A client that sends its announcement again, because it has not heard the answer, pays once.
#[tokio::test]
async fn an_announcement_that_is_sent_again_counts_once() {
    let p = Fixture::memory();
    let offered = of_a_new_repository("IP4 192.0.2.1");
    for _ in 0..9 {
        p.purgatory.hold(&offered).await.unwrap();
    }

    assert_eq!(offer(&p.purgatory, "IP4 192.0.2.1").await, HoldOutcome::Held);
}

/// What is refused at another limit takes nothing of the share.
#[tokio::test]
async fn a_refused_announcement_does_not_count() {
    let p = Fixture::memory();
    for _ in 0..9 {
        let large = large_event(&Keys::generate(), 30617, "repo", 1, LIMITS.event_bytes_max as usize);
        let large = Hold {
            is_new_repository: true,
            ..hold_from(&large, "IP4 192.0.2.1")
        };
        let outcome = p.purgatory.hold(&large).await.unwrap();
        assert_eq!(outcome, HoldOutcome::Full(Limit::EventBytes));
    }

    assert_eq!(offer(&p.purgatory, "IP4 192.0.2.1").await, HoldOutcome::Held);
}

#[tokio::test]
async fn a_share_comes_back_in_a_day() {
    let time = Arc::new(AtomicU64::new(1_700_000_000));
    let clock = Arc::clone(&time);
    let day_max = 1_000;
    let limits = Limits {
        new_repositories_per_day_max: day_max,
        ..LIMITS
    };
    let purgatory = Purgatory::in_memory(limits, Arc::new(move || clock.load(Ordering::Relaxed)));
    let source = "IP4 192.0.2.1";
    for number in 0..day_max {
        assert_eq!(offer(&purgatory, source).await, HoldOutcome::Held, "{number}");
    }
    assert_eq!(offer(&purgatory, source).await, FULL);

    // A part of a day later there is room for that part.
    time.fetch_add(DAY_SECS * 10 / day_max, Ordering::Relaxed);
    for number in 0..10 {
        assert_eq!(offer(&purgatory, source).await, HoldOutcome::Held, "{number}");
    }
    assert_eq!(offer(&purgatory, source).await, FULL);

    time.fetch_add(2 * DAY_SECS, Ordering::Relaxed);
    for number in 0..day_max {
        assert_eq!(offer(&purgatory, source).await, HoldOutcome::Held, "{number}");
    }
    assert_eq!(offer(&purgatory, source).await, FULL);
}

/// Redis' clock was a month ahead for a moment.
#[tokio::test]
async fn what_was_counted_while_the_clock_was_ahead_keeps_nobody_out() {
    let fixture = Fixture::redis().await;
    let server = fixture.server();
    let ahead = (server.now().await + 30 * DAY_SECS) * 1_000_000;
    let key = "{purgatory}:new_repositories";
    let _: u64 = server.ask(&["ZADD", key, &ahead.to_string(), "IP4 192.0.2.1"]).await;

    for _ in 0..LIMITS.new_repositories_per_day_max {
        assert_eq!(offer(&fixture.purgatory, "IP4 192.0.2.1").await, HoldOutcome::Held);
    }
    assert_eq!(offer(&fixture.purgatory, "IP4 192.0.2.1").await, FULL);
}

/// Who comes from very many addresses makes none forgotten that has announced much.
#[tokio::test]
async fn so_many_sources_are_remembered_and_those_longest_that_announced_most() {
    let fixture = Fixture::redis().await;
    let server = fixture.server();
    let greedy = "IP4 192.0.2.1";
    for _ in 0..LIMITS.new_repositories_per_day_max {
        offer(&fixture.purgatory, greedy).await;
    }
    let now = server.now().await;
    let key = "{purgatory}:new_repositories";
    let filled =
        format!("for n = 1, {SOURCES_MAX} do redis.call('ZADD', KEYS[1], ({now} + 1) * 1000000 + n, 'IP4 ' .. n) end");
    let () = server.ask(&["EVAL", &filled, "1", key]).await;

    assert_eq!(offer(&fixture.purgatory, "IP4 192.0.2.2").await, HoldOutcome::Held);

    let kept: u64 = server.ask(&["ZCARD", key]).await;
    assert_eq!(kept, SOURCES_MAX);
    assert_eq!(offer(&fixture.purgatory, greedy).await, FULL);
    let ends: i64 = server.ask(&["TTL", key]).await;
    assert!((1..=DAY_SECS as i64 + 1).contains(&ends), "{ends}");
}

const DAY_SECS: u64 = 24 * 60 * 60;
/// How many sources are remembered.
const SOURCES_MAX: u64 = 20_000;
