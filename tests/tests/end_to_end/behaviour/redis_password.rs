//! A password of Redis with any characters, for one server, for sentinels and for a cluster, which stands on no command
//! line and in no log.

use std::path::Path;

use serde_json::Value;
use serde_json::json;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::redis_topology::Mode;
use tests::harness::redis_topology::Topology;
use tests::harness::repository::Repository;
use tests::harness::world::World;

const PASSWORD: &str = "hunter2,redis://b:1@c/d?e#f%41 \"g";

/// Has a plugin of its own decide about an announcement, with these variables and options. Returns its answer and what
/// it has logged.
async fn answer(world: &World, variables: &str, options: &str) -> (Value, String) {
    let domain = world.url(&Repository::new("r"));
    let domain = domain.split('/').nth(2).unwrap_or_default().to_owned();
    let event = json!(world.announcement(&Repository::new("r"), now(), &[]));
    let line = json!({"event": event, "receivedAt": 1, "sourceInfo": "192.0.2.1", "sourceType": "IP4", "type": "new"});
    let log = world.folder().join("plugin-with-password.log");
    let command = format!(
        "{variables} exec {} --domain {domain} --relay-url {} {options} 2>{}",
        program("grasp-plugin").display(),
        world.relay_url(),
        log.display(),
    );
    let answer = shell(&command, &format!("{line}\n")).await;
    let log = std::fs::read_to_string(log).unwrap();
    (serde_json::from_str(&answer).unwrap(), log)
}

async fn password_opens(world: &World, file: &Path, servers: &str) {
    let by_file = format!("{servers} --redis-password-file {}", file.display());
    let by_variable = format!("GRASP_REDIS_PASSWORD='{PASSWORD}'");
    let file_by_variable = format!("GRASP_REDIS_PASSWORD_FILE={}", file.display());
    for (variables, options) in [
        ("", by_file.as_str()),
        (&by_variable, servers),
        (&file_by_variable, servers),
    ] {
        let (answer, log) = answer(world, variables, options).await;

        assert_eq!(answer["action"], "shadowReject", "{servers}: {answer} {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
    // Without it, and with another one.
    for variables in ["", "GRASP_REDIS_PASSWORD=hunter2"] {
        let (answer, log) = answer(world, variables, servers).await;

        assert_eq!(answer["action"], "reject", "{servers}: {answer} {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_from_a_file_or_the_environment_opens_one_server_sentinels_and_a_cluster() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let file = world.folder().join("redis-password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    for mode in [Mode::Sentinel, Mode::Cluster] {
        let folder = world.folder().join(mode.name());
        let topology = Topology::start(mode, &folder, None, 0).await;
        topology.set_password(PASSWORD).await;

        let urls = topology.urls().join(",");
        password_opens(
            &world,
            &file,
            &format!("--redis-mode {} --redis-url {urls}", mode.name()),
        )
        .await;
        if mode == Mode::Sentinel {
            let url = format!("--redis-url redis://127.0.0.1:{}", topology.master_port());
            password_opens(&world, &file, &url).await;
        }
    }
}
