//! What strangers store under somebody's identifier is in nobody's way.

use nostr::event::Event;
use nostr::key::Keys;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::settled;

in_both_worlds!(
    strangers_with_the_same_name_take_nothing_from_a_push,
    a_repository_that_lists_the_pusher_follows_the_push,
);

/// Announcements of one identifier for other servers, all of one second.
fn announcements(count: usize, identifier: &str) -> Vec<Event> {
    let at = now();
    let announce = |_| sign(&Keys::generate(), 30617, at, &[tag(&["d", identifier])]);
    (0..count).map(announce).collect()
}

/// More than a page of events of one second: paging by time cannot get past it. No facts were had about the identifier
/// any more, so the owner's states and pushes were refused until an operator deleted the strangers' events.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_second_of_strangers_events_hides_nothing_of_the_owners() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let maintainer = Keys::generate();
    let repository = Repository::new("dotfiles");
    let lists = [tag(&["maintainers", &maintainer.public_key().to_hex()])];
    let served = Served::of(&world, &mut nostr, repository, &lists).await;
    world.import_all(&announcements(1001, "dotfiles")).await;

    let second = served.git.commit("two").await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&state).await);
    let pull_request = served.repository.pull_request(&Keys::generate(), &second);
    assert!(nostr.send(&pull_request).await.taken);
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second.clone())]);
    let clone = world.clone(&served.repository, "reader").await.expect("it is read");
    assert_eq!(clone.rev_parse("HEAD").await, second);

    // Who lists a maintainer is found, although the maintainer announces nothing.
    let listed = served
        .repository
        .state_by(&maintainer, now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&listed).await, held());
    eventually("the maintainer's state is served, as its commit is here", async || {
        nostr.serves(&listed).await
    })
    .await;
}

/// Each decision about a repository read whatever had the same identifier, in Redis, in the relay and on disk, and took
/// the lock that all of them shared.
async fn strangers_with_the_same_name_take_nothing_from_a_push(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let launcher = ["env", "GRASP_LOG=info,grasp_gateway=debug"];
    world
        .send_gateway_round(Detour {
            launcher: launcher.map(str::to_owned).into(),
            ..Detour::default()
        })
        .await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "dotfiles").await;
    let strangers = [(); 6].map(|()| Repository::new("dotfiles"));
    for stranger in &strangers {
        let listed: Vec<String> = strangers
            .iter()
            .map(|other| other.owner.public_key().to_hex())
            .collect();
        let maintainers = ["maintainers".to_owned()].into_iter().chain(listed).collect();
        let announcement = world.announcement(stranger, now(), &[maintainers]);
        assert_eq!(nostr.send(&announcement).await, held());
        let state = stranger.state(now(), &[("refs/heads/main", &"a".repeat(40))]);
        assert_eq!(nostr.send(&state).await, held());
        let pull_request = stranger.pull_request(&Keys::generate(), &"b".repeat(40));
        assert_eq!(nostr.send(&pull_request).await, held());
    }
    settled(&world).await;

    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();

    assert!(nostr.serves(&state).await);
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second)]);
    let log = world.gateway_log();
    let before = log.split("push decided").nth(1).expect("the second push");
    let reconciled: Vec<&str> = before
        .lines()
        .filter(|line| line.contains("reconcile repositories"))
        .collect();
    let of_the_push = reconciled.last().expect("the push reconciles");
    assert!(of_the_push.contains("coordinates=1"), "{of_the_push}");
}

/// The repository of somebody who lists a maintainer, and is not listed in return, is no part of what the maintainer
/// pushes to, and is brought to the maintainer's state all the same.
async fn a_repository_that_lists_the_pusher_follows_the_push(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let pusher = Served::new(&world, &mut nostr, "shared").await;
    let lists = [tag(&["maintainers", &pusher.repository.owner.public_key().to_hex()])];
    let follower = Repository::new("shared");
    let announcement = world.announcement(&follower, now(), &lists);
    assert_eq!(nostr.send(&announcement).await, held());
    eventually("it has what the maintainer declares", async || {
        nostr.serves(&announcement).await
    })
    .await;

    let second = pusher.git.commit("two").await;
    let state = pusher.repository.state(now() + 1, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    pusher.git.push(&pusher.url, &["main"]).await.expect_ok();

    let moved = [("refs/heads/main".to_owned(), second.clone())];
    assert_eq!(pusher.refs().await, moved);
    // Nobody asks for it: a reader would mark it dirty.
    let owner = world.repositories().join(follower.owner.public_key().to_hex());
    let on_disk = format!("--git-dir={}", owner.join("shared.git").display());
    eventually("its branch has moved", async || {
        let said = pusher.git.run(&[&on_disk, "rev-parse", "refs/heads/main"]).await;
        said.expect_ok().trim() == second
    })
    .await;
    let clone = world.clone(&follower, "reader").await.expect("it is read");
    assert_eq!(clone.rev_parse("HEAD").await, second);
    let refs = pusher.git.ls_remote(&world.url(&follower)).await;
    assert!(refs.contains(&moved[0]), "{refs:?}");
}

/// A stranger lists the owner, and his own repository cannot be read: the owner's was never clean again, and each of
/// its reconciles paused it longer, up to 64 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_repository_that_cannot_be_read_keeps_only_itself_back() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "shared").await;
    let lists = [tag(&["maintainers", &served.repository.owner.public_key().to_hex()])];
    let follower = Repository::new("shared");
    let announcement = world.announcement(&follower, now(), &lists);
    assert_eq!(nostr.send(&announcement).await, held());
    eventually("it is announced", async || nostr.serves(&announcement).await).await;
    let owner = world.repositories().join(follower.owner.public_key().to_hex());
    std::fs::rename(owner.join("shared.git"), owner.join("aside")).unwrap();
    std::fs::write(owner.join("shared.git"), "no repository").unwrap();

    let second = served.git.commit("two").await;
    let state = served.repository.state(now() + 1, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();

    let strangers = follower.coordinate().to_string();
    eventually("only the stranger's is still to be reconciled", async || {
        let dirty: Vec<String> = world.redis().ask(&["ZRANGE", "{purgatory}:dirty", "0", "-1"]).await;
        dirty == [strangers.clone()]
    })
    .await;
    std::fs::remove_file(owner.join("shared.git")).unwrap();
    std::fs::rename(owner.join("aside"), owner.join("shared.git")).unwrap();
    let on_disk = format!("--git-dir={}", owner.join("shared.git").display());
    eventually("its branch has moved", async || {
        let said = served.git.run(&[&on_disk, "rev-parse", "refs/heads/main"]).await;
        said.expect_ok().trim() == second
    })
    .await;
}
