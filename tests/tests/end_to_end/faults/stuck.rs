//! Events that the relay refuses for good (stuck, docs/GLOSSARY.md): the pusher and the operator read why, and the
//! event is published as soon as the relay takes it. Here events are refused because they grow older than the relay
//! takes while they wait, or are protected (NIP-70).

use nostr::event::Event;
use nostr::key::Keys;
use redis::aio::MultiplexedConnection;
use shared::nip01::AGE_SECS_MAX;
use tests::clients::git::Said;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::repository::Repository;
use tests::harness::strfry_import::Import;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::redis;

in_both_worlds!(a_state_that_the_relay_refuses_is_told_to_the_pusher_and_gives_way_to_a_newer_one);

async fn a_state_that_the_relay_refuses_is_told_to_the_pusher_and_gives_way_to_a_newer_one(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let url = world.url(&repository);
    let git = world.git("work").await;
    let commit = git.commit("one").await;
    let announcement = world.announcement(&repository, now(), &[]);
    let ageing = repository.state(just_young_enough(), &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&announcement).await, held());
    assert_eq!(nostr.send(&ageing).await, held());
    is_too_old(&ageing).await;

    let said = git.push(&url, &["main"]).await;

    assert_stuck(said, &ageing, "invalid: created_at too early");
    assert!(nostr.serves(&announcement).await && !nostr.serves(&ageing).await);
    let log = world.gateway_log();
    let line = log
        .lines()
        .find(|line| line.contains("the relay refuses a complete event"));
    let line = line.expect(&log);
    assert!(line.contains("ERROR") && line.contains(&ageing.id.to_hex()), "{line}");
    // It governs all the same.
    let clone = world.clone(&repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, commit);

    let second = git.commit("two").await;
    let newer = repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&newer).await, held());
    let said = git.push(&url, &["main"]).await;
    assert!(said.ok && !said.stderr.contains("remote:"), "{}", said.stderr);
    assert!(nostr.serves(&newer).await);
    // strfry checks its age first; it ends all the same, and does not come back every hour.
    if kind == Kind::Strfry {
        let mut redis = redis(&world).await;
        ask_again(&mut redis, &ageing).await;
        eventually("the old state is given up", async || {
            field(&mut redis, &ageing.id.to_hex(), "status").await.is_none()
        })
        .await;
    }
}

/// A script that failed at something overdue kept the worker from everything behind that.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_no_script_can_read_keeps_nothing_else_back() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let commit = served.git.commit("pr").await;
    let pr = served.repository.pull_request(&author, &commit);
    let status = sign(&author, 1633, now(), &[tag(&["e", &pr.id.to_hex(), "", "root"])]);
    assert_eq!(nostr.send(&pr).await, held());
    assert_eq!(nostr.send(&status).await, held());
    let id = "ab".repeat(32);
    let entry = format!("{{purgatory}}:entry:{id}");
    let () = world.redis().ask(&["SET", &entry, "no hash"]).await;
    let () = world
        .redis()
        .ask(&["ZADD", "{purgatory}:entries", "0", &format!("{id}:1")])
        .await;
    eventually("it is in the way", async || {
        world.gateway_log().contains("cannot mark overdue entries")
    })
    .await;

    let refspec = format!("{commit}:refs/nostr/{}", pr.id);
    served.git.push(&served.url, &[&refspec]).await.expect_ok();

    eventually("the worker publishes", async || nostr.serves(&status).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_stuck_announcement_says_so_and_goes_when_the_operator_asks() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let url = world.url(&repository);
    let git = world.git("work").await;
    let commit = git.commit("one").await;
    let ageing = world.announcement(&repository, just_young_enough(), &[]);
    let state = repository.state(now() - 10, &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&ageing).await, held());
    assert_eq!(nostr.send(&state).await, held());
    is_too_old(&ageing).await;

    assert_stuck(
        git.push(&url, &["main"]).await,
        &ageing,
        "invalid: created_at too early",
    );
    let second = git.commit("two").await;
    let newer = repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&newer).await, held());
    assert_stuck(
        git.push(&url, &["main"]).await,
        &ageing,
        "invalid: created_at too early",
    );

    let mut redis = redis(&world).await;
    assert_is_stuck(&mut redis, &ageing, "invalid: created_at too early").await;
    // Its author's own attempt brings it in no earlier.
    assert_eq!(nostr.send(&newer).await, held());
    assert!(!nostr.serves(&state).await && !nostr.serves(&newer).await);
    world.kill_gateway().await;
    world
        .start_gateway_with(Options {
            import: Import::Works,
            ..Options::default()
        })
        .await;
    assert_is_stuck(&mut redis, &ageing, "invalid: created_at too early").await;
    ask_again(&mut redis, &ageing).await;
    let mut nostr = world.nostr().await;
    eventually("all is served", async || {
        nostr.serves(&ageing).await && nostr.serves(&newer).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_events_of_other_relays_go_in_by_import() {
    let options = Options {
        import: Import::Works,
        ..Options::default()
    };
    let (world, protected) = Protected::start(options).await;

    let said = protected.push(&world).await;

    assert!(said.ok && !said.stderr.contains("remote:"), "{}", said.stderr);
    let mut nostr = world.nostr().await;
    assert!(nostr.serves(&protected.announcement).await && nostr.serves(&protected.state).await);
    assert!(world.gateway_log().contains("imported into the relay"));
    let mut redis = redis(&world).await;
    for event in [&protected.announcement, &protected.state] {
        assert_eq!(field(&mut redis, &event.id.to_hex(), "status").await, None);
    }
}

/// The state is judged before the import of what it is ordered after, and waited a second for another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_imported_announcement_goes_in_at_once() {
    let options = Options {
        import: Import::Works,
        ..Options::default()
    };
    let world = World::start(Kind::Strfry, options).await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let commit = git.commit("one").await;
    let protected = world.announcement(&repository, now(), &[tag(&["-"])]);
    let state = repository.state(now(), &[("refs/heads/main", &commit)]);
    assert_eq!(world.stream(&protected).await["msg"], held().message);
    let mut nostr = world.nostr().await;
    assert_eq!(nostr.send(&state).await, held());

    let said = git.push(&world.url(&repository), &["main"]).await;

    assert!(said.ok && !said.stderr.contains("remote:"), "{}", said.stderr);
    assert!(nostr.serves(&protected).await && nostr.serves(&state).await);
    let log = world.gateway_log();
    assert!(!log.contains("not released yet"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_leaves_the_event_stuck_until_the_operator_has_mended_it() {
    let failing = Options {
        import: Import::Fails,
        ..Options::default()
    };
    let (mut world, protected) = Protected::start(failing).await;
    const WHY: &str = "blocked: event marked as protected; strfry import failed (exit status: 1): strfry error: no";

    assert_stuck(protected.push(&world).await, &protected.announcement, WHY);

    let mut redis = redis(&world).await;
    assert_is_stuck(&mut redis, &protected.announcement, WHY).await;
    let told = release(&world, &protected.announcement).await;
    assert!(
        told.contains("the relay refuses it") && told.contains(WHY) && told.contains("exit 1"),
        "{told}"
    );
    world.kill_gateway().await;
    world
        .start_gateway_with(Options {
            import: Import::Works,
            ..failing
        })
        .await;
    let told = release(&world, &protected.announcement).await;
    assert!(
        told.contains("it has left the purgatory") && told.contains("exit 0"),
        "{told}"
    );
    let mut nostr = world.nostr().await;
    eventually("both are served", async || {
        nostr.serves(&protected.announcement).await && nostr.serves(&protected.state).await
    })
    .await;
}

/// Asks by the gateway's own command, and returns what it tells.
async fn release(world: &World, event: &Event) -> String {
    let (program, port) = (program("grasp-gateway"), world.redis_port().unwrap());
    let command = format!(
        "{} purgatory release {} --wait-secs 5 --redis-url redis://127.0.0.1:{port} 2>&1; echo \"exit $?\"",
        program.display(),
        event.id
    );
    shell(&command, "").await
}

/// A repository whose events carry NIP-70's tag and came from another relay.
struct Protected {
    repository: Repository,
    announcement: Event,
    state: Event,
    git: tests::clients::git::GitClient,
}

impl Protected {
    async fn start(options: Options) -> (World, Self) {
        let world = World::start(Kind::Strfry, options).await;
        let repository = Repository::new("r");
        let git = world.git("work").await;
        let commit = git.commit("one").await;
        let announcement = world.announcement(&repository, now(), &[tag(&["-"])]);
        let state = sign(
            &repository.owner,
            shared::nip34::STATE,
            now(),
            &[tag(&["d", "r"]), tag(&["refs/heads/main", &commit]), tag(&["-"])],
        );
        for event in [&announcement, &state] {
            let answer = world.stream(event).await;
            assert_eq!(answer["msg"], held().message, "{answer}");
        }
        let protected = Self {
            repository,
            announcement,
            state,
            git,
        };
        (world, protected)
    }

    async fn push(&self, world: &World) -> Said {
        self.git.push(&world.url(&self.repository), &["main"]).await
    }
}

/// Old enough to be refused in a moment, and not before it was sent.
fn just_young_enough() -> u64 {
    now() - AGE_SECS_MAX + 15
}

async fn is_too_old(event: &Event) {
    eventually("it is too old", async || {
        now() - AGE_SECS_MAX > event.created_at.as_secs() + 1
    })
    .await;
}

/// The push succeeded, and says what the relay refuses and why.
fn assert_stuck(said: Said, event: &Event, why: &str) {
    let expected = format!("stored, but the relay refuses to serve event {}: {why}", event.id);
    assert!(said.ok, "{}", said.stderr);
    // git breaks long lines of the server nowhere, but says `remote: ` before them.
    assert!(said.stderr.contains(&expected), "{expected} in {}", said.stderr);
}

async fn assert_is_stuck(redis: &mut MultiplexedConnection, event: &Event, why: &str) {
    let id = event.id.to_hex();
    assert_eq!(field(redis, &id, "status").await.as_deref(), Some("stuck"));
    assert_eq!(field(redis, &id, "release_error").await.as_deref(), Some(why));
    let next: u64 = redis::cmd("ZSCORE")
        .arg("{purgatory}:releasing")
        .arg(&id)
        .query_async(redis)
        .await
        .unwrap();
    assert!(
        (now() + 3000..=now() + 3600).contains(&next),
        "an hour after the attempt: {next}"
    );
}

/// What docs/redis.md tells the operator to do.
async fn ask_again(redis: &mut MultiplexedConnection, event: &Event) {
    let changed: u64 = redis::cmd("ZADD")
        .arg("{purgatory}:releasing")
        .arg(&["XX", "CH", "0", &event.id.to_hex()])
        .query_async(redis)
        .await
        .unwrap();
    assert_eq!(changed, 1);
}
