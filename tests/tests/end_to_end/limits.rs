//! What may be held, as the operator says.

use tests::nostr_client::now;
use tests::world::Kind;
use tests::world::Options;
use tests::world::Repository;
use tests::world::World;

use super::held;
use super::in_both_worlds;

in_both_worlds!(an_author_holds_as_many_events_as_the_operator_says);

async fn an_author_holds_as_many_events_as_the_operator_says(kind: Kind) {
    let options = Options {
        held: &["--held-per-author-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let first = Repository::new("first");
    let of_the_same = |identifier: &str| Repository {
        identifier: identifier.to_owned(),
        ..first.clone()
    };
    for repository in [&first, &of_the_same("second")] {
        assert_eq!(nostr.send(&world.announcement(repository, now(), &[])).await, held());
    }

    let third = nostr.send(&world.announcement(&of_the_same("third"), now(), &[])).await;
    let anothers = nostr
        .send(&world.announcement(&Repository::new("third"), now(), &[]))
        .await;

    let refused = "restricted: too many events of this author wait for git data";
    assert!(!third.taken && third.message.starts_with(refused), "{third:?}");
    assert_eq!(anothers, held());
}
