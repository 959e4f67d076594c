//! Redis goes, is slow, is full: what clients hear, what git prints, and that all recovers by itself (docs/redis.md).

use std::time::Duration;
use std::time::Instant;

use nostr::key::Keys;
use relay::EventPolicy;
use shared::nip34;
use shared::write_policy::Answer;
use tests::clients::git::GitClient;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::OkMessage;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::ALONE;
use crate::fixture::Served;
use crate::fixture::Waiting;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::redis;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_is_there_when_redis_is_back_and_everything_else_goes_on_meanwhile() {
    let mut world = World::start(Kind::Strfry, ALONE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    let waiting = Repository::new("waiting");
    let deleted = world.announcement(&waiting, now(), &[]);
    assert_eq!(nostr.send(&deleted).await, held());

    world.redis().kill().await;

    let refused = world.announcement(&Repository::new("other"), now(), &[]);
    assert_refused(&nostr.send(&refused).await);
    assert_others_pass(&mut nostr).await;
    let deletion = sign(
        &waiting.owner,
        nip34::DELETION,
        now(),
        &[tag(&["e", &deleted.id.to_hex()])],
    );
    assert!(nostr.send(&deletion).await.taken);
    assert_reads_go_on(&world, &served, "clone").await;
    assert_push_is_refused(&served).await;
    // Whether there is such a repository stands in Redis alone.
    let (status, text) = world.get(&info_refs(&world, &waiting), "").await;
    assert_eq!(status, 503);
    assert!(
        text.contains("the repository cannot be read now, try again later"),
        "{text}"
    );
    assert_log_says_it(&world, "Redis fails or is slow").await;

    world.redis().start_again().await;

    eventually("git events are held again", async || {
        nostr.send(&refused).await == held()
    })
    .await;
    eventually("the push goes through", async || {
        served.git.push(&served.url, &["main"]).await.ok
    })
    .await;
    assert!(nostr.serves(&state).await);
    eventually("the deletion was heard of", async || {
        world.get(&info_refs(&world, &waiting), "").await.0 == 404
    })
    .await;
    assert_log_says_it(&world, "Redis answers in time again").await;
}

/// The write policy asks Redis once, and lets the request pass.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_of_an_author_who_vanishes_while_redis_is_away_ends_when_it_is_back() {
    let mut world = World::start(Kind::Strfry, ALONE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let [offering, author] = [Keys::generate(), Keys::generate()];
    let pr = served
        .repository
        .pull_request(&offering, &served.git.commit("pr").await);
    let of_pr = [tag(&["E", &pr.id.to_hex()]), tag(&["K", "1618"])];
    let comment = sign(&author, nip34::COMMENT, now() - 5, &of_pr);
    for event in [&pr, &comment] {
        assert_eq!(nostr.send(event).await, held());
    }

    world.redis().kill().await;
    let vanishes = sign(&author, nip34::VANISH, now(), &[tag(&["relay", "ALL_RELAYS"])]);
    assert!(nostr.send(&vanishes).await.taken);
    eventually("the gateway has heard of it", async || {
        world.gateway_log().contains("cannot end what an author has waiting")
    })
    .await;
    world.redis().start_again().await;

    let mut redis = redis(&world).await;
    eventually("the comment has ended", async || {
        field(&mut redis, &comment.id.to_hex(), "status").await.is_none()
    })
    .await;
    let status = field(&mut redis, &pr.id.to_hex(), "status").await;
    assert_eq!(status.as_deref(), Some("held"), "that of another");
}

/// A disk that is full, or a network that goes bad: every answer comes, and late. strfry's only writer must not wait
/// for each.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_not_waited_for_and_asked_again_when_it_is_fast() {
    let options = Options {
        redis_slow_ms: 50,
        is_redis_behind_proxy: true,
        ..ALONE
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let served = serve_on_a_busy_machine(&world, &mut nostr, repository).await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);

    world.redis().proxy().set_delay(4 * SLOW);

    eventually("it is not waited for", async || !nostr.send(&state).await.taken).await;
    for _ in 0..20 {
        assert_refused(&nostr.send(&state).await);
    }
    assert_others_pass(&mut nostr).await;
    assert_reads_go_on(&world, &served, "clone").await;
    eventually("the gateway does not wait for it either", async || {
        world.gateway_log().contains("slower than 50 ms repeatedly")
    })
    .await;
    assert_push_is_refused(&served).await;

    world.redis().proxy().set_delay(Duration::ZERO);

    eventually("the state is held", async || nostr.send(&state).await == held()).await;
    eventually("the push goes through", async || {
        served.git.push(&served.url, &["main"]).await.ok
    })
    .await;
    assert!(nostr.serves(&state).await);
}

/// strfry's only writer waits for each answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_costs_one_event_its_patience_and_nothing_after_that() {
    let mut world = World::start(Kind::Strfry, ALONE).await;
    let mut plugin = world.plugin();
    let client = [127, 0, 0, 1].into();
    let owner = Repository::new("r").owner;
    let announcement = world.announcement(&Repository::new("r"), now(), &[]);
    let hold = Answer::Hold(held().message.into());
    eventually("the plugin is up", async || {
        plugin.judge(&announcement, client).await == hold
    })
    .await;

    world.redis().signal("STOP").await;

    let refuse = Answer::Refuse("error: the purgatory is not available, try again later".to_owned());
    assert_eq!(plugin.judge(&announcement, client).await, refuse);
    let note = sign(&owner, 1, now(), &[]);
    let deletion = sign(&owner, nip34::DELETION, now(), &[tag(&["e", &note.id.to_hex()])]);
    for (event, verdict) in [
        (&note, &Answer::Accept),
        (&deletion, &Answer::Accept),
        (&announcement, &refuse),
    ] {
        let mut times = Vec::new();
        for _ in 0..101 {
            let asked_at = Instant::now();
            assert_eq!(plugin.judge(event, client).await, *verdict);
            times.push(asked_at.elapsed());
        }
        times.sort();
        // A hundred times what it takes on an idle machine; single ones wait for a busy one.
        assert!(times[50] < Duration::from_millis(5), "{times:?}");
    }

    world.redis().signal("CONT").await;

    eventually("events are held again", async || {
        plugin.judge(&announcement, client).await == hold
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_holds_no_more_and_what_is_released_makes_room() {
    let mut world = World::start(Kind::Strfry, ALONE).await;
    let mut nostr = world.nostr().await;
    let waiting = Waiting::new(&world, &mut nostr, "r").await;

    let () = world.redis().ask(&["CONFIG", "SET", "maxmemory", "1"]).await;

    let other = world.announcement(&Repository::new("other"), now(), &[]);
    assert_refused(&nostr.send(&other).await);
    assert_others_pass(&mut nostr).await;
    let served = waiting.push().await;
    assert!(nostr.serves(&served.announcement).await && nostr.serves(&served.state).await);
    assert!(world.clone(&served.repository, "clone").await.is_some());
    let entries: Vec<String> = world.redis().ask(&["KEYS", "{purgatory}:entry:*"]).await;
    assert_eq!(entries, [""; 0]);
    assert_refused(&nostr.send(&other).await);

    let () = world.redis().ask(&["CONFIG", "SET", "maxmemory", "0"]).await;

    assert_eq!(nostr.send(&other).await, held());
}

/// Longer than this is slow here.
const SLOW: Duration = Duration::from_millis(50);

/// As [`Served::new`] where answers of Redis may be slow for no other reason than that many tests run.
async fn serve_on_a_busy_machine(world: &World, nostr: &mut NostrClient, repository: Repository) -> Served {
    let git: GitClient = world.git(&format!("work-{}", repository.npub())).await;
    let commit = git.commit("one").await;
    let url = world.url(&repository);
    let announcement = world.announcement(&repository, now() - 100, &[]);
    let state = repository.state(now() - 100, &[("refs/heads/main", &commit)]);
    for event in [&announcement, &state] {
        eventually("it is held", async || nostr.send(event).await == held()).await;
    }
    eventually("the push goes through", async || git.push(&url, &["main"]).await.ok).await;
    eventually("both are served", async || {
        nostr.serves(&announcement).await && nostr.serves(&state).await
    })
    .await;
    Served {
        repository,
        git,
        url,
        commit,
        announcement,
        state,
    }
}

fn assert_refused(answer: &OkMessage) {
    let expected = OkMessage {
        taken: false,
        message: "error: the purgatory is not available, try again later".to_owned(),
    };
    assert_eq!(*answer, expected);
}

async fn assert_others_pass(nostr: &mut NostrClient) {
    let note = sign(&Repository::new("r").owner, 1, now(), &[]);
    assert!(nostr.send(&note).await.taken);
    assert!(nostr.serves(&note).await);
}

async fn assert_reads_go_on(world: &World, served: &Served, name: &str) {
    let clone = world.clone(&served.repository, name).await.expect("it can be cloned");
    assert_eq!(clone.rev_parse("HEAD").await, served.commit);
    assert_eq!(
        served.refs().await,
        [("refs/heads/main".to_owned(), served.commit.clone())]
    );
}

async fn assert_push_is_refused(served: &Served) {
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    let expected = "remote: the purgatory (Redis) does not answer, push again later";
    assert!(said.contains(expected), "{said}");
}

/// Both programs say it.
async fn assert_log_says_it(world: &World, text: &str) {
    let plugin = world.folder().join("plugin.log");
    eventually(text, async || {
        let plugin = std::fs::read_to_string(&plugin).unwrap_or_default();
        plugin.contains(text) && world.gateway_log().contains(text)
    })
    .await;
}

fn info_refs(world: &World, repository: &Repository) -> String {
    let url = world.url(repository);
    let path = url.split_once("127.0.0.1").unwrap().1.split_once('/').unwrap().1;
    format!("/{path}/info/refs?service=git-upload-pack")
}
