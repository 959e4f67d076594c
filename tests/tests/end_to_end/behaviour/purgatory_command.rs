//! What an operator finds out about held events, and does about them, by `grasp-gateway purgatory`.

use serde_json::Value;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::process::Process;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::ALONE;
use crate::fixture::Served;
use crate::fixture::Waiting;
use crate::fixture::held;

/// A world with a repository that waits to be pushed.
struct Inspected {
    world: World,
    waiting: Waiting,
}

impl Inspected {
    async fn new() -> Self {
        let world = World::start(Kind::Strfry, ALONE).await;
        let waiting = Waiting::new(&world, &mut world.nostr().await, "my repo").await;
        let inspected = Self { world, waiting };
        let (state, commit) = (inspected.waiting.state.id.to_hex(), &inspected.waiting.commit);
        eventually("the gateway has noted what is missing", async || {
            inspected.run(&["show", &state]).await.1.contains(commit)
        })
        .await;
        inspected
    }

    /// Runs the command; returns whether it succeeded, and what it wrote.
    async fn run(&self, arguments: &[&str]) -> (bool, String) {
        run(&self.world, arguments).await
    }

    async fn expect(&self, arguments: &[&str], parts: &[&str]) -> String {
        let (succeeded, text) = self.run(arguments).await;
        assert!(succeeded, "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
        text
    }
}

/// Runs the command beside a world; returns whether it succeeded, and what it wrote.
async fn run(world: &World, arguments: &[&str]) -> (bool, String) {
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    let (program, port) = (program("grasp-gateway"), world.redis_port().unwrap());
    // The variable of these tests would be named as none of the program's.
    let command = format!(
        "env -u AUDIT_BIN GRASP_REDIS_URL=redis://127.0.0.1:{port} {} purgatory {} 2>&1; echo \"exit $?\"",
        program.display(),
        quoted.join(" ")
    );
    let output = shell(&command, "").await;
    let (text, code) = output.trim_end().rsplit_once("exit ").unwrap();
    (code == "0", text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_is_found_and_understood() {
    let inspected = Inspected::new().await;
    let (state, announcement) = (
        inspected.waiting.state.id.to_hex(),
        inspected.waiting.announcement.id.to_hex(),
    );
    let npub = inspected.waiting.repository.npub();
    let name = format!("{npub}/my repo");

    let list = inspected
        .expect(&["list"], &[&state[..12], &announcement[..12], "/my repo", "held"])
        .await;
    assert_eq!(list.lines().count(), 3, "{list}");
    for filter in [
        &["--author", &npub][..],
        &["--repository", &name],
        &["--status", "held"],
    ] {
        inspected.expect(&[&["list"], filter].concat(), &[&state[..12]]).await;
    }
    let text = inspected
        .expect(&["list", "--status", "stuck"], &["nothing waits"])
        .await;
    assert!(!text.contains(&state[..12]));
    let json = inspected.expect(&["list", "--json"], &[]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let states = json["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["event"] == *state);
    let [entry] = &states.collect::<Vec<_>>()[..] else {
        panic!("{json}")
    };
    assert_eq!(
        (&entry["status"], &entry["kind"]),
        (&Value::from("held"), &Value::from("state"))
    );

    // Which object, of which ref, of whose repository; for the announcement too, which waits for the same push.
    for id in [&state, &announcement] {
        inspected
            .expect(
                &["show", id],
                &[
                    "refs/heads/main",
                    &inspected.waiting.commit,
                    &name,
                    " left",
                    "IP4 127.0.0.1",
                ],
            )
            .await;
    }
    inspected.expect(&["show", &state[..8]], &[&state]).await;
    let json = inspected.expect(&["show", "--json", &state], &[]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["needs"][0]["oid"], inspected.waiting.commit);
    assert_eq!(json["needs"][0]["ref"], "refs/heads/main");

    inspected
        .expect(
            &["stats"],
            &["announcement", "state", "oldest held", "repositories to reconcile: 0"],
        )
        .await;
    let (succeeded, text) = inspected.run(&["show", &"0".repeat(64)]).await;
    assert!(!succeeded && text.contains("is not in the purgatory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_tells_what_is_missing_and_whether_a_gateway_runs() {
    let mut inspected = Inspected::new().await;
    let state = inspected.waiting.state.id.to_hex();

    let (succeeded, text) = inspected.run(&["release", &state]).await;
    assert!(
        !succeeded && text.contains("still waits") && text.contains(&inspected.waiting.commit),
        "{text}"
    );

    inspected.world.kill_gateway().await;
    let (succeeded, text) = inspected.run(&["release", "--wait-secs=1", &state]).await;
    assert!(!succeeded && text.contains("no gateway has reconciled"), "{text}");

    inspected.world.start_gateway().await;
    inspected
        .waiting
        .git
        .push(&inspected.world.url(&inspected.waiting.repository), &["main"])
        .await
        .expect_ok();
    let (succeeded, text) = inspected.run(&["release", &state]).await;
    assert!(!succeeded && text.contains("is not in the purgatory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_event_is_gone_and_can_be_sent_again() {
    let inspected = Inspected::new().await;
    let (state, announcement) = (
        inspected.waiting.state.id.to_hex(),
        inspected.waiting.announcement.id.to_hex(),
    );
    let url = inspected.world.url(&inspected.waiting.repository);

    inspected.expect(&["drop", &state], &["dropped", &state]).await;

    assert!(!inspected.run(&["drop", &state]).await.0);
    let npub = inspected.waiting.repository.npub();
    inspected
        .expect(&["show", &announcement], &["a state (kind 30618) by", &npub])
        .await;
    inspected.waiting.git.push(&url, &["main"]).await.expect_refused();
    let mut nostr = inspected.world.nostr().await;
    assert_eq!(nostr.send(&inspected.waiting.state).await, held());
    inspected.waiting.git.push(&url, &["main"]).await.expect_ok();
    inspected.expect(&["list"], &["nothing waits"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_reads_what_changes() {
    let inspected = Inspected::new().await;
    let port = inspected.world.redis_port().unwrap();
    let arguments = ["purgatory", "watch"].map(str::to_owned);
    let log = inspected.world.folder().join("watch.log");
    let redis = ("GRASP_REDIS_URL", format!("redis://127.0.0.1:{port}"));
    let watching = Process::start_with(&program("grasp-gateway"), &arguments, &log, &[redis]);
    let state = inspected.waiting.state.id.to_hex();
    let told = async |name: &str, part: &str| {
        let output = watching.output();
        let mut lines = output.lines().filter(|line| line.contains(&format!("GMT {name}")));
        lines.any(|line| line.contains(part))
    };
    eventually("what was there is told", async || told("new", &state[..12]).await).await;

    let other = inspected.waiting.git.commit("two").await;
    let url = inspected.world.url(&inspected.waiting.repository);
    inspected.waiting.git.push(&url, &["main"]).await.expect_refused();
    eventually("a refusal is told", async || told("refused", &other[..8]).await).await;
    inspected.expect(&["drop", &state], &[]).await;
    eventually("what left is told", async || told("gone", &state[..12]).await).await;
    assert!(!watching.output().contains('\u{1b}'), "no terminal reads it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_explained_by_one_command() {
    let world = World::start(Kind::Strfry, ALONE).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (undeclared, number) = served.push_undeclared().await;
    let unannounced = Repository::new("elsewhere").state(now(), &[("refs/heads/main", &undeclared)]);
    assert!(!nostr.send(&unannounced).await.taken);
    let event_id = unannounced.id.to_hex();
    let explained = async |request: &str, parts: &[&str]| {
        let (succeeded, text) = run(&world, &["refusals", "--request", request]).await;
        succeeded && text.lines().count() == 1 && parts.iter().all(|part| text.contains(part))
    };

    let name = format!("{}/r", served.repository.npub());
    let parts = [&name, "IP4 127.0.0.1", "refs/heads/main", &undeclared[..8]];
    eventually("the push is explained", async || explained(&number, &parts).await).await;
    let parts = ["IP4 127.0.0.1", "/elsewhere", "no announcement (kind 30617)"];
    eventually("the event is explained", async || explained(&event_id, &parts).await).await;

    let (_, text) = run(&world, &["refusals", "--count=1"]).await;
    assert!(text.contains(&event_id) && !text.contains(&number), "{text}");
    let (_, json) = run(&world, &["refusals", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["refusals"][1]["request"], number);
    assert!(
        explained(&number.to_uppercase(), &[&name]).await,
        "capitals are the same number"
    );
    let (succeeded, text) = run(&world, &["refusals", "--request", "ffffffffffffffff"]).await;
    assert!(
        !succeeded && text.contains("no refusal ffffffffffffffff is recorded"),
        "{text}"
    );
    let (_, text) = run(&world, &["show", &event_id]).await;
    assert!(text.contains(&format!("refusals --request {event_id}")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_command_is_named() {
    let inspected = Inspected::new().await;
    for (arguments, expected) in [
        (&["show", "xyz"][..], "the id of an event"),
        (&["list", "--author", "nobody"], "a public key"),
        (&["list", "--redis-url", "http://127.0.0.1"], "a URL such as redis://"),
        (&["stats", "--redis-url", ""], "--redis-url"),
        (&["stats", "--redis-url", "redis://127.0.0.1:1"], "redis is unavailable"),
    ] {
        let (succeeded, text) = inspected.run(arguments).await;
        assert!(!succeeded && text.contains(expected), "{arguments:?}: {text}");
    }
}
