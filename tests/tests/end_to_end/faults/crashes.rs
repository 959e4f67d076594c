//! The gateway goes and comes back; what was answered OK is still there. These need a Redis, so they run in the strfry
//! world only.

use nostr::key::Keys;
use redis::aio::MultiplexedConnection;
use shared::nip34;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::faults::held_refs::HeldRefs;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::Waiting;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::redis;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_goes_on_where_it_was() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let waiting = Waiting::new(&world, &mut nostr, "r").await;

    world.kill_gateway().await;
    world.start_gateway().await;

    let served = waiting.push().await;
    let mut nostr = world.nostr().await;
    assert!(nostr.serves(&served.announcement).await && nostr.serves(&served.state).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_was_there_in_time_is_released_after_the_deadline() {
    let options = Options {
        hold_secs: 2,
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let both = served.repository.state(
        now() - 50,
        &[("refs/heads/main", &served.commit), ("refs/heads/next", &second)],
    );
    assert_eq!(nostr.send(&both).await, held());
    served.git.push(&served.url, &["main:next"]).await.expect_ok();
    assert!(nostr.serves(&both).await);
    let relay = world.relay_url();

    world.kill_gateway().await;
    // Everything that it declares is on disk, but nobody is there to see.
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    let mut direct = NostrClient::connect(&relay).await;
    assert_eq!(direct.send(&state).await, held());
    let mut redis = redis(&world).await;
    let deadline = field(&mut redis, &state.id.to_hex(), "deadline").await.unwrap();
    eventually("the deadline is past", async || {
        redis_now(&mut redis).await > deadline.parse().unwrap()
    })
    .await;
    world.start_gateway().await;

    eventually("the state is served", async || direct.serves(&state).await).await;
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second)]);
}

/// A push answers before the worker has reconciled the PRs that its objects complete.
#[tokio::test(flavor = "multi_thread")]
async fn pull_requests_that_a_push_has_completed_are_served_after_a_kill() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let mut events = Vec::new();
    for _ in 0..70 {
        let event = served.repository.pull_request(&Keys::generate(), &second);
        assert_eq!(nostr.send(&event).await, held());
        events.push(event);
    }
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());

    served.git.push(&served.url, &["main"]).await.expect_ok();
    world.kill_gateway().await;
    world.start_gateway().await;

    let mut nostr = world.nostr().await;
    for event in &events {
        eventually("the PR is served", async || nostr.serves(event).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_shows_what_waits_and_for_what() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("my repo");
    let state = repository.state(now(), &[("refs/heads/main", &"a".repeat(40))]);
    nostr.send(&world.announcement(&repository, now(), &[])).await;
    nostr.send(&state).await;
    let mut redis = redis(&world).await;
    let id = state.id.to_hex();

    eventually("the gateway has reconciled", async || {
        field(&mut redis, &id, "waiting_for")
            .await
            .is_some_and(|text| text.contains(&"a".repeat(40)))
    })
    .await;

    for (name, value) in [
        ("kind", "30618".to_owned()),
        ("coordinates", format!("[\"{}\"]", repository.coordinate())),
        ("status", "held".to_owned()),
    ] {
        assert_eq!(field(&mut redis, &id, name).await, Some(value), "{name}");
    }
    let source = field(&mut redis, &id, "source").await.unwrap();
    assert_eq!(
        source, "IP4 127.0.0.1",
        "the client's address, not the gateway's word for itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_refused_while_the_relay_is_away_and_goes_through_when_it_is_back() {
    let options = Options {
        release_wait_secs: 2,
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());

    world.stop_relay().await;
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains("the relay does not answer, push again later"), "{said}");
    world.start_relay().await;

    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(world.nostr().await.serves(&state).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_start_says_that_held_events_end_with_the_process() {
    let world = World::start(Kind::Embedded, Options::default()).await;

    eventually("the server is up", async || world.gateway_log().contains("serving")).await;

    let log = world.gateway_log();

    assert!(
        log.contains("events that wait for git data end with this process"),
        "{log}"
    );
    assert!(log.contains("--redis-url"), "{log}");
}

async fn redis_now(redis: &mut MultiplexedConnection) -> u64 {
    let time: (u64, u64) = redis::cmd("TIME").query_async(redis).await.unwrap();
    time.0
}

/// A server that ended between taking a PR's commit and noting it waited for another push of it (ngit-grasp before
/// 3.0.6). What waits in memory ends with the process, so this is for the world with Redis.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_came_before_a_crash_is_found_by_its_event() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let name = format!("refs/nostr/{}", event.id);
    served
        .git
        .push(&served.url, &[&format!("main:{name}")])
        .await
        .expect_ok();

    world.kill_gateway().await;
    let mut direct = NostrClient::connect(&world.relay_url()).await;
    assert_eq!(direct.send(&event).await, held());
    world.start_gateway().await;

    eventually("the event is served", async || direct.serves(&event).await).await;
    let refs = served.git.ls_remote(&served.url).await;
    assert!(refs.contains(&(name, offered)), "{refs:?}");
}

/// Whoever reads what is served asks for no PR that is served already, but for those for which something is staged.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_objects_of_a_pr_and_its_ref_costs_no_ref() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let first = Served::new(&world, &mut nostr, "r").await;
    let second = Served::new(&world, &mut nostr, "s").await;
    let offered = first.git.commit("offer").await;
    let tags = [
        tag(&["a", &first.repository.coordinate().to_string()]),
        tag(&["a", &second.repository.coordinate().to_string()]),
        tag(&["c", &offered]),
    ];
    let event = sign(&Keys::generate(), nip34::PULL_REQUEST, now(), &tags);
    let name = format!("refs/nostr/{}", event.id);
    let refspec = format!("{offered}:{name}");
    let url = world.url(&second.repository);
    let mut direct = NostrClient::connect(&world.relay_url()).await;
    assert_eq!(direct.send(&event).await, held());
    first.git.push(&first.url, &[&refspec]).await.expect_ok();
    assert!(direct.serves(&event).await, "by its first repository");

    let refs = HeldRefs::of(&world.repository_dir(&second.repository));
    let push = async { first.git.push(&url, &[&refspec]).await };
    let pull_the_plug = async {
        refs.objects_are_in().await;
        world.kill_gateway().await;
    };
    let (said, ()) = tokio::join!(push, pull_the_plug);
    assert!(!said.ok, "{}", said.stderr);
    drop(refs);
    world.start_gateway().await;

    eventually("the second repository has the ref too", async || {
        let said = first.git.run(&["ls-remote", &url, &name]).await;
        said.stdout.starts_with(&offered)
    })
    .await;
    let staging = world.folder().join("data/staging");
    eventually("nothing is staged any more", async || {
        std::fs::read_dir(&staging).unwrap().next().is_none()
    })
    .await;
}

/// What was answered `ok` for a part is a promise that it is here.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_state_survive_a_killed_gateway() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let git = &served.git;
    let mut refs = vec![("refs/heads/main", served.commit.clone())];
    for name in ["refs/heads/a", "refs/heads/b", "refs/heads/c"] {
        refs.push((name, git.commit(&name.replace('/', "-")).await));
    }
    let declared: Vec<(&str, &str)> = refs.iter().map(|(name, oid)| (*name, oid.as_str())).collect();
    let state = served.repository.state(now() - 10, &declared);
    assert_eq!(nostr.send(&state).await, held());
    for (name, oid) in &refs[1..3] {
        let said = git.push(&served.url, &[&format!("{oid}:{name}")]).await;
        assert!(said.ok && said.stderr.contains("still missing: "), "{}", said.stderr);

        world.kill_gateway().await;
        world.start_gateway().await;
    }
    let before = served.refs().await;
    assert_eq!(before.len(), 1, "{before:?}");

    let (name, oid) = &refs[3];
    git.push(&served.url, &[&format!("{oid}:{name}")]).await.expect_ok();

    let mut nostr = world.nostr().await;
    assert!(nostr.serves(&state).await);
    assert_eq!(served.refs().await.len(), 4);
    let clone = world.clone(&served.repository, "clone").await.unwrap();
    clone.run(&["fsck", "--connectivity-only"]).await.expect_ok();
}
