//! One identifier, several owners: each has a repository of its own here, and all of them stay the same.

use nostr::event::Event;
use nostr::key::Keys;
use serde_json::json;
use tests::clients::git::GitClient;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::settled;

in_both_worlds!(
    maintainers_push_in_turns_and_an_invited_one_joins_them,
    a_pull_request_offered_to_one_maintainer_waits_for_the_repository_of_another,
);

/// One of the owners.
fn repository() -> Repository {
    Repository {
        owner: Keys::generate(),
        identifier: "shared".to_owned(),
    }
}

/// Role tags: the lead and the other maintainers.
fn roles(lead: &Repository, others: &[&Repository]) -> Vec<Vec<String>> {
    let role = |name: &str, of: &Repository| tag(&[name, &of.owner.public_key().to_hex()]);
    let others = others.iter().map(|&other| role("m", other));
    std::iter::once(role("M", lead)).chain(others).collect()
}

async fn branches(world: &World, git: &GitClient, repository: &Repository) -> Vec<(String, String)> {
    let mut refs = git.ls_remote(&world.url(repository)).await;
    refs.retain(|(name, _)| name.starts_with("refs/heads/"));
    refs
}

/// Has one owner declare a new commit and push it to a repository; then all repositories must be equal.
async fn take_a_turn(
    world: &World,
    nostr: &mut NostrClient,
    git: &GitClient,
    (by, to): (&Repository, &Repository),
    (turn, all): (u64, &[&Repository]),
) -> Event {
    let commit = git.commit(&format!("turn-{turn}")).await;
    let state = by.state(now() - 100 + turn, &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held(), "turn {turn}");

    git.push(&world.url(to), &["main"]).await.expect_ok();

    assert!(nostr.serves(&state).await, "turn {turn}");
    let expected = [("refs/heads/main".to_owned(), commit)];
    for repository in all {
        assert_eq!(branches(world, git, repository).await, expected, "turn {turn}");
    }
    state
}

/// What an invited maintainer had sent before accepting was lost, or waited for another push, and the repositories of
/// one project on one server went apart (ngit-grasp before 2.0.0 and 3.0.4).
async fn maintainers_push_in_turns_and_an_invited_one_joins_them(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let git = world.git("work").await;
    let (a, b, c) = (repository(), repository(), repository());
    let first = git.commit("first").await;

    // A lists B and C; B answers before there is anything to serve.
    let by_a = world.announcement(&a, now() - 200, &roles(&a, &[&b, &c]));
    let by_b = world.announcement(&b, now() - 200, &roles(&a, &[&b]));
    for announcement in [&by_a, &by_b] {
        assert_eq!(nostr.send(announcement).await, held());
    }
    let declared = a.state(now() - 150, &[("refs/heads/main", &first)]);
    assert_eq!(nostr.send(&declared).await, held());
    git.push(&world.url(&a), &["main"]).await.expect_ok();
    for event in [&by_a, &by_b, &declared] {
        // The worker may have B's lock for a moment: then it does what the push leaves.
        eventually("one push serves both owners' repositories", async || {
            nostr.serves(event).await
        })
        .await;
    }

    let both = [&a, &b];
    take_a_turn(&world, &mut nostr, &git, (&b, &b), (1, &both)).await;
    take_a_turn(&world, &mut nostr, &git, (&a, &a), (2, &both)).await;
    take_a_turn(&world, &mut nostr, &git, (&b, &a), (3, &both)).await;
    let last_of_a = take_a_turn(&world, &mut nostr, &git, (&a, &b), (4, &both)).await;
    let last_of_b = take_a_turn(&world, &mut nostr, &git, (&b, &b), (5, &both)).await;

    // C is only invited: it declares what is here already, newer than everything, and nothing moves.
    let before = branches(&world, &git, &a).await;
    let waiting = c.state(now() - 80, &[("refs/heads/main", &first)]);
    assert_eq!(nostr.send(&waiting).await, held());
    for repository in both {
        let refspec = format!("+{first}:refs/heads/main");
        let said = git.push(&world.url(repository), &[&refspec]).await.expect_refused();
        assert!(said.contains("[remote rejected]"), "{said}");
        assert_eq!(branches(&world, &git, repository).await, before);
    }
    assert!(!nostr.serves(&waiting).await);

    // C accepts, and sends nothing else.
    let by_c = world.announcement(&c, now(), &roles(&a, &[&c]));
    assert_eq!(nostr.send(&by_c).await, held());
    eventually("what waited for the acceptance is served", async || {
        nostr.serves(&waiting).await && nostr.serves(&by_c).await
    })
    .await;
    let all = [&a, &b, &c];
    for repository in all {
        let refs = branches(&world, &git, repository).await;
        assert_eq!(refs, [("refs/heads/main".to_owned(), first.clone())]);
    }

    // From now on C is one of them, on top of what it has declared.
    git.run(&["reset", "--quiet", "--hard", &first]).await.expect_ok();
    let last_of_c = take_a_turn(&world, &mut nostr, &git, (&c, &c), (30, &all)).await;
    for event in [&last_of_a, &last_of_b, &last_of_c] {
        assert!(nostr.serves(event).await, "the last state of each is there");
    }
    take_a_turn(&world, &mut nostr, &git, (&a, &c), (31, &all)).await;
    take_a_turn(&world, &mut nostr, &git, (&b, &b), (32, &all)).await;
    take_a_turn(&world, &mut nostr, &git, (&c, &a), (33, &all)).await;

    let served = nostr.query(json!({"kinds": [30617, 30618]})).await;
    assert_eq!(served.len(), 6, "an announcement and a state of each");
}

/// The lead's repository is on another server: what is offered to it is found when a maintainer's changes here.
async fn a_pull_request_offered_to_one_maintainer_waits_for_the_repository_of_another(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let git = world.git("work").await;
    let (lead, here) = (repository(), repository());
    let first = git.commit("first").await;
    let roles = roles(&lead, &[&here]);
    let elsewhere = [
        &[
            tag(&["d", "shared"]),
            tag(&["clone", "https://elsewhere.example/shared.git"]),
        ][..],
        &[tag(&["relays", "wss://elsewhere.example"])],
        &roles,
    ];
    let by_lead = sign(&lead.owner, 30617, now() - 200, &elsewhere.concat());
    for announcement in [&world.announcement(&here, now() - 200, &roles), &by_lead] {
        assert_eq!(nostr.send(announcement).await, held());
    }
    let offered = lead.pull_request(&Keys::generate(), &first);
    assert_eq!(nostr.send(&offered).await, held());
    settled(&world).await;

    let state = here.state(now() - 150, &[("refs/heads/main", &first)]);
    assert_eq!(nostr.send(&state).await, held());
    git.push(&world.url(&here), &["main"]).await.expect_ok();

    eventually("the PR is served", async || nostr.serves(&offered).await).await;
    let refs = git.ls_remote(&world.url(&here)).await;
    assert!(
        refs.contains(&(format!("refs/nostr/{}", offered.id), first)),
        "{refs:?}"
    );
}
