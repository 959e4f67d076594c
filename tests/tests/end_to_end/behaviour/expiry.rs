//! Held events whose data does not come in time expire; expiry is decided after searching for the data
//! (docs/ARCHITECTURE.md rule 7).

use nostr::key::Keys;
use shared::nip34;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::faults::slow_line::SlowLine;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::noise::noise;

use crate::fixture::Served;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::redis;

in_both_worlds!(
    an_announcement_sleeps_and_an_authorised_state_wakes_it,
    a_state_wakes_an_announcement_behind_those_of_many_strangers,
    a_state_expires_and_its_push_is_refused,
    a_placeholder_expires_with_its_objects,
    an_abandoned_commit_goes_after_a_restart_too,
    a_state_does_not_expire_while_its_push_is_uploaded,
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

/// A decision about an event reads 16 of the announcements that list its author, by their owners' keys.
async fn a_state_wakes_an_announcement_behind_those_of_many_strangers(kind: Kind) {
    const STRANGERS: usize = 17;
    let world = World::start(kind, SHORT).await;
    let mut nostr = world.nostr().await;
    let maintainer = Keys::generate();
    let lists_maintainer = [tag(&["maintainers", &maintainer.public_key().to_hex()])];
    let mut repositories: Vec<_> = (0..=STRANGERS).map(|_| Repository::new("r")).collect();
    repositories.sort_by_key(|repository| repository.owner.public_key());
    for repository in &repositories {
        let announcement = world.announcement(repository, now(), &lists_maintainer);
        assert_eq!(nostr.send(&announcement).await, held());
    }
    let page = format!("/{}/r.git", repositories[STRANGERS].npub());
    eventually("it sleeps", async || world.get(&page, "").await.0 == 404).await;

    let commit = world.git("work").await.commit("one").await;
    eventually("it wakes", async || {
        let state = repositories[0].state_by(&maintainer, now(), &[("refs/heads/main", &commit)]);
        nostr.send(&state).await;
        world.get(&page, "").await.0 == 200
    })
    .await;
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
    let log = world.gateway_log();
    let line = log
        .lines()
        .find(|line| line.contains(&format!("expired event.id={}", state.id)));
    let repository = format!("30617:{}:r", served.repository.owner.public_key());
    let line = line.unwrap();
    assert!(
        line.contains(&repository) && line.contains(&format!("1 missing object: {second}")),
        "{line}"
    );

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

/// The ref of a PR whose event never came stayed for ever if the server was restarted before its time was over
/// (ngit-grasp before 3.0.6).
async fn an_abandoned_commit_goes_after_a_restart_too(kind: Kind) {
    let options = Options {
        hold_secs: 3,
        ..Options::default()
    };
    let mut world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let event = served
        .repository
        .pull_request(&Keys::generate(), &served.git.commit("offer").await);
    let staged = world
        .folder()
        .join("data/staging/r")
        .join(served.repository.owner.public_key().to_hex())
        .join(event.id.to_hex());
    served
        .git
        .push(&served.url, &[&format!("main:refs/nostr/{}", event.id)])
        .await
        .expect_ok();
    assert!(staged.is_dir(), "{}", staged.display());

    world.kill_gateway().await;
    world.start_gateway().await;

    eventually("the staged objects are gone", async || !staged.exists()).await;
    assert_eq!(
        served.refs().await,
        [("refs/heads/main".to_owned(), served.commit.clone())]
    );
}

/// What waited for its data expired while the data was on its way (ngit-grasp before 2.1.2).
async fn a_state_does_not_expire_while_its_push_is_uploaded(kind: Kind) {
    let options = Options {
        hold_secs: 2,
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    std::fs::write(
        world.folder().join(format!("work-{}/file", served.repository.npub())),
        noise(1, 400 << 10),
    )
    .unwrap();
    let second = served.git.commit("two").await;
    let waiting = served.repository.state(now(), &[("refs/heads/main", &second)]);
    let idle = Repository::new("idle");
    assert_eq!(nostr.send(&waiting).await, held());
    assert_eq!(nostr.send(&world.announcement(&idle, now(), &[])).await, held());
    let line = SlowLine::before(world.authority()).await;
    let url = line.url(&served.url);

    let push = served.git.push(&url, &["main"]);
    let others = async {
        // Held later and with nobody at it: by then the time of the first is over too.
        let page = format!("/{}/idle.git", idle.npub());
        eventually("the other one has expired", async || {
            world.get(&page, "").await.0 == 404
        })
        .await;
        line.open();
    };
    let (said, ()) = tokio::join!(push, others);

    said.expect_ok();
    assert!(nostr.serves(&waiting).await);
}

/// An author may want an event to end (NIP-40) before its git data can come.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_ends_with_its_own_expiration() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    let tags = |expiration: u64| {
        [
            tag(&["d", "r"]),
            tag(&["refs/heads/main", &second]),
            tag(&["expiration", &expiration.to_string()]),
        ]
    };
    let owner = &served.repository.owner;
    let state = sign(owner, nip34::STATE, now(), &tags(now() + 2));
    assert_eq!(nostr.send(&state).await, held());
    let announcement = world.announcement(
        &Repository::new("s"),
        now(),
        &[tag(&["expiration", &(now() + 2).to_string()])],
    );
    assert_eq!(nostr.send(&announcement).await, held());
    let mut redis = redis(&world).await;

    for event in [&state, &announcement] {
        eventually("it has ended", async || {
            field(&mut redis, &event.id.to_hex(), "status").await.is_none()
        })
        .await;
        let answer = nostr.send(event).await;
        assert_eq!(
            (answer.taken, answer.message.as_str()),
            (false, "invalid: event expired")
        );
    }

    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains("[remote rejected]"), "{said}");
    assert_eq!(
        served.refs().await,
        [("refs/heads/main".to_owned(), served.commit.clone())]
    );
}
