//! One file configures both programs: what wins over it, what is wrong in it, and what happens when it changes.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use shared::nip34;
use tests::clients::http;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::wait::is_listened_at;
use tests::harness::world::World;

use crate::fixture::held;

fn write(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("config.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn serve(folder: &Path, arguments: &[String], environment: &[(&str, String)]) -> Process {
    let arguments = [&["serve".to_owned()], arguments].concat();
    Process::start_with(
        &program("grasp-gateway"),
        &arguments,
        &folder.join("gateway.log"),
        environment,
    )
}

async fn listens(port: u16) -> bool {
    is_listened_at(("127.0.0.1", port)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_win_over_the_file_and_options_over_both() {
    let folder = tempfile::tempdir().unwrap();
    let [in_file, in_variable, in_option] = [free_port(), free_port(), free_port()];
    let file = write(
        folder.path(),
        &format!(
            "bind = '127.0.0.1:{in_file}'\ndata-dir = '{}'\n",
            folder.path().join("data").display()
        ),
    );
    let named = ("GRASP_CONFIG", file.display().to_string());
    let variable = ("GRASP_BIND", format!("127.0.0.1:{in_variable}"));
    let option = format!("--bind=127.0.0.1:{in_option}");
    for (arguments, environment, port) in [
        (&[][..], &[named.clone()][..], in_file),
        (&[], &[named.clone(), variable.clone()], in_variable),
        (&[option], &[named, variable], in_option),
    ] {
        let _gateway = serve(folder.path(), arguments, environment);
        eventually("it listens where it was told", async || listens(port).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_named_when_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |more: &str| {
        let data = folder.path().join("data");
        format!("bind = '127.0.0.1:0'\ndata-dir = '{}'\n{more}", data.display())
    };
    let file = write(folder.path(), &settings("other-kinds = 'refuse'\n"));
    let gateway = serve(folder.path(), &[format!("--config={}", file.display())], &[]);
    let logged = async |text: &str| {
        eventually("it is logged", async || gateway.output().contains(text)).await;
    };
    logged("serving").await;

    let changed = "other-kinds = 'accept'\ndrain-secs = 5\nmaintainer-mode = 'recursive'\n";
    write(folder.path(), &settings(changed));
    logged("keys=\"maintainer-mode, other-kinds\"").await;
    logged("which needs a restart").await;

    write(folder.path(), &settings("hold-secs = 'never'\n"));
    logged("line 3: hold-secs is").await;

    write(folder.path(), &settings("hold-secs = \n"));
    shell(&format!("kill -s HUP {}", gateway.id()), "").await;
    logged("the next start would fail").await;
    logged("line 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_held_events_change_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let settings = |most: &str| {
        let data = folder.path().join("data");
        format!(
            "bind = '127.0.0.1:{port}'\ndata-dir = '{}'\nheld-per-author-max = {most}\n",
            data.display()
        )
    };
    let file = write(folder.path(), &settings("1"));
    let gateway = serve(folder.path(), &[format!("--config={}", file.display())], &[]);
    eventually("it serves", async || listens(port).await).await;
    let repository = Repository::new("one");
    let announced = |d: &str| {
        let clone = format!("http://127.0.0.1:{port}/{}/{d}.git", repository.npub());
        let relay = format!("ws://127.0.0.1:{port}");
        let tags = [tag(&["d", d]), tag(&["clone", &clone]), tag(&["relays", &relay])];
        sign(&repository.owner, nip34::ANNOUNCEMENT, now(), &tags)
    };
    let mut nostr = NostrClient::connect(&format!("ws://127.0.0.1:{port}")).await;
    assert_eq!(nostr.send(&announced("one")).await, held());
    let refused = nostr.send(&announced("two")).await;
    assert!(
        !refused.taken && refused.message.contains("too many events of this author"),
        "{refused:?}"
    );

    // A mistake changes nothing.
    write(folder.path(), &settings("'many'"));
    eventually("it is named", async || {
        gateway.output().contains("held-per-author-max is")
    })
    .await;
    assert!(!nostr.send(&announced("two")).await.taken);

    for (most, name) in [("2", "two"), ("3", "three")] {
        assert!(!nostr.send(&announced(name)).await.taken, "{name}");
        write(folder.path(), &settings(most));
        eventually("it is applied", async || nostr.send(&announced(name)).await == held()).await;
    }
    assert!(gateway.output().contains("and is applied"));
    assert!(!gateway.output().contains("which needs a restart"));
}

/// All but those of held events waited for a restart.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_server_change_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let [port, admin] = [free_port(), free_port()];
    let (authority, admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}"));
    let settings = |limits: &[(&str, usize)]| {
        let data = folder.path().join("data");
        let lines = limits.iter().map(|(key, value)| format!("{key} = {value}\n"));
        let rest = format!(
            "bind = '{authority}'\nadmin-bind = '{admin}'\ndata-dir = '{}'\n",
            data.display()
        );
        rest + &lines.collect::<String>()
    };
    let file = write(
        folder.path(),
        &settings(&[("websockets-max", 1), ("connections-per-address-max", 2)]),
    );
    let gateway = serve(folder.path(), &[format!("--config={}", file.display())], &[]);
    eventually("it serves", async || listens(port).await).await;
    let url = format!("ws://{authority}");
    let opens = async || NostrClient::try_connect(&url, Duration::from_secs(5)).await;
    let first = opens().await.unwrap();
    assert!(opens().await.is_err(), "one WebSocket may be open");

    let more = [
        ("websockets-max", 2),
        ("connections-per-address-max", 3),
        ("uploads-max", 5),
        ("fetches-max", 6),
    ];
    write(folder.path(), &settings(&more));

    eventually("a second may be", async || opens().await.is_ok()).await;
    let metrics = http::request(&admin, "GET /metrics HTTP/1.1\r\n", b"").await.text();
    for line in ["grasp_slots{work=\"check\"} 5\n", "grasp_slots{work=\"fetch\"} 6\n"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let second = opens().await.unwrap();
    let page = async || http::request(&authority, "GET / HTTP/1.1\r\n", b"").await.status;
    assert_eq!(page().await, 200, "of its address it is the third connection");
    write(
        folder.path(),
        &settings(&[("websockets-max", 2), ("connections-per-address-max", 2)]),
    );
    eventually("a third is too many again", async || page().await == 429).await;
    drop((first, second));
    eventually("those that are open leave room", async || page().await == 200).await;
    assert!(
        !gateway.output().contains("which needs a restart"),
        "{}",
        gateway.output()
    );
}

/// The plugin reads what the gateway reads, and does not mind what only the gateway knows.
#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_takes_the_same_file() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let settings = |more: &str| {
        format!(
            "domain = '{}'\nrelay-url = '{}'\nredis-url = 'redis://127.0.0.1:{}'\ndata-dir = '/nowhere'\n{more}",
            world.authority(),
            world.relay_url(),
            world.redis_port().unwrap()
        )
    };
    let event = json!(world.announcement(&Repository::new("r"), now(), &[]));
    let line = json!({"event": event, "receivedAt": 1, "sourceInfo": "192.0.2.1", "sourceType": "IP4", "type": "new"});
    let ask = async |file: &Path| {
        let command = format!(
            "{} --config {} 2>&1 || true",
            program("grasp-plugin").display(),
            file.display()
        );
        shell(&command, &format!("{line}\n")).await
    };

    let file = write(world.folder(), &settings(""));
    let answer: Value = serde_json::from_str(&ask(&file).await).unwrap();
    assert_eq!(answer["action"], "shadowReject", "{answer}");

    let file = write(world.folder(), &settings("holdsecs = 5\nredis-slow-ms = 'soon'\n"));
    let output = ask(&file).await;
    for expected in [
        "line 5: there is no setting holdsecs: did you mean hold-secs?",
        "line 6: redis-slow-ms is \"soon\": it must be",
    ] {
        assert!(output.contains(expected), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_printed_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let program = program("grasp-gateway");
    let file = folder.path().join("printed.toml");
    let run =
        async |arguments: &str| shell(&format!("{} {arguments} 2>&1; echo \"exit $?\"", program.display()), "").await;

    run(&format!("config --print-default >{}", file.display())).await;
    let answer = run(&format!("config --check {}", file.display())).await;
    assert!(answer.ends_with("no mistakes\nexit 0\n"), "{answer}");

    std::fs::write(&file, "bind = 5\n").unwrap();
    let answer = run(&format!("config --check {}", file.display())).await;
    assert!(
        answer.contains("line 1: bind is \"5\"") && answer.ends_with("exit 1\n"),
        "{answer}"
    );
    let missing = run("serve --config /nowhere.toml").await;
    assert!(
        missing.contains("cannot read the configuration file /nowhere.toml"),
        "{missing}"
    );
}

/// `journalctl -p warning` showed nothing, whatever was logged.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_priorities_in_the_journal_and_is_json_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log").display().to_string();
    let run = async |variables: &str, program: &str| {
        let command =
            format!("touch {log}; {variables} GRASP_FOO=1 {program} 2>{log} >/dev/null </dev/null; cat {log}");
        shell(&command, "").await
    };
    let journal = format!("JOURNAL_STREAM=$(stat -c %d:%i {log})");
    let gateway = format!("{} config --print-default", program("grasp-gateway").display());
    let plugin = format!(
        "{} --domain git.example.com --redis-url redis://127.0.0.1:1",
        program("grasp-plugin").display()
    );

    let in_journal = run(&journal, &gateway).await;
    assert!(
        in_journal.starts_with("<4> WARN ") && in_journal.contains("GRASP_FOO"),
        "{in_journal}"
    );
    let elsewhere = run("JOURNAL_STREAM=1:1", &gateway).await;
    assert!(
        elsewhere.contains("Z  WARN ") && !elsewhere.contains('<'),
        "{elsewhere}"
    );
    let json = run("GRASP_LOG_FORMAT=json", &gateway).await;
    let line: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(line["message"].as_str().unwrap().contains("GRASP_FOO"), "{json}");
    let of_plugin = run(&format!("{journal} GRASP_LOG_FORMAT=xml"), &plugin).await;
    let named = "<4>grasp-plugin:  WARN grasp_plugin: GRASP_LOG_FORMAT is \"xml\"";
    assert!(of_plugin.starts_with(named), "{of_plugin}");
    let refused = run("GRASP_LOG_FORMAT=xml", &gateway).await;
    assert!(refused.contains("it must be text or json"), "{refused}");
}
