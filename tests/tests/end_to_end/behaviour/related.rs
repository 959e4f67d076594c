//! Events that need no git data: they pass if they belong to something that is served (docs/facts/grasp.md 1.4).

use nostr::key::Keys;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    threads_grow_from_a_served_repository,
    what_belongs_to_nothing_is_refused_and_lists_of_servers_pass,
    an_issue_and_a_comment_sent_together_both_pass,
    a_comment_and_a_status_wait_behind_their_pr_in_both_orders,
    what_waits_behind_a_pr_ends_with_it,
    what_an_author_has_said_before_vanishing_does_not_come_back,
);

const REFUSE: Options = Options {
    other_kinds: "refuse",
    ..Options::DEFAULT
};

async fn threads_grow_from_a_served_repository(kind: Kind) {
    let world = World::start(kind, REFUSE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "a:b").await;
    let address = served.repository.coordinate().to_string();
    let somebody = Keys::generate();

    let issue = sign(&somebody, 1621, now(), &[tag(&["a", &address])]);
    assert!(nostr.send(&issue).await.taken);
    let note = sign(&somebody, 1, now(), &[tag(&["e", &issue.id.to_hex()])]);
    assert!(nostr.send(&note).await.taken, "tied to what is tied");
    let quoting = sign(&somebody, 1, now(), &[tag(&["q", &address])]);
    assert!(nostr.send(&quoting).await.taken);
    let root = sign(&somebody, 1111, now(), &[tag(&["A", &address]), tag(&["K", "30617"])]);
    assert!(nostr.send(&root).await.taken);
    let profile = sign(&somebody, 0, now(), &[]);
    assert!(nostr.send(&profile).await.taken, "whoever takes part may say who he is");

    // Referred to by what is served, before it came.
    let late = sign(&Keys::generate(), 1, now(), &[]);
    let early = sign(
        &somebody,
        1621,
        now(),
        &[tag(&["a", &address]), tag(&["q", &late.id.to_hex()])],
    );
    assert!(nostr.send(&early).await.taken);
    assert!(nostr.send(&late).await.taken);
    // A part of an address is another repository.
    let other = address.strip_suffix(":b").unwrap();
    let elsewhere = sign(&somebody, 1621, now(), &[tag(&["a", other])]);
    assert!(!nostr.send(&elsewhere).await.taken);
}

async fn what_belongs_to_nothing_is_refused_and_lists_of_servers_pass(kind: Kind) {
    let general = World::start(
        kind,
        Options {
            other_kinds: "accept",
            ..REFUSE
        },
    )
    .await;
    let for_git = World::start(kind, REFUSE).await;
    let somebody = Keys::generate();
    for (event_kind, on_a_general_relay, on_one_for_git) in [
        (1, true, false),
        (0, true, false),
        (1617, false, false),
        (1621, false, false),
        (1630, false, false),
        (10317, true, true),
        (5, true, true),
    ] {
        let event = sign(&somebody, event_kind, now(), &[]);
        for (world, taken) in [(&general, on_a_general_relay), (&for_git, on_one_for_git)] {
            let answer = world.nostr().await.send(&event).await;
            assert_eq!(answer.taken, taken, "{event_kind}: {answer:?}");
            assert!(taken || answer.message.starts_with("restricted: "), "{answer:?}");
        }
    }
}

async fn an_issue_and_a_comment_sent_together_both_pass(kind: Kind) {
    let world = World::start(kind, REFUSE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let somebody = Keys::generate();
    let issue = sign(
        &somebody,
        1621,
        now(),
        &[tag(&["a", &served.repository.coordinate().to_string()])],
    );
    let comment = sign(
        &somebody,
        1111,
        now(),
        &[tag(&["E", &issue.id.to_hex()]), tag(&["K", "1621"])],
    );

    // Without waiting for an answer in between, as clients do.
    for event in [&issue, &comment] {
        nostr.say(serde_json::json!(["EVENT", event])).await;
    }

    for _ in 0..2 {
        assert_eq!(nostr.hear().await[2], true);
    }
}

/// What clients that open PRs do as a matter of course was refused.
async fn a_comment_and_a_status_wait_behind_their_pr_in_both_orders(kind: Kind) {
    let world = World::start(kind, REFUSE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let [author, somebody] = [Keys::generate(), Keys::generate()];
    for is_pr_first in [true, false] {
        let commit = served.git.commit(&format!("pr-{is_pr_first}")).await;
        let pr = served.repository.pull_request(&author, &commit);
        let of_pr = [tag(&["E", &pr.id.to_hex()]), tag(&["K", "1618"])];
        let comment = sign(&somebody, 1111, now(), &of_pr);
        let reply = sign(
            &author,
            1111,
            now(),
            &[tag(&["K", "1618"]), tag(&["e", &comment.id.to_hex()])],
        );
        let status = sign(&author, 1633, now(), &[tag(&["e", &pr.id.to_hex(), "", "root"])]);
        let mut events = vec![&comment, &status, &reply];
        events.insert(if is_pr_first { 0 } else { 3 }, &pr);

        // In one batch, without waiting for an answer in between.
        for event in &events {
            nostr.say(serde_json::json!(["EVENT", event])).await;
        }
        for _ in &events {
            let answer = nostr.hear().await;
            assert_eq!(answer[2], true, "{answer}");
            assert!(answer[3].as_str().unwrap().starts_with("purgatory: "), "{answer}");
        }
        for event in &events {
            assert!(!nostr.serves(event).await);
        }
        let refspec = format!("{commit}:refs/nostr/{}", pr.id);
        served.git.push(&served.url, &[&refspec]).await.expect_ok();

        assert!(nostr.serves(&pr).await);
        for event in events {
            eventually("it follows its PR", async || world.nostr().await.serves(event).await).await;
        }
    }
    // Nobody knows these.
    let unknown = tag(&["e", &"ab".repeat(32)]);
    let note = sign(&somebody, 1, now(), std::slice::from_ref(&unknown));
    assert!(!nostr.send(&note).await.taken);
    let on_an_issue = sign(&somebody, 1111, now(), &[unknown, tag(&["K", "1621"])]);
    assert!(!nostr.send(&on_an_issue).await.taken);
}

async fn what_waits_behind_a_pr_ends_with_it(kind: Kind) {
    let world = World::start(kind, REFUSE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let commit = served.git.commit("pr").await;
    let pr = served.repository.pull_request(&author, &commit);
    let status = sign(&author, 1633, now(), &[tag(&["e", &pr.id.to_hex(), "", "root"])]);
    assert_eq!(nostr.send(&pr).await, held());
    assert_eq!(nostr.send(&status).await, held());

    let deletion = sign(&author, 5, now(), &[tag(&["e", &pr.id.to_hex()])]);
    assert!(nostr.send(&deletion).await.taken);

    let again = nostr.send(&pr).await;
    assert!(again.message.starts_with("deleted: "), "{again:?}");
    let comment = sign(
        &author,
        1111,
        now(),
        &[tag(&["e", &status.id.to_hex()]), tag(&["K", "1630"])],
    );
    let answer = nostr.send(&comment).await;
    assert!(
        answer.message.starts_with("restricted: "),
        "nothing of it is left: {answer:?}"
    );
}

/// strfry keeps a request to vanish as any other event, and takes again what it covers.
async fn what_an_author_has_said_before_vanishing_does_not_come_back(kind: Kind) {
    let world = World::start(kind, Options::DEFAULT).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let [author, other] = [Keys::generate(), Keys::generate()];
    let on_repository = [tag(&["a", &served.repository.coordinate().to_string()])];
    let issue = |by: &Keys| sign(by, 1621, now() - 10, &on_repository);
    let request = |asked_at, relay: &str| sign(&author, 62, asked_at, &[tag(&["relay", relay])]);
    for too_little in [
        request(now(), "wss://elsewhere.example"),
        request(now() - 20, "ALL_RELAYS"),
    ] {
        assert!(nostr.send(&too_little).await.taken);
    }
    assert!(nostr.send(&issue(&author)).await.taken);
    let early = sign(&author, 1621, now() - 5, &on_repository);

    let vanishes = request(now(), "ALL_RELAYS");
    assert!(nostr.send(&vanishes).await.taken);
    eventually("it is stored", async || nostr.serves(&vanishes).await).await;

    let answer = nostr.send(&early).await;
    assert!(!answer.taken && answer.message.starts_with("deleted: "), "{answer:?}");
    assert!(nostr.send(&issue(&other)).await.taken, "others stay");
}
