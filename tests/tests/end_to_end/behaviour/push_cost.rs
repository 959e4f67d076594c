//! What one push makes the server do, counted in its debug log.

use tests::clients::nostr::now;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(a_push_loads_facts_twice_reconciles_once_and_polls_for_nothing);

/// The lines in the log of a gateway that contain one of the texts of [`COUNTED`], in order.
fn counted(log: &str) -> Vec<&'static str> {
    let of = |line: &str| COUNTED.into_iter().find(|text| line.contains(text));
    log.lines().filter_map(of).collect()
}

/// Before: 3 loads of facts, up to 5 reconciles, and 50 ms of polling.
async fn a_push_loads_facts_twice_reconciles_once_and_polls_for_nothing(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let launcher = ["env", "GRASP_LOG=info,shared=debug,grasp_gateway=debug"];
    world
        .send_gateway_round(Detour {
            launcher: launcher.map(str::to_owned).into(),
            ..Detour::default()
        })
        .await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let work = world.git("work").await;
    let tip = work.commit("one").await;
    let state = repository.state(now(), &[("refs/heads/main", &tip)]);
    assert_eq!(nostr.send(&world.announcement(&repository, now(), &[])).await, held());
    assert_eq!(nostr.send(&state).await, held());
    // Each held event is looked into once; then nothing moves.
    eventually("the gateway has reconciled both events", async || {
        let log = counted(&world.gateway_log());
        log.iter().filter(|text| **text == "reconcile repositories").count() >= 1
    })
    .await;
    settled(&world).await;
    let before = counted(&world.gateway_log()).len();

    work.push(&world.url(&repository), &["main"]).await.expect_ok();
    settled(&world).await;

    let log = counted(&world.gateway_log())[before..].to_vec();
    // The first is for the advertisement that `git push` asks for. The built-in relay's write policy is in the same
    // process: it is asked about each of the two events that are published, as the plugin is by strfry.
    let of_the_push = ["load facts", "load facts", "load facts", "reconcile repositories"];
    let of_the_policy: &[&str] = match kind {
        Kind::Embedded => &["load facts", "load facts"],
        Kind::Strfry => &[],
    };
    assert_eq!(log, [&of_the_push, of_the_policy].concat(), "{}", world.gateway_log());
    assert!(nostr.serves(&state).await);
}

/// Waits until the worker has found nothing to do for longer than it rests between two steps.
async fn settled(world: &World) {
    let mut last = (String::new(), std::time::Instant::now());
    eventually("nothing is logged any more", async || {
        let log = world.gateway_log();
        if log != last.0 {
            last = (log, std::time::Instant::now());
        }
        last.1.elapsed() > std::time::Duration::from_millis(1_200)
    })
    .await;
}

/// What is counted: texts of the debug log.
const COUNTED: [&str; 3] = ["load facts", "wait for what others publish", "reconcile repositories"];
