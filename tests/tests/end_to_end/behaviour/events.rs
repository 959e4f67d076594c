//! What the relay answers to events, and which of them it serves.

use crate::fixture::held;
use crate::fixture::in_both_worlds;
use nostr::key::Keys;
use serde_json::Value;
use serde_json::json;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::world::World;

in_both_worlds!(
    a_forged_event_is_not_in_the_genuine_ones_way,
    what_is_refused_is_not_repeated_in_the_logs,
    a_replaced_held_announcement_stays_held,
    a_malformed_reconciliation_leaves_the_server_alone,
);

/// An event with the id of another one was taken into a cache, and the genuine one counted as a duplicate of it
/// (ngit-grasp before 3.0.9).
async fn a_forged_event_is_not_in_the_genuine_ones_way(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let (commit, other) = (git.commit("one").await, git.commit("two").await);
    let announcement = world.announcement(&repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", &commit)]);
    for (genuine, name, forgery) in [
        (
            &announcement,
            "tags",
            json!(world.announcement(&repository, 1, &[tag(&["name", "mine"])]).tags),
        ),
        (
            &state,
            "tags",
            json!(repository.state(1, &[("refs/heads/main", &other)]).tags),
        ),
        (&state, "sig", json!("0".repeat(128))),
    ] {
        let mut forged = serde_json::to_value(genuine).unwrap();
        forged[name] = forgery;

        nostr.say(json!(["EVENT", forged])).await;

        let answer = nostr.hear().await;
        assert_eq!(answer[2], false, "{answer}");
    }
    assert_eq!(nostr.send(&announcement).await, held());
    assert_eq!(nostr.send(&state).await, held());
    git.push(&world.url(&repository), &[&format!("{other}:refs/heads/main")])
        .await
        .expect_refused();
    git.push(&world.url(&repository), &[&format!("{commit}:refs/heads/main")])
        .await
        .expect_ok();
    assert!(nostr.serves(&announcement).await && nostr.serves(&state).await);
}

/// Events that were refused stood in the log whole, so that anybody could fill the disk (ngit-grasp before 3.0.5).
async fn what_is_refused_is_not_repeated_in_the_logs(kind: Kind) {
    let options = Options {
        other_kinds: "refuse",
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let marker = "repeat-after-me-".repeat(50);
    let stranger = Keys::generate();
    let unhosted = Repository::new("unhosted");
    let events = [
        sign(&stranger, 1621, now(), &[tag(&["t", &marker])]),
        sign(&stranger, 30617, now(), &[tag(&["d", "r"]), tag(&["name", &marker])]),
        unhosted.state(now(), &[(&format!("refs/heads/{marker}"), &"a".repeat(40))]),
        sign(&stranger, 1618, now(), &[tag(&["subject", &marker])]),
    ];

    for event in &events {
        let answer = nostr.send(event).await;
        assert!(!answer.taken && !answer.message.contains(&marker), "{answer:?}");
    }

    for log in ["gateway.log", "plugin.log", "strfry.log"] {
        let text = std::fs::read_to_string(world.folder().join(log)).unwrap_or_default();
        assert!(!text.contains("repeat-after-me-"), "{log}: {text}");
    }
}

/// The second announcement of a repository that had no data yet was served at once (ngit-grasp before 1.0.2).
async fn a_replaced_held_announcement_stays_held(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let git = world.git("work").await;
    let commit = git.commit("one").await;
    let first = world.announcement(&repository, now() - 10, &[]);
    let second = world.announcement(&repository, now(), &[tag(&["name", "second"])]);

    assert_eq!(nostr.send(&first).await, held());
    assert_eq!(nostr.send(&second).await, held());
    let state = repository.state(now(), &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    assert_eq!(nostr.query(json!({"kinds": [30617, 30618]})).await, []);
    git.push(&world.url(&repository), &["main"]).await.expect_ok();

    assert!(nostr.serves(&second).await && !nostr.serves(&first).await);
}

/// A list of ids that claimed a huge length in a request for reconciliation (NIP-77) took all memory (ngit-grasp before
/// 3.0.8).
async fn a_malformed_reconciliation_leaves_the_server_alone(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for message in ["61000002ffffffff7f", "", "6100000281ffffffffffffffff7f", "zz"] {
        nostr.say(json!(["NEG-OPEN", "x", {"kinds": [1]}, message])).await;

        let answer = nostr.hear().await;
        let complained = ["NOTICE", "NEG-ERR", "CLOSED"].map(Value::from).contains(&answer[0]);
        assert!(complained, "{message}: {answer}");
    }
    assert_eq!(nostr.query(json!({"kinds": [30617]})).await, []);
}
