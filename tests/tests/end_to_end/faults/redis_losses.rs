//! Redis comes back without its data (docs/redis.md, `{purgatory}:epoch`): events that were releasing are served all
//! the same, nothing on disk is removed, and refs that a lost state has set are set back.

use std::time::Duration;

use nostr::event::Event;
use nostr::key::Keys;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::faults::tcp_proxy::Moment;
use tests::faults::tcp_proxy::Then;
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
use crate::fixture::settled;

/// How Redis loses everything.
#[derive(Debug, Clone, Copy)]
enum Emptied {
    /// While everybody stays connected.
    ByFlushAll,
    /// By a restart without its data.
    ByRestart,
}

async fn empty(world: &mut World, how: Emptied) {
    match how {
        Emptied::ByFlushAll => world.redis().ask(&["FLUSHALL"]).await,
        Emptied::ByRestart => {
            world.redis().kill().await;
            world.redis().start_empty().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_released_is_served_although_redis_loses_everything() {
    for how in [Emptied::ByFlushAll, Emptied::ByRestart] {
        let (mut world, mut nostr) = slow_relay_world().await;
        let served = Served::new(&world, &mut nostr, "r").await;
        let (state, second) = release_without_end(&world, &mut nostr, &served).await;
        let repository = Repository::new("new");
        let git = world.git("new").await;
        let commit = git.commit("one").await;
        world.relay_proxy().set_answer(None);
        let announcement = world.announcement(&repository, now(), &[]);
        let first = repository.state(now(), &[("refs/heads/main", &commit)]);
        assert_eq!(nostr.send(&announcement).await, held());
        assert_eq!(nostr.send(&first).await, held());
        world.relay_proxy().set_answer(BUSY);
        git.push(&world.url(&repository), &["main"]).await.expect_ok();
        let all = [&state, &announcement, &first];

        empty(&mut world, how).await;
        eventually("the gateway has noticed", async || {
            world.gateway_log().contains("Redis has lost all held events")
                && world.gateway_log().contains("restored what this gateway knew")
        })
        .await;
        world.relay_proxy().set_answer(None);

        eventually("everything is served", async || {
            let mut count = 0;
            for event in all {
                count += usize::from(nostr.serves(event).await);
            }
            count == all.len()
        })
        .await;
        assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second)]);
        let clone = world.clone(&repository, "clone-new").await.unwrap();
        assert_eq!(clone.rev_parse("HEAD").await, commit);
    }
}

/// It waited behind its PR, which is served; no reconcile would find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_comment_that_is_being_released_is_served_although_redis_loses_everything() {
    let (mut world, mut nostr) = slow_relay_world().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let offered = served.git.commit("offered").await;
    let pull_request = served.repository.pull_request(&author, &offered);
    let of_pull_request = [tag(&["E", &pull_request.id.to_hex()]), tag(&["K", "1618"])];
    let comment = sign(&author, 1111, now(), &of_pull_request);
    for event in [&pull_request, &comment] {
        assert_eq!(nostr.send(event).await, held());
    }
    let stopped = world.relay_proxy().stop_at(0, Moment::BeforeAnswer);
    let refspec = format!("HEAD:refs/nostr/{}", pull_request.id);
    let refspecs = [refspec.as_str()];
    let is_published = async {
        let stopped = stopped.await.unwrap();
        world.relay_proxy().set_answer(BUSY);
        stopped.then(Then::GoOn);
    };
    let (said, ()) = tokio::join!(served.git.push(&served.url, &refspecs), is_published);
    said.expect_ok();
    let comment_id = comment.id.to_hex();
    eventually("the relay does not take the comment", async || {
        let error = field(&mut redis(&world).await, &comment_id, "release_error").await;
        error.is_some_and(|error| !error.is_empty())
    })
    .await;

    let before = world.gateway_log().matches(WRITTEN_AGAIN).count();
    empty(&mut world, Emptied::ByFlushAll).await;
    eventually("the gateway has noticed", async || {
        world.gateway_log().matches(WRITTEN_AGAIN).count() > before
    })
    .await;
    world.relay_proxy().set_answer(None);

    eventually("the comment is served", async || nostr.serves(&comment).await).await;
    assert!(nostr.serves(&pull_request).await);
}

/// The gateway that knew the state died together with Redis: nobody has it.
#[tokio::test(flavor = "multi_thread")]
async fn refs_whose_state_is_gone_go_back_to_the_newest_served_state() {
    let (mut world, mut nostr) = slow_relay_world().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (state, second) = release_without_end(&world, &mut nostr, &served).await;
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second.clone())]);

    world.kill_gateway().await;
    empty(&mut world, Emptied::ByFlushAll).await;
    world.relay_proxy().set_answer(None);
    world.start_gateway().await;

    let before = [("refs/heads/main".to_owned(), served.commit.clone())];
    eventually("the served state is set again", async || served.refs().await == before).await;
    // Its data is kept: when its author sends the state again, it needs no push.
    let mut nostr = world.nostr().await;
    assert_eq!(nostr.send(&state).await, held());
    eventually("the state is served", async || nostr.serves(&state).await).await;
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_nothing_declares_any_more_is_kept_and_not_served() {
    let (mut world, mut nostr) = slow_relay_world_with(Options {
        deleted_retention_days: 0,
        ..ALONE
    })
    .await;
    let waiting = Waiting::new(&world, &mut nostr, "r").await;
    world.relay_proxy().set_answer(BUSY);
    let served = waiting.push().await;
    let path = format!("/{}/r.git/info/refs?service=git-upload-pack", served.repository.npub());

    world.kill_gateway().await;
    empty(&mut world, Emptied::ByRestart).await;
    world.relay_proxy().set_answer(None);
    world.start_gateway().await;

    const WHY: &str = "this server has lost the events of this repository";
    eventually("it is not served", async || {
        let (status, text) = world.get(&path, "").await;
        status == 503 && text.contains(WHY)
    })
    .await;
    assert!(
        world
            .gateway_log()
            .contains("the events of this repository were lost with the purgatory")
    );
    // Not at the next start either, which is a daily check.
    world.kill_gateway().await;
    world.start_gateway().await;
    eventually("it has been checked", async || {
        let log = world.gateway_log();
        log.matches("the events of this repository were lost with the purgatory")
            .count()
            > 1
    })
    .await;
    assert_eq!(world.get(&path, "").await.0, 503);

    let mut nostr = world.nostr().await;
    assert_eq!(nostr.send(&served.announcement).await, held());
    assert_eq!(nostr.send(&served.state).await, held());
    eventually("both are served without a push", async || {
        nostr.serves(&served.announcement).await && nostr.serves(&served.state).await
    })
    .await;
    let clone = world.clone(&served.repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, served.commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_its_pr_is_kept_although_redis_loses_everything() {
    let mut world = World::start(Kind::Strfry, ALONE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offered").await;
    let author = Repository::new("x").owner;
    let pull_request = served.repository.pull_request(&author, &offered);
    let name = format!("refs/nostr/{}", pull_request.id);
    served
        .git
        .push(&served.url, &[&format!("HEAD:{name}")])
        .await
        .expect_ok();

    empty(&mut world, Emptied::ByFlushAll).await;
    eventually("the gateway has noticed", async || {
        world.gateway_log().contains("restored what this gateway knew")
            && world.gateway_log().contains("Redis has lost all held events")
    })
    .await;

    assert_eq!(nostr.send(&pull_request).await, held());
    eventually("the PR is served", async || nostr.serves(&pull_request).await).await;
    let refs = served.git.ls_remote(&served.url).await;
    assert!(refs.contains(&(name, offered)), "{refs:?}");
}

/// It may be lost while the gateway checks whether anything waits for that commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_kept_whenever_redis_loses_everything_behind_its_push() {
    let options = Options {
        is_redis_behind_proxy: true,
        ..ALONE
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let mut direct = redis(&world).await;
    let mut lost = 0;
    for skip in COMMANDS_BEHIND_A_PUSH {
        settled(&world).await;
        let offered = served.git.commit(&format!("offered {skip}")).await;
        let pull_request = served.repository.pull_request(&Keys::generate(), &offered);
        let refspec = format!("HEAD:refs/nostr/{}", pull_request.id);
        let refspecs = [refspec.as_str()];
        let noticed = world.gateway_log().matches(WRITTEN_AGAIN).count();
        let stopped = world.redis().proxy().stop_at(skip, Moment::BeforeCommand);
        let empties = async {
            let Ok(Ok(stopped)) = tokio::time::timeout(Duration::from_secs(5), stopped).await else {
                return false;
            };
            let () = redis::cmd("FLUSHALL").query_async(&mut direct).await.unwrap();
            stopped.then(Then::GoOn);
            true
        };
        let (said, is_emptied) = tokio::join!(served.git.push(&served.url, &refspecs), empties);
        if !is_emptied || !said.ok {
            continue;
        }
        lost += 1;
        eventually("the gateway has noticed", async || {
            world.gateway_log().matches(WRITTEN_AGAIN).count() > noticed
        })
        .await;

        assert_eq!(nostr.send(&pull_request).await, held());
        eventually(&format!("the PR of {skip} is served"), async || {
            nostr.serves(&pull_request).await
        })
        .await;
    }
    assert!(lost > 0);
}

/// Another server answers, with what the one before had: it may have less.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_looked_at_again_after_redis_was_restarted() {
    let mut world = World::start(Kind::Strfry, ALONE).await;
    let mut nostr = world.nostr().await;
    let waiting = Waiting::new(&world, &mut nostr, "r").await;
    let id = waiting.state.id.to_hex();
    let noted = async |world: &World| {
        field(&mut redis(world).await, &id, "waiting_for")
            .await
            .unwrap_or_default()
    };
    eventually("the gateway has reconciled", async || !noted(&world).await.is_empty()).await;
    // What the last reconcile wrote, and the mark for it, never reached this server.
    let key = format!("{{purgatory}}:entry:{id}");
    let _: u64 = world.redis().ask(&["HSET", &key, "waiting_for", ""]).await;

    world.redis().kill().await;
    world.redis().start_again().await;

    eventually("the gateway has reconciled again", async || {
        !noted(&world).await.is_empty()
    })
    .await;
    let served = waiting.push().await;
    assert!(nostr.serves(&served.state).await);
}

/// It may not even have heard of the state whose refs were set. The model of the protocol found it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_disk_is_looked_at_again_after_redis_was_restarted() {
    let mut world = World::start(Kind::Strfry, ALONE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let declared = served.refs().await;
    eventually("nothing is marked", async || {
        let marked: u64 = world.redis().ask(&["ZCARD", "{purgatory}:dirty"]).await;
        marked == 0
    })
    .await;
    let owner = served.repository.owner.public_key().to_hex();
    let branches = world.repositories().join(owner).join("r.git/refs/heads");
    std::fs::create_dir_all(&branches).unwrap();
    std::fs::write(branches.join("gone"), format!("{}\n", served.commit)).unwrap();

    world.redis().kill().await;
    world.redis().start_again().await;

    eventually("the refs are those of the served state", async || {
        served.refs().await == declared
    })
    .await;
}

async fn slow_relay_world() -> (World, NostrClient) {
    slow_relay_world_with(ALONE).await
}

/// A relay that can be made not to take events, and pushes that do not wait for it.
async fn slow_relay_world_with(options: Options) -> (World, NostrClient) {
    let options = Options {
        release_wait_secs: 1,
        is_relay_behind_proxy: true,
        ..options
    };
    let world = World::start(Kind::Strfry, options).await;
    let nostr = world.nostr().await;
    (world, nostr)
}

/// Pushes a second commit whose state the relay does not take. Returns both.
async fn release_without_end(world: &World, nostr: &mut NostrClient, served: &Served) -> (Event, String) {
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    world.relay_proxy().set_answer(BUSY);
    let said = served.git.push(&served.url, &["main"]).await;
    assert!(
        said.ok && said.stderr.contains("the relay does not answer right now"),
        "{}",
        said.stderr
    );
    (state, second)
}

/// What a relay says that cannot take an event now.
const BUSY: Option<(bool, &str)> = Some((false, "error: busy"));

/// What is done to Redis here is done to one server.
const WRITTEN_AGAIN: &str = "restored what this gateway knew";

/// Commands from about the placeholder of a push to the end of the reconcile that it asks for.
const COMMANDS_BEHIND_A_PUSH: std::ops::Range<u64> = 12..24;
