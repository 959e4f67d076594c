//! What strangers store under somebody's identifier is in nobody's way.

use nostr::event::Event;
use nostr::key::Keys;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;

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

    // Whoever lists a maintainer without an announcement is not found: nothing is decided, and the state is not refused
    // for good.
    let unlisted = served
        .repository
        .state_by(&maintainer, now(), &[("refs/heads/main", &second)]);
    let answer = nostr.send(&unlisted).await;
    assert!(!answer.taken && answer.message.starts_with("error: "), "{answer:?}");
}
