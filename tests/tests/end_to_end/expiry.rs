//! What is not fulfilled in time disappears; expiry is decided after looking for the data (design 2, rule 7).

use nostr::key::Keys;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use super::Served;
use super::held;
use super::in_both_worlds;

in_both_worlds!(
    an_announcement_sleeps_and_an_authorised_state_wakes_it,
    a_state_expires_and_its_push_is_refused,
    a_placeholder_expires_with_its_objects,
);

const SHORT: Options = Options {
    hold_secs: 2,
    ..Options::DEFAULT
};

async fn an_announcement_sleeps_and_an_authorised_state_wakes_it(kind: Kind) {
    let world = World::start(kind, SHORT).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let commit = git.commit("one").await;
    let announcement = world.announcement(&repository, now(), &[]);
    assert_eq!(nostr.send(&announcement).await, held());
    let page = format!("/{}/r.git", repository.npub());
    let refs = format!("{page}/info/refs?service=git-receive-pack");
    assert_eq!(world.get(&page, "").await.0, 200);

    eventually("it answers 404", async || world.get(&refs, "").await.0 == 404).await;
    assert_eq!(world.get(&page, "").await.0, 404);
    let stranger = repository.state_by(&Keys::generate(), now(), &[("refs/heads/main", &commit)]);
    assert!(!nostr.send(&stranger).await.taken);
    assert_eq!(world.get(&page, "").await.0, 404, "a stranger wakes nothing");

    let state = repository.state(now(), &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    assert_eq!(world.get(&page, "").await.0, 200);
    git.push(&world.url(&repository), &["main"]).await.expect_ok();
    assert!(nostr.serves(&announcement).await && nostr.serves(&state).await);
}

async fn a_state_expires_and_its_push_is_refused(kind: Kind) {
    let world = World::start(kind, SHORT).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());

    eventually("the state has expired", async || {
        world.gateway_log().contains(&format!("expired event.id={}", state.id))
    })
    .await;

    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains("[remote rejected]"), "{said}");
    assert!(!nostr.serves(&state).await);
    // Whoever sends it again has it held again.
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&state).await);
}

async fn a_placeholder_expires_with_its_objects(kind: Kind) {
    let world = World::start(kind, SHORT).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let staged = world
        .folder()
        .join("data/staging/r")
        .join(served.repository.owner.public_key().to_hex());
    let staged = staged.join(event.id.to_hex());
    served
        .git
        .push(&served.url, &[&format!("{offered}:refs/nostr/{}", event.id)])
        .await
        .expect_ok();
    assert!(staged.is_dir(), "{}", staged.display());

    eventually("the staged objects are gone", async || !staged.exists()).await;

    assert_eq!(nostr.send(&event).await, held());
    assert!(!nostr.serves(&event).await, "its commit is not here any more");
}
