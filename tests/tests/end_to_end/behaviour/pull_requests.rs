//! PRs: the event and the push of its commit come in either order (docs/ARCHITECTURE.md rule 6).

use nostr::event::Event;
use nostr::key::Keys;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::redis;

in_both_worlds!(
    the_event_comes_first,
    the_push_comes_first,
    a_strangers_push_of_another_commit_removes_nothing,
    a_wrong_commit_is_gone_when_the_event_comes,
    a_pull_request_waits_for_its_repository,
    a_served_pull_request_is_pushed_to_another_repository_of_its,
    a_commit_for_somebody_elses_pull_request_does_not_stay,
    pull_requests_whose_commit_comes_with_a_branch_are_served,
    more_pull_requests_than_a_page_expire,
);

fn pull_request_ref(event: &Event) -> String {
    format!("refs/nostr/{}", event.id)
}

/// Returns the commit of a PR as clients see it.
async fn seen(served: &Served, name: &str) -> Option<String> {
    let refs = served.git.ls_remote(&served.url).await;
    refs.into_iter().find(|(found, _)| found == name).map(|(_, oid)| oid)
}

async fn the_event_comes_first(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (offered, other) = (served.git.commit("offer").await, served.git.commit("other").await);
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let name = pull_request_ref(&event);
    assert_eq!(nostr.send(&event).await, held());
    assert!(!nostr.serves(&event).await);

    let wrong = served
        .git
        .push(&served.url, &[&format!("{other}:{name}")])
        .await
        .expect_refused();
    assert!(
        wrong.contains(&format!("the PR event names commit {}", &offered[..8])),
        "{wrong}"
    );
    served
        .git
        .push(&served.url, &[&format!("{offered}:{name}")])
        .await
        .expect_ok();

    assert!(nostr.serves(&event).await);
    assert_eq!(seen(&served, &name).await, Some(offered));
    let deleted = served
        .git
        .push(&served.url, &[&format!(":{name}")])
        .await
        .expect_refused();
    assert!(deleted.contains("stays as long as the event"), "{deleted}");
}

async fn the_push_comes_first(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let name = pull_request_ref(&event);

    served
        .git
        .push(&served.url, &[&format!("{offered}:{name}")])
        .await
        .expect_ok();
    assert_eq!(seen(&served, &name).await, None, "nobody sees it before its event");
    assert_eq!(nostr.send(&event).await, held());

    eventually("the event is served", async || nostr.serves(&event).await).await;
    assert_eq!(seen(&served, &name).await, Some(offered));
    let refs = served.refs().await;
    assert_eq!(
        refs,
        [("refs/heads/main".to_owned(), served.commit.clone())],
        "branches are as they were"
    );
}

/// Who had read the event elsewhere pushed another commit to its ref, and the pusher's own went, which had been
/// answered `ok`.
async fn a_strangers_push_of_another_commit_removes_nothing(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let name = pull_request_ref(&event);
    let wrong = served.git.commit("wrong").await;

    for commit in [&offered, &wrong] {
        let pushed = served.git.push(&served.url, &[&format!("{commit}:{name}")]).await;
        pushed.expect_ok();
    }
    assert_eq!(nostr.send(&event).await, held());

    eventually("the event is served", async || nostr.serves(&event).await).await;
    assert_eq!(seen(&served, &name).await, Some(offered));
}

async fn a_wrong_commit_is_gone_when_the_event_comes(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (wrong, offered) = (served.git.commit("wrong").await, served.git.commit("offer").await);
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let name = pull_request_ref(&event);

    served
        .git
        .push(&served.url, &[&format!("{wrong}:{name}")])
        .await
        .expect_ok();
    assert_eq!(nostr.send(&event).await, held());
    eventually("what was staged is gone", async || !is_anything_staged(&world)).await;

    assert!(!nostr.serves(&event).await, "the event still waits");
    served
        .git
        .push(&served.url, &[&format!("{offered}:{name}")])
        .await
        .expect_ok();
    assert!(nostr.serves(&event).await);
    assert_eq!(seen(&served, &name).await, Some(offered));
}

fn is_anything_staged(world: &World) -> bool {
    fn packs(path: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(path)
            .map(|entries| entries.flatten().collect::<Vec<_>>())
            .unwrap_or_default();
        let counts = entries.iter().map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                packs(&path)
            } else {
                usize::from(path.extension().is_some_and(|end| end == "pack"))
            }
        });
        counts.sum()
    }
    packs(&world.folder().join("data/staging")) > 0
}

async fn a_pull_request_waits_for_its_repository(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let (main, offered) = (git.commit("one").await, git.commit("offer").await);
    let announcement = world.announcement(&repository, now(), &[]);
    assert_eq!(nostr.send(&announcement).await, held());
    let event = repository.pull_request(&Keys::generate(), &offered);
    assert_eq!(nostr.send(&event).await, held());
    let (url, name) = (world.url(&repository), pull_request_ref(&event));

    git.push(&url, &[&format!("{offered}:{name}")]).await.expect_ok();
    assert!(!nostr.serves(&event).await, "its repository is not served");
    assert_eq!(
        std::fs::read_dir(world.repositories()).unwrap().count(),
        0,
        "a virtual repository stays virtual"
    );
    assert_eq!(
        nostr
            .send(&repository.state(now(), &[("refs/heads/main", &main)]))
            .await,
        held()
    );
    git.push(&url, &[&format!("{main}:refs/heads/main")]).await.expect_ok();

    eventually("the event is served", async || nostr.serves(&event).await).await;
    let refs = git.ls_remote(&url).await;
    assert!(refs.contains(&(name, offered)), "{refs:?}");
}

/// Once the first repository had the commit, the event was served, and a push to the second was reported ok without
/// setting anything.
async fn a_served_pull_request_is_pushed_to_another_repository_of_its(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let (first, second) = (
        Served::new(&world, &mut nostr, "r").await,
        Served::new(&world, &mut nostr, "s").await,
    );
    let offered = first.git.commit("offer").await;
    let both = [&first, &second].map(|served| tag(&["a", &served.repository.coordinate().to_string()]));
    let event = sign(
        &Keys::generate(),
        1618,
        now(),
        &[&both[..], &[tag(&["c", &offered])]].concat(),
    );
    let name = pull_request_ref(&event);
    assert_eq!(nostr.send(&event).await, held());

    first
        .git
        .push(&first.url, &[&format!("{offered}:{name}")])
        .await
        .expect_ok();
    assert!(nostr.serves(&event).await);
    first
        .git
        .push(&second.url, &[&format!("{offered}:{name}")])
        .await
        .expect_ok();

    assert_eq!(seen(&second, &name).await, Some(offered));
}

/// Returns PRs of so many strangers that all offer one commit, held.
async fn held_pull_requests(served: &Served, nostr: &mut NostrClient, commit: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..MORE_THAN_A_PAGE {
        let event = served.repository.pull_request(&Keys::generate(), commit);
        assert_eq!(nostr.send(&event).await, held());
        events.push(event);
    }
    events
}

const MORE_THAN_A_PAGE: usize = 40;

/// The push of the branch reconciles none of them: the worker does.
async fn pull_requests_whose_commit_comes_with_a_branch_are_served(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let events = held_pull_requests(&served, &mut nostr, &second).await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());

    served.git.push(&served.url, &["main"]).await.expect_ok();

    for event in &events {
        eventually("the PR is served", async || nostr.serves(event).await).await;
        assert_eq!(seen(&served, &pull_request_ref(event)).await, Some(second.clone()));
    }
}

async fn more_pull_requests_than_a_page_expire(kind: Kind) {
    let options = Options {
        hold_secs: 2,
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;

    let events = held_pull_requests(&served, &mut nostr, &"a".repeat(40)).await;

    for event in &events {
        eventually("it has expired", async || {
            world.gateway_log().contains(&format!("expired event.id={}", event.id))
        })
        .await;
    }
}

/// A commit was kept for ever that was staged for a PR which is offered to another repository.
async fn a_commit_for_somebody_elses_pull_request_does_not_stay(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let (own, victim) = (
        Served::new(&world, &mut nostr, "own").await,
        Served::new(&world, &mut nostr, "victim").await,
    );
    let offered = own.git.commit("offer").await;
    let event = own.repository.pull_request(&Keys::generate(), &offered);
    let refspec = format!("{offered}:{}", pull_request_ref(&event));

    own.git.push(&victim.url, &[&refspec]).await.expect_ok();
    own.git.push(&own.url, &[&refspec]).await.expect_ok();
    assert_eq!(nostr.send(&event).await, held());
    eventually("the event is served", async || nostr.serves(&event).await).await;
    // Whatever happens next to the victim's repository has it reconciled.
    let second = victim.git.commit("two").await;
    assert_eq!(
        nostr
            .send(&victim.repository.state(now(), &[("refs/heads/main", &second)]))
            .await,
        held()
    );

    eventually("nothing is staged any more", async || !is_anything_staged(&world)).await;
    assert_eq!(seen(&victim, &pull_request_ref(&event)).await, None);
}

/// Held again after Redis lost everything, when the repository was gone too, it stayed held until it expired. The soak
/// found it.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_pull_request_that_is_served_already_is_held_no_longer() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    assert_eq!(nostr.send(&event).await, held());
    let mut redis = redis(&world).await;
    assert!(field(&mut redis, &event.id.to_hex(), "status").await.is_some());

    world.import(&event).await;
    // Whatever happens next to the repository has it reconciled.
    let state = served.repository.state(now(), &[("refs/heads/main", &offered)]);
    assert_eq!(nostr.send(&state).await, held());

    eventually("it is held no longer", async || {
        field(&mut redis, &event.id.to_hex(), "status").await.is_none()
    })
    .await;
    assert!(nostr.serves(&event).await);
}
