//! The Redis with the purgatory dies and another takes over, by Sentinel and in a Cluster: every event that was
//! answered OK is held there, the others were refused, and the programs recover without a restart
//! (docs/ARCHITECTURE.md rule 1).

use nostr::event::Event;
use redis::cmd;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::redis::RedisSetup;
use tests::harness::redis_connection::connect;
use tests::harness::redis_topology::Mode;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_is_held_after_a_failover_by_sentinel() {
    what_was_promised_is_held_after_a_failover(Mode::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_is_held_after_a_failover_in_a_cluster() {
    what_was_promised_is_held_after_a_failover(Mode::Cluster).await;
}

async fn what_was_promised_is_held_after_a_failover(mode: Mode) {
    let options = Options {
        redis: RedisSetup::Failover(mode),
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let mut nostr = world.nostr().await;
    // On a busy machine the plugin has to find the master first, and is patient for a second only.
    eventually("an event is held", async || {
        ask_for_one(&world, &mut nostr).await.is_some()
    })
    .await;
    let served = Served::new(&world, &mut nostr, "served").await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    let mut promised = vec![state.clone()];
    for _ in 0..10 {
        promised.extend(ask_for_one(&world, &mut nostr).await);
    }

    world.redis().topology().kill_master();

    let mut refused = 0;
    let promised_before = promised.len();
    eventually("events are held again", async || {
        match ask_for_one(&world, &mut nostr).await {
            Some(event) => promised.push(event),
            None => refused += 1,
        }
        refused > 0 && promised.len() >= promised_before + 10
    })
    .await;
    let clone = world.clone(&served.repository, "clone").await.expect("reads go on");
    assert_eq!(clone.rev_parse("HEAD").await, served.commit);
    let successor = world.redis().topology().successor().await;
    let mut connection = connect(&format!("redis://127.0.0.1:{successor}")).await.unwrap();
    for event in &promised {
        let key = format!("{{purgatory}}:entry:{}", event.id);
        let status: Option<String> = cmd("HGET")
            .arg(key)
            .arg("status")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(status.as_deref(), Some("held"), "{}", event.id);
    }
    eventually("the push goes through", async || {
        served.git.push(&served.url, &["main"]).await.ok
    })
    .await;
    assert!(nostr.serves(&state).await);
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second)]);
    eventually("the gateway has noticed", async || {
        world
            .gateway_log()
            .contains("a new epoch of the purgatory begins loss=LastWrites")
    })
    .await;
}

/// Sends an announcement, and returns it if it is promised to be held.
async fn ask_for_one(world: &World, nostr: &mut NostrClient) -> Option<Event> {
    let event = world.announcement(&Repository::new("r"), now(), &[]);
    let answer = nostr.send(&event).await;
    if answer == held() {
        return Some(event);
    }
    assert!(!answer.taken && answer.message.starts_with("error: "), "{answer:?}");
    None
}
