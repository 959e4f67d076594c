//! Which of several waiting states a push fulfils is decided when it is pushed (docs/ARCHITECTURE.md rule 5).

use nostr::key::Keys;
use tests::clients::nostr::now;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    states_pushed_in_order_are_released_one_by_one,
    the_newer_state_pushed_first_ends_the_older,
    states_of_two_maintainers_wait_side_by_side,
);

async fn states_pushed_in_order_are_released_one_by_one(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (second, third) = (served.git.commit("two").await, served.git.commit("three").await);
    let older = served.repository.state(now() - 20, &[("refs/heads/main", &second)]);
    let newer = served.repository.state(now() - 10, &[("refs/heads/main", &third)]);
    assert_eq!(nostr.send(&older).await, held());
    assert_eq!(nostr.send(&newer).await, held());

    served
        .git
        .push(&served.url, &[&format!("{second}:refs/heads/main")])
        .await
        .expect_ok();
    assert!(nostr.serves(&older).await && !nostr.serves(&newer).await);

    served
        .git
        .push(&served.url, &[&format!("{third}:refs/heads/main")])
        .await
        .expect_ok();
    assert!(
        nostr.serves(&newer).await && !nostr.serves(&older).await,
        "the relay keeps the newer only"
    );
}

async fn the_newer_state_pushed_first_ends_the_older(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    served
        .git
        .run(&["reset", "--quiet", "--hard", &served.commit])
        .await
        .expect_ok();
    let third = served.git.commit("three").await;
    let older = served.repository.state(now() - 20, &[("refs/heads/main", &second)]);
    let newer = served.repository.state(now() - 10, &[("refs/heads/main", &third)]);
    assert_eq!(nostr.send(&older).await, held());
    assert_eq!(nostr.send(&newer).await, held());

    served
        .git
        .push(&served.url, &[&format!("{third}:refs/heads/main")])
        .await
        .expect_ok();

    assert!(nostr.serves(&newer).await);
    let said = served
        .git
        .push(&served.url, &[&format!("+{second}:refs/heads/main")])
        .await
        .expect_refused();
    assert!(said.contains("[remote rejected]"), "{said}");
    assert!(!nostr.serves(&older).await);
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), third)]);
}

async fn states_of_two_maintainers_wait_side_by_side(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let maintainer = Keys::generate();
    let lists_maintainer = tag(&["maintainers", &maintainer.public_key().to_hex()]);
    let served = Served::of(&world, &mut nostr, Repository::new("r"), &[lists_maintainer]).await;
    let (second, third) = (served.git.commit("two").await, served.git.commit("three").await);
    let theirs = served
        .repository
        .state_by(&maintainer, now() - 20, &[("refs/heads/main", &second)]);
    let owners = served.repository.state(now() - 10, &[("refs/heads/main", &third)]);
    assert_eq!(nostr.send(&owners).await, held());
    assert_eq!(nostr.send(&theirs).await, held());

    served
        .git
        .push(&served.url, &[&format!("{second}:refs/heads/main")])
        .await
        .expect_ok();
    assert!(nostr.serves(&theirs).await && !nostr.serves(&owners).await);
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), second)]);

    served
        .git
        .push(&served.url, &[&format!("{third}:refs/heads/main")])
        .await
        .expect_ok();
    assert!(
        nostr.serves(&theirs).await && nostr.serves(&owners).await,
        "both are served"
    );
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), third.clone())]);

    // An older one of the maintainer whose objects are here is served, and changes no ref.
    let late = served
        .repository
        .state_by(&maintainer, now() - 15, &[("refs/heads/main", &served.commit)]);
    assert_eq!(nostr.send(&late).await, held());
    eventually("the late state is served", async || nostr.serves(&late).await).await;
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), third)]);
}
