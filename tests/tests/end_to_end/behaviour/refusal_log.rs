//! What an operator finds in the log about what was refused: who, what, why, once.

use nostr::key::Keys;
use shared::nip34;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    a_refused_push_is_one_line_that_its_pusher_can_name,
    a_push_to_no_repository_is_in_the_log,
    a_refused_event_is_one_line_and_nothing_in_it_makes_another,
    a_flood_of_refused_events_is_counted,
);

/// Returns the log of whoever decides about events.
fn policy_log(world: &World, kind: Kind) -> String {
    match kind {
        Kind::Embedded => world.gateway_log(),
        Kind::Strfry => std::fs::read_to_string(world.folder().join("plugin.log")).unwrap(),
    }
}

async fn a_refused_push_is_one_line_that_its_pusher_can_name(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let undeclared = served.git.commit("two").await;

    let said = served.git.push(&served.url, &["main"]).await.expect_refused();

    let number = said.split_once("request ").expect("the push has a number").1;
    let number = number.split_once(':').unwrap().0;
    let log = world.gateway_log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("push refused")).collect();
    let [line] = lines[..] else { panic!("{lines:?}") };
    let owner = served.repository.owner.public_key().to_hex();
    let coordinate = format!("30617:{owner}:r");
    for part in [
        number,
        "127.0.0.1",
        &coordinate,
        "refs/heads/main",
        &undeclared[..8],
        &served.commit[..8],
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

async fn a_push_to_no_repository_is_in_the_log(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let repository = Repository::new("nowhere");
    let git = world.git("work").await;
    git.commit("one").await;

    git.push(&world.url(&repository), &["main"]).await.expect_refused();

    let log = world.gateway_log();
    let line = log.lines().find(|line| line.contains("push refused")).expect("a line");
    assert!(
        line.contains(":nowhere") && line.contains("127.0.0.1") && line.contains("404"),
        "{line}"
    );
}

async fn a_refused_event_is_one_line_and_nothing_in_it_makes_another(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let keys = Keys::generate();
    let state = sign(&keys, nip34::STATE, now(), &[tag(&["d", "unannounced"])]);
    let forged = "r\n1970 INFO forged\u{1b}[31m";
    let forging = sign(&keys, nip34::ANNOUNCEMENT, now(), &[tag(&["d", forged])]);

    assert!(!nostr.send(&state).await.taken);
    assert!(!nostr.send(&forging).await.taken);

    let parts = [
        state.id.to_hex(),
        keys.public_key().to_hex(),
        ":unannounced".to_owned(),
        "IP4 127.0.0.1".to_owned(),
    ];
    let of_state = |log: &str| -> Vec<String> {
        let lines = log
            .lines()
            .filter(|line| line.contains("event refused") && line.contains(&parts[0]));
        lines.map(str::to_owned).collect()
    };
    eventually("both are in the log", async || {
        policy_log(&world, kind).matches("event refused").count() >= 2
    })
    .await;
    let log = policy_log(&world, kind);
    let [line] = &of_state(&log)[..] else { panic!("{log}") };
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    assert!(line.contains("restricted: no announcement (kind 30617)"), "{line}");
    assert!(
        !log.lines().any(|line| line.starts_with("1970")) && !log.contains('\u{1b}'),
        "{log}"
    );
}

async fn a_flood_of_refused_events_is_counted(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for _ in 0..40 {
        let state = sign(&Keys::generate(), nip34::STATE, now(), &[tag(&["d", "flood"])]);
        assert!(!nostr.send(&state).await.taken);
    }

    let log = policy_log(&world, kind);
    assert!(log.contains("further ones are left out of the log"), "{log}");
    // Of two spans at most, if a minute ends in between.
    assert!(log.matches("event refused").count() < 40, "{log}");
}
