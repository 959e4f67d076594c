//! What an author deletes (NIP-09), or all of it when he vanishes (NIP-62).

use std::time::Duration;

use nostr::event::Event;
use nostr::key::Keys;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::wait::within;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    a_deleted_held_state_authorises_no_push_and_does_not_come_back,
    nobody_deletes_anothers_events,
    a_deleted_announcement_stops_being_served_and_its_data_is_kept,
    a_deleted_state_falls_back_to_another_maintainers_or_to_nothing,
    whoever_vanishes_takes_everything_along,
    a_request_to_vanish_or_delete_is_short,
    a_repository_that_moves_to_another_server_is_not_served_here,
    the_data_of_a_deleted_repository_is_removed_in_the_end,
);

fn deletion(author: &Keys, targets: &[Vec<String>]) -> Event {
    sign(author, 5, now(), targets)
}

fn by_id(event: &Event) -> Vec<String> {
    tag(&["e", &event.id.to_hex()])
}

fn by_address(kind: u16, repository: &Repository) -> Vec<String> {
    tag(&[
        "a",
        &format!(
            "{kind}:{}:{}",
            repository.owner.public_key().to_hex(),
            repository.identifier
        ),
    ])
}

async fn a_deleted_held_state_authorises_no_push_and_does_not_come_back(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for by_address_too in [false, true] {
        let served = Served::new(&world, &mut nostr, "r").await;
        let second = served.git.commit("two").await;
        let state = served.repository.state(now() - 5, &[("refs/heads/main", &second)]);
        assert_eq!(nostr.send(&state).await, held());

        let target = if by_address_too {
            by_address(30618, &served.repository)
        } else {
            by_id(&state)
        };
        assert!(nostr.send(&deletion(&served.repository.owner, &[target])).await.taken);

        let said = served.git.push(&served.url, &["main"]).await.expect_refused();
        assert!(said.contains("[remote rejected]"), "{said}");
        let again = nostr.send(&state).await;
        assert!(!again.taken && again.message.starts_with("deleted: "), "{again:?}");
    }
}

async fn nobody_deletes_anothers_events(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());

    nostr
        .send(&deletion(
            &Keys::generate(),
            &[by_id(&state), by_id(&served.announcement)],
        ))
        .await;

    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&state).await && nostr.serves(&served.announcement).await);
}

async fn a_deleted_announcement_stops_being_served_and_its_data_is_kept(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for by_address_too in [false, true] {
        let served = Served::new(&world, &mut nostr, "r").await;
        let page = format!("/{}/r.git", served.repository.npub());
        let refs = format!("{page}/info/refs?service=git-upload-pack");
        assert_eq!(world.get(&refs, "").await.0, 200);

        let target = if by_address_too {
            by_address(30617, &served.repository)
        } else {
            by_id(&served.announcement)
        };
        assert!(nostr.send(&deletion(&served.repository.owner, &[target])).await.taken);

        within(Duration::from_secs(1), "it answers 404", async || {
            world.get(&refs, "").await.0 == 404
        })
        .await;
        assert_eq!(world.get(&page, "").await.0, 404);
        served.git.push(&served.url, &["main"]).await.expect_refused();
        let kept = world.repositories().join(served.repository.owner.public_key().to_hex());
        assert!(kept.join("r.git").is_dir(), "its data is kept");
    }
}

async fn a_deleted_state_falls_back_to_another_maintainers_or_to_nothing(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let maintainer = Keys::generate();
    let lists_maintainer = tag(&["maintainers", &maintainer.public_key().to_hex()]);
    let served = Served::of(&world, &mut nostr, Repository::new("r"), &[lists_maintainer]).await;
    let second = served.git.commit("two").await;
    let theirs = served
        .repository
        .state_by(&maintainer, now() - 5, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&theirs).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();

    assert!(nostr.send(&deletion(&maintainer, &[by_id(&theirs)])).await.taken);
    let first = [("refs/heads/main".to_owned(), served.commit.clone())];
    eventually("the owner's state governs again", async || served.refs().await == first).await;

    assert!(
        nostr
            .send(&deletion(&served.repository.owner, &[by_id(&served.state)]))
            .await
            .taken
    );
    eventually("it reads as empty", async || {
        served.git.ls_remote(&served.url).await.is_empty()
    })
    .await;
    assert!(nostr.serves(&served.announcement).await, "the announcement stays");

    // And goes on with a new state.
    let third = served.git.commit("three").await;
    let state = served.repository.state(now() + 1, &[("refs/heads/main", &third)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), third)]);
}

async fn whoever_vanishes_takes_everything_along(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now() - 5, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());
    let refs = format!("/{}/r.git/info/refs?service=git-receive-pack", served.repository.npub());

    let elsewhere = sign(
        &served.repository.owner,
        62,
        now(),
        &[tag(&["relay", "wss://elsewhere.example"])],
    );
    assert!(nostr.send(&elsewhere).await.taken);
    assert_eq!(world.get(&refs, "").await.0, 200, "that was another server");
    let here = sign(
        &served.repository.owner,
        62,
        now(),
        &[tag(&["relay", &format!("ws://{}", world.authority())])],
    );
    assert!(nostr.send(&here).await.taken);

    within(Duration::from_secs(1), "it answers 404", async || {
        world.get(&refs, "").await.0 == 404
    })
    .await;
    served.git.push(&served.url, &["main"]).await.expect_refused();
    let again = nostr.send(&state).await;
    assert!(!again.taken && again.message.starts_with("deleted: "), "{again:?}");
}

/// Each decision about the author's events reads it.
async fn a_request_to_vanish_or_delete_is_short(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let author = Keys::generate();
    let relays = |count: usize| vec![tag(&["relay", "wss://relay.example"]); count];

    assert!(nostr.send(&sign(&author, 62, now(), &relays(200))).await.taken);
    let refused = nostr.send(&sign(&author, 62, now(), &relays(300))).await;
    assert!(
        !refused.taken && refused.message.starts_with("invalid: a request to vanish"),
        "{refused:?}"
    );
    let events = |count: usize| vec![tag(&["e", &"ab".repeat(32)]); count];
    assert!(nostr.send(&sign(&author, 5, now(), &events(1_000))).await.taken);
    let more = vec![tag(&["x", "y"]); 4_000];
    let refused = nostr.send(&sign(&author, 5, now(), &more)).await;
    assert!(
        !refused.taken && refused.message.starts_with("invalid: a request to delete"),
        "{refused:?}"
    );
}

async fn a_repository_that_moves_to_another_server_is_not_served_here(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let refs = format!("/{}/r.git/info/refs?service=git-upload-pack", served.repository.npub());
    let moved = sign(
        &served.repository.owner,
        30617,
        now(),
        &[
            tag(&["d", "r"]),
            tag(&["clone", "https://elsewhere.example/x.git"]),
            tag(&["relays", "wss://elsewhere.example"]),
        ],
    );

    assert_eq!(nostr.send(&moved).await, held());

    within(Duration::from_secs(1), "it answers 404", async || {
        world.get(&refs, "").await.0 == 404
    })
    .await;
    eventually("readers learn where it is", async || nostr.serves(&moved).await).await;
}

async fn the_data_of_a_deleted_repository_is_removed_in_the_end(kind: Kind) {
    for (deleted_retention_days, removed) in [(90, false), (0, true)] {
        let mut world = World::start(
            kind,
            Options {
                deleted_retention_days,
                ..Options::default()
            },
        )
        .await;
        let mut nostr = world.nostr().await;
        let (deleted, kept) = (
            Served::new(&world, &mut nostr, "r").await,
            Served::new(&world, &mut nostr, "r").await,
        );
        let on_disk = |served: &Served| {
            world
                .repositories()
                .join(served.repository.owner.public_key().to_hex())
                .join("r.git")
        };
        let (gone, there) = (on_disk(&deleted), on_disk(&kept));
        assert!(
            nostr
                .send(&deletion(&deleted.repository.owner, &[by_id(&deleted.announcement)]))
                .await
                .taken
        );

        // The daily check is made at the start too.
        world.kill_gateway().await;
        world.start_gateway().await;

        if removed {
            eventually("the deleted one is removed", async || !gone.exists()).await;
        } else {
            eventually("it is noted", async || gone.join("grasp-unhosted-since").exists()).await;
        }
        assert!(there.join("HEAD").exists() && !there.join("grasp-unhosted-since").exists());
        assert!(world.clone(&kept.repository, "kept").await.is_some());
    }
}
