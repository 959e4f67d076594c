//! How much of the disk, and of what waits for PR events, each repository and each owner may have.

use nostr::event::Event;
use nostr::key::Keys;
use tests::clients::http;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    an_owner_has_so_much_of_the_disk_and_nobody_else_less,
    strangers_commits_have_so_much_room_beside_a_repository_and_maintainers_their_own,
    pull_requests_of_strangers_leave_room_to_the_owner,
    strangers_commits_before_their_events_fill_only_their_repository,
    an_address_has_so_many_commits_before_their_events_and_sends_no_pack_beyond,
);

fn noise(seed: u32) -> Vec<u8> {
    let number = |n: u32| n.wrapping_add(seed).wrapping_mul(2_654_435_761).rotate_left(11) ^ n.wrapping_mul(seed | 1);
    (0..20_000_u32).flat_map(|n| number(n).to_be_bytes()).collect()
}

async fn an_owner_has_so_much_of_the_disk_and_nobody_else_less(kind: Kind) {
    let options = Options {
        gateway: &["--disk-per-owner-max=100KiB"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let push = async |served: &Served, seed: u32, at: u64| {
        let commit = served.git.commit_file(&format!("noise{seed}"), &noise(seed)).await;
        let state = served.repository.state(now() - at, &[("refs/heads/main", &commit)]);
        let answer = world.nostr().await.send(&state).await;
        assert_eq!(answer, held());
        served.git.push(&served.url, &["main"]).await
    };
    push(&served, 1, 50).await.expect_ok();

    let refused = push(&served, 2, 40).await.expect_refused();

    assert!(refused.contains("the repositories of this owner use"), "{refused}");
    assert!(refused.contains("of 100KiB"), "{refused}");
    let other = Served::new(&world, &mut nostr, "r").await;
    push(&other, 3, 50).await.expect_ok();
}

/// Pushes a commit for a PR.
async fn offer(served: &Served, event: &Event, commit: &str) -> tests::clients::git::Said {
    let refspec = format!("{commit}:refs/nostr/{}", event.id);
    served.git.push(&served.url, &[&refspec]).await
}

async fn strangers_commits_have_so_much_room_beside_a_repository_and_maintainers_their_own(kind: Kind) {
    let options = Options {
        gateway: &["--staged-per-repository-max=200KiB"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let stranger = Keys::generate();
    let (first, second) = (noisy(&served, 1, &stranger).await, noisy(&served, 2, &stranger).await);
    let owners = noisy(&served, 3, &served.repository.owner).await;
    offer(&served, &first.0, &first.1).await.expect_ok();

    let refused = offer(&served, &second.0, &second.1).await.expect_refused();
    assert!(
        refused.contains("PR commits from your address that wait for their events would use"),
        "{refused}"
    );

    assert_eq!(nostr.send(&owners.0).await, held());
    offer(&served, &owners.0, &owners.1).await.expect_ok();
    assert!(nostr.serves(&owners.0).await);
    // What moves in makes room.
    assert_eq!(nostr.send(&first.0).await, held());
    eventually("it is served", async || nostr.serves(&first.0).await).await;
    offer(&served, &second.0, &second.1).await.expect_ok();
}

/// Makes a commit of 80 KB, and the PR that offers it.
async fn noisy(served: &Served, seed: u32, author: &Keys) -> (Event, String) {
    let reset = ["reset", "--quiet", "--hard", &served.commit];
    served.git.run(&reset).await.expect_ok();
    let commit = served.git.commit_file(&format!("noise{seed}"), &noise(seed)).await;
    (served.repository.pull_request(author, &commit), commit)
}

/// They were charged to nobody, and filled a repository until its owner's own push found no room.
async fn pull_requests_of_strangers_leave_room_to_the_owner(kind: Kind) {
    let options = Options {
        gateway: &["--disk-per-repository-max=300KiB"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let strangers = noisy(&served, 1, &Keys::generate()).await;
    let owners = noisy(&served, 2, &served.repository.owner).await;
    assert_eq!(nostr.send(&strangers.0).await, held());

    let said = offer(&served, &strangers.0, &strangers.1).await;

    let note = "is kept, and waits for room for its commit";
    assert!(said.ok && said.stderr.contains(note), "{}", said.stderr);
    assert!(!nostr.serves(&strangers.0).await);
    assert_eq!(nostr.send(&owners.0).await, held());
    offer(&served, &owners.0, &owners.1).await.expect_ok();
    assert!(nostr.serves(&owners.0).await);
    // His PRs count for what he may have.
    let beyond = [
        noisy(&served, 3, &served.repository.owner).await,
        noisy(&served, 4, &served.repository.owner).await,
        noisy(&served, 5, &served.repository.owner).await,
    ];
    let mut refused = Vec::new();
    for (event, commit) in &beyond {
        assert_eq!(nostr.send(event).await, held());
        refused.push(offer(&served, event, commit).await);
    }
    let refused = refused.pop().unwrap().expect_refused();
    assert!(refused.contains("this repository uses"), "{refused}");
}

/// 313 pushes of 32 refs filled the placeholders of the whole server.
async fn strangers_commits_before_their_events_fill_only_their_repository(kind: Kind) {
    let options = Options {
        held: &["--placeholders-per-repository-max=3", "--placeholders-max=4"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let event = |served: &Served| served.repository.pull_request(&Keys::generate(), &served.commit);
    for _ in 0..3 {
        offer(&served, &event(&served), &served.commit).await.expect_ok();
    }

    let refused = offer(&served, &event(&served), &served.commit).await.expect_refused();
    assert!(
        refused.contains("too many commits wait for their PR events"),
        "{refused}"
    );

    // One whose event is here takes no room, and other repositories have their own.
    let commit = served.git.commit("offer").await;
    let known = served.repository.pull_request(&Keys::generate(), &commit);
    assert_eq!(nostr.send(&known).await, held());
    offer(&served, &known, &commit).await.expect_ok();
    assert!(nostr.serves(&known).await);
    let other = Served::new(&world, &mut nostr, "other").await;
    for _ in 0..3 {
        offer(&other, &event(&other), &other.commit).await.expect_ok();
    }
}

/// A few addresses, and not one, are needed to fill what a repository has.
async fn an_address_has_so_many_commits_before_their_events_and_sends_no_pack_beyond(kind: Kind) {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        held: &["--placeholders-per-source-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let (served, other) = (
        Served::new(&world, &mut nostr, "r").await,
        Served::new(&world, &mut nostr, "other").await,
    );
    let admin = world.admin_authority().await;
    let received = async || {
        let metrics = http::request(&admin, "GET /metrics HTTP/1.1\r\n", b"").await.text();
        let line = metrics
            .lines()
            .find(|line| line.contains("grasp_git_bytes_total") && line.contains("received"));
        line.expect("it is counted").to_owned()
    };
    let event = |served: &Served| served.repository.pull_request(&Keys::generate(), &served.commit);
    for served in [&served, &other] {
        offer(served, &event(served), &served.commit).await.expect_ok();
    }
    let commit = served.git.commit("one more").await;
    let before = received().await;

    let late = served.repository.pull_request(&Keys::generate(), &commit);
    let refused = offer(&served, &late, &commit).await.expect_refused();

    assert!(
        refused.contains("too many commits from your address wait for their PR events"),
        "{refused}"
    );
    assert_eq!(received().await, before);
    // With its event first it needs no place.
    assert_eq!(nostr.send(&late).await, held());
    offer(&served, &late, &commit).await.expect_ok();
    assert_ne!(received().await, before);
}
