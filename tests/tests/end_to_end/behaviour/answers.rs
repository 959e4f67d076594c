//! What clones of the same cost together: git does not run for what was asked for twice. What nobody may read any more
//! is in no answer that was kept.

use std::path::Path;
use std::path::PathBuf;

use tests::clients::git::GitClient;
use tests::clients::http;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::clients::slow::Stranger;
use tests::clients::slow::has_begun;
use tests::clients::slow::rest;
use tests::faults::git_wrapper::GitMoment;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::noise::noise;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::wrap_git;

in_both_worlds!(
    clones_of_what_was_asked_for_twice_and_a_fetch_of_nothing_new_cost_no_git,
    what_nobody_may_read_any_more_is_in_no_kept_answer,
    a_slow_request_is_answered_as_of_its_end,
    what_waits_for_a_slot_is_not_served_once_the_repository_is_denied,
    what_waits_for_a_slot_is_not_served_once_its_state_is_deleted,
    a_gateway_killed_over_an_answer_leaves_nothing_of_it,
);

/// Clones into a folder of this name.
async fn clone(world: &World, served: &Served, name: &str) -> GitClient {
    let cloned = world.clone(&served.repository, name).await;
    cloned.expect("it is cloned")
}

async fn declare_and_push(nostr: &mut NostrClient, served: &Served, created_at: u64, commit: &str) {
    let state = served.repository.state(created_at, &[("refs/heads/main", commit)]);
    assert_eq!(nostr.send(&state).await, held());
    let refspec = format!("+{commit}:refs/heads/main");
    served.git.push(&served.url, &[&refspec]).await.expect_ok();
}

async fn clones_of_what_was_asked_for_twice_and_a_fetch_of_nothing_new_cost_no_git(kind: Kind) {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0", "--fetches-max=2"],
        ..Options::default()
    };
    let mut world = World::start(kind, options).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let wrapper = wrap_git(&mut world).await;
    for number in 0..2 {
        clone(&world, &served, &format!("first {number}")).await;
    }
    let mut clones = JoinSet::new();
    for number in 0..CLONES {
        let (url, folder) = (served.url.clone(), world.folder().join(format!("clone {number}")));
        clones.spawn(async move { GitClient::clone_from(&url, &folder).await });
    }
    while let Some(cloned) = clones.join_next().await {
        assert_eq!(
            cloned.unwrap().expect("it is cloned").rev_parse("HEAD").await,
            served.commit
        );
    }
    assert_eq!(wrapper.runs("upload-pack"), 2);
    let another = clone(&world, &served, "another").await;
    another.run(&["fsck", "--strict"]).await.expect_ok();
    another.run(&["fetch", "--tags", "origin"]).await.expect_ok();
    assert_eq!(wrapper.runs("upload-pack"), 2);
    let admin = world.admin_authority().await;
    let metrics = http::request(&admin, "GET /metrics HTTP/1.1\r\n", b"").await.text();
    let kept = format!("grasp_clones_total{{from=\"kept\"}} {}\n", CLONES + 1);
    assert!(metrics.contains(&kept), "{metrics}");
}

async fn what_nobody_may_read_any_more_is_in_no_kept_answer(kind: Kind) {
    let options = Options {
        with_deny_list: true,
        ..Options::default()
    };
    let mut world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let wrapper = wrap_git(&mut world).await;
    let mut nostr = world.nostr().await;
    let secret = served.git.commit_file("secret", b"a password").await;
    declare_and_push(&mut nostr, &served, now() - 60, &secret).await;
    for number in 0..2 {
        clone(&world, &served, &format!("with {number}")).await;
    }
    let runs = wrapper.runs("upload-pack");
    clone(&world, &served, "kept with").await;
    assert_eq!(wrapper.runs("upload-pack"), runs);

    // Back to what was before.
    declare_and_push(&mut nostr, &served, now() - 50, &served.commit).await;

    let without = clone(&world, &served, "without").await;
    assert_eq!(without.rev_parse("HEAD").await, served.commit);
    assert!(!without.run(&["cat-file", "-e", &secret]).await.ok);

    for number in 0..2 {
        clone(&world, &served, &format!("kept {number}")).await;
    }
    let denied = format!("{}/r\n", served.repository.npub());
    std::fs::write(world.deny_list(), denied).unwrap();
    let page = format!("/{}/r.git", served.repository.npub());
    eventually("it is not served", async || world.get(&page, "").await.0 == 404).await;
    assert!(world.clone(&served.repository, "denied").await.is_none());
}

/// Where it began, what it wants was a ref of a repository that is served.
async fn a_slow_request_is_answered_as_of_its_end(kind: Kind) {
    let options = Options {
        with_deny_list: true,
        ..Options::default()
    };
    let mut world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let wrapper = wrap_git(&mut world).await;
    let mut nostr = world.nostr().await;
    let stranger = Stranger::of(&served.url);
    let secret = served.git.commit_file("secret", b"a password").await;
    declare_and_push(&mut nostr, &served, now() - 60, &secret).await;
    for _ in 0..3 {
        let kept = rest(stranger.begin_clone(&secret).await).await;
        assert!(String::from_utf8_lossy(&kept).contains("packfile"));
    }
    assert_eq!(wrapper.runs("upload-pack"), 2);
    let (mut moved, rest_of_moved) = stranger.begin_to_ask(&secret).await;
    let (mut denied, rest_of_denied) = stranger.begin_to_ask(&served.commit).await;
    declare_and_push(&mut nostr, &served, now() - 50, &served.commit).await;

    moved.write_all(&rest_of_moved).await.unwrap();

    rest(moved).await;
    assert_eq!(wrapper.runs("upload-pack"), 3, "git is asked whether it has it still");

    std::fs::write(world.deny_list(), format!("{}/r\n", served.repository.npub())).unwrap();
    let page = format!("/{}/r.git", served.repository.npub());
    eventually("it is not served", async || world.get(&page, "").await.0 == 404).await;

    denied.write_all(&rest_of_denied).await.unwrap();

    let answer = String::from_utf8_lossy(&rest(denied).await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

async fn what_waits_for_a_slot_is_not_served_once_the_repository_is_denied(kind: Kind) {
    let answer = answer_to_who_waits(kind, async |world, served| {
        std::fs::write(world.deny_list(), format!("{}/r\n", served.repository.npub())).unwrap();
        let page = format!("/{}/r.git", served.repository.npub());
        eventually("it is not served", async || world.get(&page, "").await.0 == 404).await;
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

async fn what_waits_for_a_slot_is_not_served_once_its_state_is_deleted(kind: Kind) {
    let answer = answer_to_who_waits(kind, async |world, served| {
        let owner = &served.repository.owner;
        let states = format!("30618:{}:r", owner.public_key());
        let deletion = sign(owner, 5, now(), &[tag(&["a", &states])]);
        assert!(world.nostr().await.send(&deletion).await.taken);
        eventually("it reads as empty", async || served.refs().await.is_empty()).await;
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

/// Returns what a clone gets that waits for a slot, as it may for half a minute, while the repository is `taken_away`.
async fn answer_to_who_waits(kind: Kind, taken_away: impl AsyncFn(&World, &Served)) -> String {
    let options = Options {
        with_deny_list: true,
        gateway: &["--admin-bind=127.0.0.1:0", "--fetches-max=1"],
        ..Options::default()
    };
    let mut world = World::start(kind, options).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let wrapper = wrap_git(&mut world).await;
    let mut nostr = world.nostr().await;
    let commit = served.git.commit_file("a", b"b").await;
    declare_and_push(&mut nostr, &served, now() - 60, &commit).await;
    let stranger = Stranger::of(&served.url);
    let (git, _first) = tokio::join!(
        wrapper.run_of("upload-pack", GitMoment::Before),
        stranger.begin_clone(&commit)
    );
    let second = stranger.begin_clone(&served.commit).await;
    let admin = world.admin_authority().await;
    eventually("the second clone waits", async || {
        let metrics = http::request(&admin, "GET /metrics HTTP/1.1\r\n", b"").await.text();
        metrics.contains("grasp_slots_waiting{work=\"fetch\",payer=\"busiest\"} 1")
    })
    .await;

    taken_away(&world, &served).await;
    drop(git);

    String::from_utf8_lossy(&rest(second).await).into_owned()
}

/// Both the one that is kept and the one that is being written.
async fn a_gateway_killed_over_an_answer_leaves_nothing_of_it(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let commit = served.git.commit_file("large", &noise(1, LARGE_BYTES)).await;
    declare_and_push(&mut nostr, &served, now() - 60, &commit).await;
    let stranger = Stranger::of(&served.url);
    let mut slow = Vec::new();
    for _ in 0..3 {
        let socket = stranger.begin_clone(&commit).await;
        has_begun(&socket).await;
        slow.push(socket);
    }

    world.kill_gateway().await;

    assert_eq!(
        filled_files(&world.folder().join("data/quarantine")),
        Vec::<PathBuf>::new()
    );
    world.start_gateway().await;
    for number in 0..3 {
        let cloned = clone(&world, &served, &format!("after {number}")).await;
        assert_eq!(cloned.rev_parse("HEAD").await, commit);
    }
}

fn filled_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let filled = entries.filter(|entry| entry.metadata().is_ok_and(|found| found.is_file() && found.len() > 0));
    filled.map(|entry| entry.path()).collect()
}

const CLONES: usize = 5;
const LARGE_BYTES: usize = 9 << 20;
