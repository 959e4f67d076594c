//! Whose repositories an operator hosts: lists that are read again when they change.

use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::in_both_worlds;

in_both_worlds!(lists_are_read_again_when_they_change);

async fn lists_are_read_again_when_they_change(kind: Kind) {
    let world = World::start(
        kind,
        Options {
            with_deny_list: true,
            ..Options::default()
        },
    )
    .await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let page = format!("/{}/r.git", served.repository.npub());
    assert_eq!(world.get(&page, "").await.0, 200);
    let is_listed = async || {
        let (_, list) = world.get("/", "").await;
        let (_, found) = world.get("/?name=r", "").await;
        let is_found = found.contains("One repository.");
        assert_eq!(list.contains("One repository."), is_found, "{list}");
        assert_eq!(list.contains(&page), is_found, "{list}");
        assert_eq!(
            found.contains("No repository has a name with a word"),
            !is_found,
            "{found}"
        );
        is_found
    };
    assert!(is_listed().await);

    std::fs::write(
        world.deny_list(),
        format!("{}/r # taken down\n", served.repository.npub()),
    )
    .unwrap();

    eventually("it is not served over git", async || {
        world.get(&page, "").await.0 == 404
    })
    .await;
    assert!(!is_listed().await);
    let refused = async |nostr: &mut tests::clients::nostr::NostrClient| {
        let answer = nostr.send(&world.announcement(&served.repository, now(), &[])).await;
        !answer.taken && answer.message.starts_with("blocked: ")
    };
    eventually("its announcements are refused", async || refused(&mut nostr).await).await;
    let (_, document) = world.get("/", "accept: application/nostr+json\r\n").await;
    assert!(
        document.contains("except repositories and authors that the operator has excluded"),
        "{document}"
    );
    // Others are hosted as before.
    let other = Repository::new("r");
    assert!(nostr.send(&world.announcement(&other, now(), &[])).await.taken);

    std::fs::write(world.deny_list(), "").unwrap();
    eventually("it is listed again before anybody opens its page", async || {
        world.get("/?name=r", "").await.1.contains("One repository.")
    })
    .await;
    eventually("it is served again", async || world.get(&page, "").await.0 == 200).await;
    assert!(is_listed().await);
}
