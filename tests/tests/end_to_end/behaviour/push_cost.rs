//! What one push makes the server do, counted in its debug log.

use nostr::event::Event;
use nostr::key::Keys;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::settled;

in_both_worlds!(
    a_push_loads_facts_once_reconciles_once_polls_for_nothing_and_loads_ahead,
    pull_requests_of_strangers_cost_a_push_nothing,
    a_request_to_vanish_from_elsewhere_has_nothing_reconciled,
    a_request_to_vanish_that_is_older_than_all_has_nothing_reconciled,
    a_request_to_delete_what_is_not_here_has_nothing_reconciled,
);

/// The lines in the log of a gateway that contain one of the texts of [`COUNTED`], in order.
fn counted(log: &str) -> Vec<&'static str> {
    let of = |line: &str| COUNTED.into_iter().find(|text| line.contains(text));
    log.lines().filter_map(of).collect()
}

/// Before: 4 loads of facts with the advertisement's, up to 5 reconciles, and 50 ms of polling.
async fn a_push_loads_facts_once_reconciles_once_polls_for_nothing_and_loads_ahead(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    log_facts(&mut world).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let work = world.git("work").await;
    let tip = work.commit("one").await;
    let state = repository.state(now(), &[("refs/heads/main", &tip)]);
    assert_eq!(nostr.send(&world.announcement(&repository, now(), &[])).await, held());
    assert_eq!(nostr.send(&state).await, held());
    // Each held event is reconciled once; then nothing moves.
    eventually("the gateway has reconciled both events", async || {
        let log = counted(&world.gateway_log());
        log.iter().filter(|text| **text == "reconcile repositories").count() >= 1
    })
    .await;
    settled(&world).await;
    let before = counted(&world.gateway_log()).len();

    work.push(&world.url(&repository), &["main"]).await.expect_ok();
    settled(&world).await;

    // The last is for the next who reads the repository.
    let ahead = ["load facts"];
    // The first is for the advertisement that `git push` asks for; what it found allows the push. The built-in relay's
    // write policy is in the same process: it is asked about each of the two events that are published, as the plugin
    // is by strfry.
    let of_the_push = ["load facts", "load facts", "reconcile repositories"];
    let of_the_policy: &[&str] = match kind {
        Kind::Embedded => &["load facts", "load facts"],
        Kind::Strfry => &[],
    };
    let expected = [&of_the_push, of_the_policy, &ahead].concat();
    let log = async || counted(&world.gateway_log())[before..].to_vec();
    eventually("what the push has changed is loaded", async || {
        log().await.len() >= expected.len()
    })
    .await;
    settled(&world).await;
    assert_eq!(log().await, expected, "{}", world.gateway_log());
    assert!(nostr.serves(&state).await);
}

/// Before: each of them was read, and its deletion asked for at the relay, by a push, by whoever fetches, and for every
/// event of the repository; and all of them again whenever one more came.
async fn pull_requests_of_strangers_cost_a_push_nothing(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    log_facts(&mut world).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let before = world.gateway_log().len();
    push_another(&world, &mut nostr, &served, 50).await;
    let without = FactsLoaded::logged(&world.gateway_log()[before..]);

    let before = world.gateway_log().len();
    for number in 0..STRANGERS {
        let nowhere = format!("{:040x}", number + 1);
        let offered = served.repository.pull_request(&Keys::generate(), &nowhere);
        assert_eq!(nostr.send(&offered).await, held());
    }
    settled(&world).await;
    let arriving = FactsLoaded::logged(&world.gateway_log()[before..]);
    let before = world.gateway_log().len();
    push_another(&world, &mut nostr, &served, 40).await;
    let with = FactsLoaded::logged(&world.gateway_log()[before..]);

    // At any one moment: some of it may already be served, or not yet be held.
    let most_about_the_repository = |loaded: &[FactsLoaded]| {
        let loaded = || loaded.iter().filter(|facts| facts.pull_requests == 0);
        let entries = loaded().map(|facts| facts.entries).max();
        (
            entries.expect("there are some"),
            loaded().map(|facts| facts.asked).max(),
        )
    };
    let (before, behind) = (most_about_the_repository(&without), most_about_the_repository(&with));
    assert!(
        behind.0 <= before.0 && behind.1 <= before.1,
        "entries read and filters asked: {before:?}, then {behind:?}"
    );
    // Each is reconciled once when it comes; the built-in relay's write policy has asked about it too.
    let looked_at: usize = arriving.iter().map(|facts| facts.pull_requests).sum();
    assert!(looked_at <= 2 * STRANGERS + STRANGERS / 10, "{looked_at}");
    let page = with.iter().map(|facts| facts.pull_requests).max();
    assert!(page <= Some(64), "{page:?}");
}

/// Before: each of them had the author's repositories reconciled, however often he asked.
async fn a_request_to_vanish_from_elsewhere_has_nothing_reconciled(kind: Kind) {
    has_nothing_reconciled(kind, |served| {
        let elsewhere = [tag(&["relay", "wss://elsewhere.example"])];
        sign(&served.repository.owner, 62, now(), &elsewhere)
    })
    .await;
}

/// Before: each had all of the author's repositories reconciled, those too that had ended.
async fn a_request_to_vanish_that_is_older_than_all_has_nothing_reconciled(kind: Kind) {
    has_nothing_reconciled(kind, |served| {
        sign(
            &served.repository.owner,
            62,
            now() - 86_400,
            &[tag(&["relay", "ALL_RELAYS"])],
        )
    })
    .await;
}

/// Before: each `a` tag had the author's coordinate reconciled, whether there was anything or not, and each `e` tag
/// that of the event, whoever asked.
async fn a_request_to_delete_what_is_not_here_has_nothing_reconciled(kind: Kind) {
    has_nothing_reconciled(kind, |served| {
        let stranger = Keys::generate();
        let absent = (0..50).map(|number| {
            let address = format!("30617:{}:{number}", stranger.public_key().to_hex());
            tag(&["a", &address])
        });
        let others = tag(&["e", &served.announcement.id.to_hex()]);
        let targets: Vec<_> = absent.chain([others]).collect();
        sign(&stranger, 5, now(), &targets)
    })
    .await;
}

/// Sends a request beside a repository, and expects that nothing is reconciled for it.
async fn has_nothing_reconciled(kind: Kind, request: impl Fn(&Served) -> Event) {
    let mut world = World::start(kind, Options::default()).await;
    log_facts(&mut world).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    settled(&world).await;
    let before = counted(&world.gateway_log()).len();

    let request = request(&served);
    assert!(nostr.send(&request).await.taken);
    eventually("it is stored", async || nostr.serves(&request).await).await;
    settled(&world).await;

    let log = counted(&world.gateway_log())[before..].to_vec();
    assert!(!log.contains(&"reconcile repositories"), "{log:?}");
}

/// Declares one more commit of a repository and pushes it.
async fn push_another(world: &World, nostr: &mut NostrClient, served: &Served, ago: u64) {
    let tip = served.git.commit(&format!("more-{ago}")).await;
    let state = served.repository.state(now() - ago, &[("refs/heads/main", &tip)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&state).await);
    settled(world).await;
}

/// What the relay was asked for once.
struct FactsLoaded {
    pull_requests: usize,
    entries: usize,
    asked: usize,
}

impl FactsLoaded {
    /// Reads the lines about it in a debug log.
    fn logged(log: &str) -> Vec<Self> {
        let lines = log.lines().filter(|line| line.contains("query the relay for facts"));
        let read = |line: &str| {
            let field = |name: &str| {
                let value = line.split_whitespace().find_map(|word| word.strip_prefix(name));
                value.unwrap_or_else(|| panic!("no {name} in {line}")).parse().unwrap()
            };
            Self {
                pull_requests: field("pull_requests="),
                entries: field("entries="),
                asked: field("asked="),
            }
        };
        lines.map(read).collect()
    }
}

/// PRs of strangers, each of another key: more than some pages of them.
const STRANGERS: usize = 200;

/// Has a gateway log what it loads.
async fn log_facts(world: &mut World) {
    let launcher = ["env", "GRASP_LOG=info,shared=debug,grasp_gateway=debug"];
    let detour = Detour {
        launcher: launcher.map(str::to_owned).into(),
        ..Detour::default()
    };
    world.send_gateway_round(detour).await;
}

/// What is counted: texts of the debug log.
const COUNTED: [&str; 3] = ["load facts", "wait for what others publish", "reconcile repositories"];
