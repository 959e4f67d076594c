//! An operator's own plugin behind ours (`--chain`): it decides about what it is asked, and whatever it does, git
//! events go on and every event is answered.

use std::net::IpAddr;
use std::net::Ipv4Addr;

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind as EventKind;
use nostr::key::Keys;
use relay::EventPolicy;
use shared::nip34;
use shared::write_policy::Answer;
use shared::write_policy::HELD_MESSAGE;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::plugin_host::PluginHost;
use tests::harness::process::shell;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;

const OPERATORS: &str = concat!(
    "exec sh ",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/end_to_end/behaviour/chained_plugin.sh"
);

const FOR_ALL: Options = Options {
    plugin: concat!(
        "--chain-for all --chain 'exec sh ",
        env!("CARGO_MANIFEST_DIR"),
        "/tests/end_to_end/behaviour/chained_plugin.sh'"
    ),
    ..Options::DEFAULT
};

fn note(content: &str) -> Event {
    let builder = EventBuilder::new(EventKind::from_u16(1), content);
    builder.finalize(&Keys::generate()).unwrap()
}

async fn ask(plugin: &mut PluginHost, event: &Event) -> Answer {
    plugin.judge(event, IpAddr::from(Ipv4Addr::LOCALHOST)).await
}

fn refused(message: &str) -> Answer {
    Answer::Refuse(message.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chained_plugin_decides_about_what_is_not_gits() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let mut plugin = world.plugin_with(&format!("--chain '{OPERATORS}'"));
    let spam = tag(&["x", "spam"]);
    let author = Keys::generate();
    let announcement = world.announcement(&Repository::new("r"), now(), std::slice::from_ref(&spam));
    let event = |kind, more: &[&str]| sign(&author, kind, now(), &[spam.clone(), tag(more)]);
    for (event, expected) in [
        (note("hello"), Answer::Accept),
        (note("spam"), refused("blocked: no spam")),
        (note("hush"), Answer::Hold("".into())),
        (note(&"x".repeat(20_000)), Answer::Accept),
        (announcement, Answer::Hold(HELD_MESSAGE.into())),
        (event(nip34::DELETION, &["k", "1"]), refused("blocked: no spam")),
        (event(nip34::DELETION, &["k", "30617"]), Answer::Accept),
        (event(nip34::VANISH, &["relay", "ALL_RELAYS"]), Answer::Accept),
        (event(nip34::GRASP_LIST, &["g", "wss://example.com"]), Answer::Accept),
        (event(nip34::COMMENT, &["K", "1"]), refused("blocked: no spam")),
    ] {
        assert_eq!(ask(&mut plugin, &event).await, expected, "{}", event.kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_chained_for_all_is_asked_once_about_an_event_and_before_it_is_held() {
    let world = World::start(Kind::Strfry, FOR_ALL).await;
    let mut nostr = world.nostr().await;

    // The push releases them: a second question would be refused.
    let served = Served::new(&world, &mut nostr, "r").await;

    assert!(nostr.serves(&served.announcement).await && nostr.serves(&served.state).await);
    let repository = Repository::new("s");
    let unwanted = world.announcement(&repository, now(), &[tag(&["x", "spam"])]);
    let answer = nostr.send(&unwanted).await;
    assert!(!answer.taken && answer.message == "blocked: no spam", "{answer:?}");
    let next = repository.state(now(), &[("refs/heads/main", &"a".repeat(40))]);
    let answer = nostr.send(&next).await;
    assert!(!answer.taken, "nothing was held: {answer:?}");
    let twice = world.announcement(&repository, now(), &[]);
    assert_eq!(nostr.send(&twice).await, held());
    assert_eq!(nostr.send(&twice).await.message, "blocked: asked twice");
}

/// An event that refers to it was accepted a moment ago, so that it belonged to something served.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_chained_for_all_is_not_asked_again_about_a_comment_that_is_released() {
    let world = World::start(Kind::Strfry, FOR_ALL).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let commit = served.git.commit("pr").await;
    let pr = served.repository.pull_request(&author, &commit);
    let comment = [tag(&["E", &pr.id.to_hex()]), tag(&["K", "1618"])];
    let comment = sign(&author, nip34::COMMENT, now(), &comment);
    assert_eq!(nostr.send(&pr).await, held());
    assert_eq!(nostr.send(&comment).await, held());
    let address = served.repository.coordinate().to_string();
    let issue = [tag(&["a", &address]), tag(&["q", &comment.id.to_hex()])];
    let issue = sign(&author, nip34::ISSUE, now(), &issue);
    assert!(nostr.send(&issue).await.taken);

    let refspec = format!("{commit}:refs/nostr/{}", pr.id);
    served.git.push(&served.url, &[&refspec]).await.expect_ok();

    eventually("it follows its PR", async || nostr.serves(&comment).await).await;
}

/// strfry would kill it, or wait 10 s for it, for every event.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_chained_plugin_costs_only_what_is_said_about_its_errors() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let answers = "while read -r line; do echo \"$answer\"; done";
    for command in [
        "exec /nowhere/plugin",
        "exit 1",
        "exec sleep 600",
        "read -r line; exit 0",
        "exec yes",
        "printf \"{\"; exec sleep 600",
        "head -c 100000 /dev/zero | tr \"\\0\" x; exec sleep 600",
        &format!("answer=\"{{\\\"id\\\":\\\"x\\\",\\\"action\\\":\\\"accept\\\"}}\"; {answers}"),
        &format!("answer=\"[]\"; {answers}"),
        "trap \"\" TERM; exec cat >/dev/null",
    ] {
        for (on_error, expected) in [("accept", Answer::Accept), ("refuse", refused(UNAVAILABLE))] {
            let options = format!("--chain '{command}' --chain-timeout-ms 100 --chain-on-error {on_error}");
            let mut plugin = world.plugin_with(&options);
            for _ in 0..3 {
                assert_eq!(ask(&mut plugin, &note("hello")).await, expected, "{command}");
                let announcement = world.announcement(&Repository::new("r"), now(), &[]);
                let held = Answer::Hold(HELD_MESSAGE.into());
                assert_eq!(ask(&mut plugin, &announcement).await, held, "{command}");
            }
            plugin.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chained_plugin_that_was_killed_or_hangs_is_used_again() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let pid = world.folder().join("chained.pid");
    let command = format!("echo $$ >{}; {OPERATORS}", pid.display());
    let mut plugin = world.plugin_with(&format!("--chain '{command}' --chain-timeout-ms 200"));
    let spam = note("spam");
    assert_eq!(ask(&mut plugin, &spam).await, refused("blocked: no spam"));
    for signal in ["KILL", "STOP", "TERM"] {
        let id = std::fs::read_to_string(&pid).unwrap();
        shell(&format!("kill -s {signal} {id}"), "").await;
        if signal == "STOP" {
            let answer = ask(&mut plugin, &note("hello")).await;
            assert!(
                matches!(&answer, Answer::Refuse(reason) if reason.starts_with("error: ")),
                "{answer:?}"
            );
            shell(&format!("kill -s CONT {id}"), "").await;
        }
        eventually(signal, async || {
            ask(&mut plugin, &spam).await == refused("blocked: no spam")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chained_plugin_that_hangs_ends_with_ours() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let pid = world.folder().join("chained.pid");
    let command = format!("--chain 'trap \"\" TERM; echo $$ >{}; exec sleep 600'", pid.display());
    let check = format!("if kill -0 $(cat {}); then echo runs; fi 2>/dev/null", pid.display());
    let runs = async || shell(&check, "").await.contains("runs");

    // At the end of its input.
    assert!(world.plugin_answers_with(&command, &[]).await.is_empty());
    eventually("the child is gone", async || !runs().await).await;

    // By SIGTERM: its host ends it so.
    let mut plugin = world.plugin_with(&format!("{command} --chain-timeout-ms 100"));
    ask(&mut plugin, &note("hello")).await;
    eventually("the child runs", runs).await;
    plugin.end().await;
    eventually("the child is gone", async || !runs().await).await;
}

/// A plugin of a third party: noteguard, built with `cargo build --locked`, where `NOTEGUARD_BIN` names it. The relay
/// runs our plugin with it, and a client reads the answers.
#[tokio::test(flavor = "multi_thread")]
async fn noteguard_decides_behind_ours() {
    let Some(noteguard) = std::env::var_os("NOTEGUARD_BIN") else {
        return;
    };
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let folder = world.folder().display().to_string();
    std::fs::write(world.folder().join("noteguard.toml"), NOTEGUARD_CONFIGURATION).unwrap();
    let pid = world.folder().join("noteguard.pid");
    let chain = format!("cd {folder}; echo $$ >{}; exec {}", pid.display(), noteguard.display());
    for (on_error, outcome) in [("accept", (true, "")), ("refuse", (false, UNAVAILABLE))] {
        let options = format!("--chain '{chain}' --chain-timeout-ms 200 --chain-on-error {on_error}");
        let command = format!("{} {options}", world.plugin_command());
        world.stop_relay().await;
        world.start_relay_with(command).await;
        let mut nostr = world.nostr().await;
        for (event, expected, is_stored) in [
            (note("hello"), (true, ""), true),
            (file(), (false, NO_FILES), false),
            // It lets such a note disappear.
            (note("spam"), (true, ""), false),
        ] {
            let answer = nostr.send(&event).await;
            assert_eq!((answer.taken, answer.message.as_str()), expected);
            assert_eq!(nostr.serves(&event).await, is_stored, "{}", event.content);
        }
        for signal in ["STOP", "KILL"] {
            let id = std::fs::read_to_string(&pid).unwrap();
            shell(&format!("kill -s {signal} {id}"), "").await;
            if signal == "STOP" {
                let unanswered = file();
                let answer = nostr.send(&unanswered).await;
                assert_eq!((answer.taken, answer.message.as_str()), outcome);
                assert_eq!(nostr.serves(&unanswered).await, on_error == "accept");
            }
            let repository = Repository::new("r");
            let announcement = world.announcement(&repository, now(), &[tag(&["x", "spam"])]);
            let state = repository.state(now(), &[("refs/heads/main", &"a".repeat(40))]);
            assert_eq!(nostr.send(&announcement).await, held());
            assert_eq!(nostr.send(&state).await, held());
        }
        eventually("it is used again", async || {
            nostr.send(&file()).await.message == NO_FILES
        })
        .await;
    }
}

const NOTEGUARD_CONFIGURATION: &str = r#"
pipeline = ["kinds", "content"]
[filters.content]
filters = ["spam"]
[filters.kinds]
kinds = [1063]
[filters.kinds.messages]
1063 = "blocked: no files here"
"#;

const NO_FILES: &str = "blocked: no files here";

/// What an event is told that a chained plugin does not answer.
const UNAVAILABLE: &str = "error: the relay's own write policy is not available, try again later";

/// The description of a file (NIP-94).
fn file() -> Event {
    let builder = EventBuilder::new(EventKind::from_u16(1063), "");
    builder.finalize(&Keys::generate()).unwrap()
}
