//! Held events, a push, served events.

use std::time::Duration;

use nostr::key::Keys;
use serde_json::json;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::redis_connection::connect;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::wait::within;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    held_events_are_not_served_and_the_repository_reads_as_empty,
    a_push_of_exactly_what_is_declared_serves_its_events,
    refused_pushes_change_nothing,
    annotated_tags_are_declared_with_their_peeled_entries,
    a_branch_is_deleted_by_a_push,
    a_state_whose_objects_are_here_needs_no_push,
    a_lost_repository_is_not_served_as_empty_and_healed_by_a_push,
    identifiers_with_spaces_and_emoji_work_end_to_end,
    a_large_push_arrives_in_chunks,
    another_owners_repository_is_filled_from_what_is_here,
    what_is_reported_is_what_is_there,
    deletion_requests_of_strangers_are_in_nobodys_way,
    a_shallow_clone_pushes_to_where_its_history_is,
    a_tag_that_is_not_declared_is_refused_by_name_and_can_be_deleted,
);

async fn held_events_are_not_served_and_the_repository_reads_as_empty(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let announcement = world.announcement(&repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", &"a".repeat(40))]);

    assert_eq!(nostr.send(&announcement).await, held());
    assert_eq!(nostr.send(&state).await, held());
    // Once more, as clients do that did not hear the answer.
    assert_eq!(nostr.send(&announcement).await, held());

    assert_eq!(nostr.query(json!({"kinds": [30617, 30618]})).await, []);
    let clone = world.clone(&repository, "clone").await.expect("an empty clone");
    assert_eq!(
        clone.run(&["symbolic-ref", "HEAD"]).await.expect_ok().trim(),
        "refs/heads/master"
    );
    assert!(clone.ls_remote(&world.url(&repository)).await.is_empty());
    assert_eq!(
        std::fs::read_dir(world.repositories()).unwrap().count(),
        0,
        "nothing is left on disk"
    );
}

async fn a_push_of_exactly_what_is_declared_serves_its_events(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let (mut nostr, mut reader) = (world.nostr().await, world.nostr().await);
    reader.subscribe(json!({"kinds": [30617, 30618]})).await;

    let served = Served::new(&world, &mut nostr, "r").await;

    // Without waiting: the push's success says so.
    assert!(nostr.serves(&served.announcement).await);
    assert!(nostr.serves(&served.state).await);
    let both = async { [reader.next_live().await, reader.next_live().await] };
    let live = tokio::time::timeout(Duration::from_secs(1), both)
        .await
        .expect("a live subscriber hears at once");
    assert_eq!(
        live,
        [served.announcement.id, served.state.id],
        "the announcement first"
    );
    let clone = world.clone(&served.repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, served.commit);
    assert_eq!(
        clone.run(&["symbolic-ref", "HEAD"]).await.expect_ok().trim(),
        "refs/heads/main"
    );
    assert!(
        waiting_keys(&world).await.is_empty(),
        "nothing of them is left in the purgatory"
    );
}

/// The entries in Redis; nothing in the embedded world.
async fn waiting_keys(world: &World) -> Vec<String> {
    let Some(port) = world.redis_port() else {
        return Vec::new();
    };
    let mut connection = connect(&format!("redis://127.0.0.1:{port}")).await.unwrap();
    redis::cmd("KEYS")
        .arg("{purgatory}:entry:*")
        .query_async(&mut connection)
        .await
        .unwrap()
}

async fn refused_pushes_change_nothing(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let stranger = Keys::generate();
    let served = Served::new(&world, &mut nostr, "r").await;
    let (git, url) = (&served.git, &served.url);
    let before = served.refs().await;
    git.run(&["checkout", "--quiet", "-b", "feature"]).await.expect_ok();
    let feature = git.commit("two").await;

    let without = git.push(url, &["feature:main"]).await.expect_refused();
    assert!(
        without.contains("[remote rejected]") && without.contains("remote: "),
        "{without}"
    );
    assert!(without.contains("the state event declares"), "{without}");

    let state = served.repository.state(now(), &[("refs/heads/main", &feature)]);
    assert_eq!(nostr.send(&state).await, held());
    let third = git.commit("three").await;
    let another = git
        .push(url, &[&format!("{third}:refs/heads/main")])
        .await
        .expect_refused();
    assert!(
        another.contains("[remote rejected]") && another.contains(&feature[..8]),
        "{another}"
    );
    let extra = git
        .push(url, &[&format!("{feature}:refs/heads/main"), "feature"])
        .await
        .expect_refused();
    assert!(extra.contains("the state event does not declare this ref"), "{extra}");
    let foreign = git
        .push(url, &[&format!("{feature}:refs/pull/1/head")])
        .await
        .expect_refused();
    assert!(
        foreign.contains("only refs/heads/, refs/tags/ and refs/nostr/"),
        "{foreign}"
    );

    let strange = served
        .repository
        .state_by(&stranger, now() + 1, &[("refs/heads/main", &third)]);
    let answer = nostr.send(&strange).await;
    assert!(
        !answer.taken && answer.message.starts_with("restricted: "),
        "{answer:?}"
    );
    git.push(url, &[&format!("{third}:refs/heads/main")])
        .await
        .expect_refused();

    assert_eq!(served.refs().await, before);
    assert!(!nostr.serves(&state).await && !nostr.serves(&strange).await);
    // And what was declared all the while still goes through.
    git.push(url, &[&format!("{feature}:refs/heads/main")])
        .await
        .expect_ok();
    assert!(nostr.serves(&state).await);
}

async fn annotated_tags_are_declared_with_their_peeled_entries(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    served
        .git
        .run(&["tag", "--annotate", "--message", "first", "v1"])
        .await
        .expect_ok();
    let tag_oid = served.git.rev_parse("v1").await;
    assert_ne!(tag_oid, served.commit);
    let refs = [
        ("refs/heads/main", served.commit.as_str()),
        ("refs/tags/v1", &tag_oid),
        ("refs/tags/v1^{}", &served.commit),
    ];
    let state = served.repository.state(now(), &refs);
    assert_eq!(nostr.send(&state).await, held());

    served.git.push(&served.url, &["v1"]).await.expect_ok();

    assert!(nostr.serves(&state).await);
    let refs = served.refs().await;
    assert!(
        refs.contains(&("refs/tags/v1^{}".to_owned(), served.commit.clone())),
        "{refs:?}"
    );
    assert!(refs.contains(&("refs/tags/v1".to_owned(), tag_oid)), "{refs:?}");
}

async fn a_branch_is_deleted_by_a_push(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let git = &served.git;
    git.run(&["checkout", "--quiet", "-b", "old"]).await.expect_ok();
    let old = git.commit("old").await;
    let with_old = served.repository.state(
        now() - 50,
        &[("refs/heads/main", &served.commit), ("refs/heads/old", &old)],
    );
    assert_eq!(nostr.send(&with_old).await, held());
    git.push(&served.url, &["old"]).await.expect_ok();
    git.run(&["checkout", "--quiet", "main"]).await.expect_ok();
    let new = git.commit("new").await;
    let without_old = served.repository.state(now(), &[("refs/heads/main", &new)]);
    assert_eq!(nostr.send(&without_old).await, held());

    // Deleting alone is a part of what the state declares: it goes when the rest is here.
    let alone = git.push(&served.url, &[":old"]).await;
    assert!(
        alone.ok && alone.stderr.contains("still missing: refs/heads/main"),
        "{}",
        alone.stderr
    );
    assert_eq!(served.refs().await.len(), 2);
    git.push(&served.url, &["main", ":old"]).await.expect_ok();

    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), new)]);
    assert!(nostr.serves(&without_old).await);
}

async fn a_state_whose_objects_are_here_needs_no_push(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let git = &served.git;
    let new = git.commit("two").await;
    assert_eq!(
        nostr
            .send(&served.repository.state(now() - 50, &[("refs/heads/main", &new)]))
            .await,
        held()
    );
    git.push(&served.url, &["main"]).await.expect_ok();

    // Back to the first commit, and another branch for the second.
    let state = served
        .repository
        .state(now(), &[("refs/heads/main", &served.commit), ("refs/heads/next", &new)]);
    assert_eq!(nostr.send(&state).await, held());

    within(Duration::from_secs(1), "the state is served", async || {
        nostr.serves(&state).await
    })
    .await;
    let expected = [
        ("refs/heads/main".to_owned(), served.commit.clone()),
        ("refs/heads/next".to_owned(), new),
    ];
    assert_eq!(served.refs().await, expected);
}

async fn a_lost_repository_is_not_served_as_empty_and_healed_by_a_push(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    // What is served may be pushed again, and changes nothing.
    served.git.push(&served.url, &["main"]).await.expect_ok();
    std::fs::remove_dir_all(world.repositories().join(served.repository.owner.public_key().to_hex())).unwrap();

    let path = format!("/{}/r.git/info/refs?service=git-upload-pack", served.repository.npub());
    // Readers may be given what was there a second before.
    eventually("its readers hear that it is lost", async || {
        world.get(&path, "").await.0 == 503
    })
    .await;
    assert!(world.clone(&served.repository, "empty").await.is_none());
    assert_eq!(
        world.get(&format!("/{}/r.git", served.repository.npub()), "").await.0,
        503,
        "its page"
    );
    served.git.push(&served.url, &["main"]).await.expect_ok();

    let clone = world.clone(&served.repository, "healed").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, served.commit);
}

async fn identifiers_with_spaces_and_emoji_work_end_to_end(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;

    for identifier in ["my repo 🦀", "a:b", "dots.git", "..."] {
        let served = Served::new(&world, &mut nostr, identifier).await;

        assert!(nostr.serves(&served.state).await, "{identifier}");
        let clone = world
            .clone(&served.repository, &format!("clone-{}", served.repository.npub()))
            .await
            .unwrap();
        assert_eq!(clone.rev_parse("HEAD").await, served.commit, "{identifier}");
    }
}

async fn a_large_push_arrives_in_chunks(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    // Not compressible, so that the pack exceeds http.postBuffer (1 MiB).
    let mut noise = Vec::with_capacity(4 << 20);
    let mut state = 1_u64;
    while noise.len() < 4 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    std::fs::write(
        world.folder().join(format!("work-{}/noise", served.repository.npub())),
        noise,
    )
    .unwrap();
    let large = served.git.commit("large").await;

    // Refused: git must still read why, although it is sending.
    let refused = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(refused.contains("[remote rejected]"), "{refused}");
    let declared = served.repository.state(now(), &[("refs/heads/main", &large)]);
    assert_eq!(nostr.send(&declared).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();

    assert!(nostr.serves(&declared).await);
    let clone = world.clone(&served.repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, large);
}

async fn another_owners_repository_is_filled_from_what_is_here(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let fork = Repository::new("r");
    let lists_owner = tag(&["maintainers", &served.repository.owner.public_key().to_hex()]);

    let announcement = world.announcement(&fork, now(), &[lists_owner]);
    assert_eq!(nostr.send(&announcement).await, held());

    eventually("the announcement is served without a push", async || {
        nostr.serves(&announcement).await
    })
    .await;
    let clone = world.clone(&fork, "fork").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, served.commit);
}

/// A push was reported ok although a newer state, complete by the very same objects, had overtaken it.
async fn what_is_reported_is_what_is_there(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let maintainer = Keys::generate();
    let lists_maintainer = tag(&["maintainers", &maintainer.public_key().to_hex()]);
    let served = Served::of(&world, &mut nostr, Repository::new("r"), &[lists_maintainer]).await;
    let (between, tip) = (served.git.commit("between").await, served.git.commit("tip").await);
    let older = served.repository.state(now() - 20, &[("refs/heads/main", &tip)]);
    let newer = served
        .repository
        .state_by(&maintainer, now() - 10, &[("refs/heads/main", &between)]);
    assert_eq!(nostr.send(&older).await, held());
    assert_eq!(nostr.send(&newer).await, held());

    let said = served
        .git
        .push(&served.url, &[&format!("{tip}:refs/heads/main")])
        .await
        .expect_refused();

    assert!(said.contains("another state event has overtaken this push"), "{said}");
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), between)]);
    assert!(
        nostr.serves(&newer).await && nostr.serves(&older).await,
        "the objects of both are here"
    );
}

/// More deletion requests of one second than a relay's page made everything about the identifier undecidable.
async fn deletion_requests_of_strangers_are_in_nobodys_way(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let stranger = Repository::new("r");
    assert_eq!(nostr.send(&world.announcement(&stranger, now(), &[])).await, held());
    let address = tag(&["a", &stranger.coordinate().to_string()]);
    let requests: Vec<_> = (0..1100)
        .map(|n| {
            sign(
                &stranger.owner,
                5,
                now() - 1000,
                &[address.clone(), tag(&["n", &n.to_string()])],
            )
        })
        .collect();
    for chunk in requests.chunks(50) {
        for request in chunk {
            nostr.say(json!(["EVENT", request])).await;
        }
        for _ in chunk {
            assert_eq!(nostr.hear().await[2], true);
        }
    }

    let served = Served::new(&world, &mut nostr, "r").await;

    assert!(nostr.serves(&served.state).await);
}

/// A history without its beginning was taken as whole, and nobody could clone it (ngit-grasp before 3.0.0). CI pushes
/// from shallow clones of the server that it pushes to.
async fn a_shallow_clone_pushes_to_where_its_history_is(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let tip = served.git.commit("two").await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &tip)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    let shallow = world.git("shallow").await;
    shallow
        .run(&["fetch", "--quiet", "--depth=1", &served.url, "main"])
        .await
        .expect_ok();
    shallow
        .run(&["reset", "--quiet", "--hard", "FETCH_HEAD"])
        .await
        .expect_ok();
    // Meanwhile the branch moves on, so that it cannot name what the server has in common with it.
    let elsewhere = served.git.commit("elsewhere").await;
    let third = shallow.commit("three").await;
    for (at, commit, git) in [(40, &elsewhere, &served.git), (30, &third, &shallow)] {
        let state = served.repository.state(now() - at, &[("refs/heads/main", commit)]);
        assert_eq!(nostr.send(&state).await, held());
        git.push(&served.url, &["+main"]).await.expect_ok();
        assert!(nostr.serves(&state).await);
    }
    let whole = world.clone(&served.repository, "whole").await.unwrap();
    let count = whole.run(&["rev-list", "--count", "HEAD"]).await.expect_ok();
    assert_eq!(count.trim(), "3");
    // So does whoever offers a PR.
    let offered = shallow.commit("offered").await;
    let pull_request = served.repository.pull_request(&Keys::generate(), &offered);
    let pull_request_ref = format!("{offered}:refs/nostr/{}", pull_request.id.to_hex());
    shallow.push(&served.url, &[&pull_request_ref]).await.expect_ok();
    assert!(nostr.send(&pull_request).await.taken);
    eventually("the PR is served", async || nostr.serves(&pull_request).await).await;
    shallow.run(&["reset", "--quiet", "--hard", &third]).await.expect_ok();

    let empty = Repository::new("r");
    assert_eq!(nostr.send(&world.announcement(&empty, now(), &[])).await, held());
    let declared = empty.state(now(), &[("refs/heads/main", &third)]);
    assert_eq!(nostr.send(&declared).await, held());

    let said = shallow.push(&world.url(&empty), &["main"]).await.expect_refused();

    assert!(
        said.contains("this clone is shallow") && said.contains("--unshallow"),
        "{said}"
    );
    assert!(!nostr.serves(&declared).await);
    shallow
        .run(&["fetch", "--quiet", "--unshallow", &served.url, "main"])
        .await
        .expect_ok();
    shallow.push(&world.url(&empty), &["main"]).await.expect_ok();
    assert!(nostr.serves(&declared).await);
}

/// A push brought a tag along that the state does not declare (ngit-grasp before 3.0.8).
async fn a_tag_that_is_not_declared_is_refused_by_name_and_can_be_deleted(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let git = &served.git;
    let before = served.refs().await;
    git.run(&["tag", "v1"]).await.expect_ok();

    let said = git.push(&served.url, &["v1"]).await.expect_refused();
    assert!(
        said.contains("refs/tags/v1") && said.contains("[remote rejected]"),
        "{said}"
    );
    assert_eq!(served.refs().await, before);
    let with_tag = [
        ("refs/heads/main", served.commit.as_str()),
        ("refs/tags/v1", &served.commit),
    ];
    let with_tag = served.repository.state(now() - 50, &with_tag);
    assert_eq!(nostr.send(&with_tag).await, held());
    eventually("its objects are here", async || nostr.serves(&with_tag).await).await;

    let without = served.repository.state(now(), &[("refs/heads/main", &served.commit)]);
    assert_eq!(nostr.send(&without).await, held());
    // Whichever of the two comes first: the state that needs no push, or the push.
    git.push(&served.url, &[":refs/tags/v1"]).await;
    eventually("the tag is gone", async || served.refs().await == before).await;
    eventually("the state is served", async || nostr.serves(&without).await).await;
}
