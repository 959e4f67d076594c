//! The public conformance suite `grasp-audit`, in both worlds and both of its modes.

#![expect(clippy::unwrap_used, reason = "what cannot be had ends the test")]

use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;

/// How many tests of GRASP-01 version 0.2.0 has.
const TESTS: &str = "62/62 tests passed";

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_server_passes_whole() {
    passes_whole(Kind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_beside_a_relay_passes_whole() {
    passes_whole(Kind::Strfry).await;
}

async fn passes_whole(kind: Kind) {
    // The suite wants unrelated events refused.
    let world = World::start(
        kind,
        Options {
            other_kinds: "refuse",
            ..Options::default()
        },
    )
    .await;
    for mode in ["isolated", "shared"] {
        let audit = run(&world, &["audit", "--mode", mode]).await;
        let report = String::from_utf8_lossy(&audit.stdout);
        assert!(audit.status.success() && report.contains(TESTS), "{mode}:\n{report}");
    }
    let probe = run(&world, &["probe", "--create-repo"]).await;
    assert!(probe.status.success(), "{}", String::from_utf8_lossy(&probe.stdout));
}

#[expect(clippy::disallowed_methods, reason = "the suite is no git")]
async fn run(world: &World, arguments: &[&str]) -> Output {
    let program = std::env::var_os("AUDIT_BIN").expect("AUDIT_BIN names the suite: scripts/install-audit");
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .args(["--relay", &format!("ws://{}", world.authority())])
        // Its git is a person's: without anybody's configuration.
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_secs(180), output)
        .await
        .expect("the suite does not end")
        .unwrap()
}
