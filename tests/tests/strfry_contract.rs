//! What we rely on in strfry, held against its stand-in (the built-in relay with a plugin host) and, where
//! `STRFRY_BIN` names a binary, against strfry itself with the configuration that we ship. `docs/strfry-contract.md`
//! lists the facts with their reasons.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the helpers are part of the tests, and a failure has to name its world"
)]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use futures_util::SinkExt;
use futures_util::StreamExt;
use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::filter::Filter;
use nostr::key::Keys;
use nostr::types::Timestamp;
use relay::RelayLimits;
use relay::RelayServer;
use serde_json::Value;
use serde_json::json;
use shared::relay_client::PublishOutcome;
use shared::relay_client::RelayClient;
use shared::relay_client::Signal;
use tempfile::TempDir;
use tests::harness::plugin_host::PluginHost;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::strfry::strfry_configuration;
use tests::harness::wait::is_listened_at;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

#[tokio::test]
async fn shadow_reject_is_ok_true_with_the_message_and_stores_nothing() {
    in_each_world(Setup::default(), async |world: World| {
        let held = note("shadow");

        assert_eq!(world.answer(&held).await, yes("purgatory: wait"));
        assert_eq!(world.answer(&held).await, yes("purgatory: wait"));
        assert_eq!(world.answer(&note("reject")).await, no("blocked: no"));
        assert_eq!(world.stored().await, []);

        // Nothing of it is remembered: each copy is asked about.
        assert_eq!(world.noted("lines").len(), 3);
    })
    .await;
}

#[tokio::test]
async fn accepted_event_is_there_when_it_is_answered_whatever_the_message() {
    in_each_world(Setup::default(), async |world: World| {
        for content in ["x", "message", "noise"] {
            let accepted = note(content);

            assert_eq!(world.answer(&accepted).await, yes(""), "{content}");

            let found = world.client.query(vec![Filter::new().id(accepted.id)]).await.unwrap();
            assert_eq!(found, [accepted], "{content}");
        }
        assert_eq!(world.noted("starts").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn duplicate_is_answered_without_the_plugin() {
    in_each_world(Setup::default(), async |world: World| {
        let accepted = note("x");
        let outcome = world.client.publish(&accepted).await;
        assert_eq!(outcome, PublishOutcome::Stored);

        assert_eq!(world.answer(&accepted).await, yes("duplicate: have this event"));
        let outcome = world.client.publish(&accepted).await;
        assert_eq!(outcome, PublishOutcome::Duplicate);

        assert_eq!(world.noted("lines").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn plugin_is_asked_by_a_line_with_sorted_keys() {
    in_each_world(Setup::default(), async |world: World| {
        for (real_ip, source_type, source_info) in [
            (None, "IP4", "127.0.0.1"),
            (Some("203.0.113.7"), "IP4", "203.0.113.7"),
            (Some("2001:db8::7"), "IP6", "2001:db8::7"),
            (Some("203.0.113.7, 203.0.113.8"), "IP4", "127.0.0.1"),
        ] {
            let tags: [&[&str]; 2] = [&["t", "\"é\\\u{1f600}\n"], &["name"]];
            let asked = event(&Keys::generate(), 1, now(), "a/b", &tags);
            let mut raw = Raw::connect(world.port, real_ip).await;
            raw.say(json!(["EVENT", asked])).await;
            assert_eq!(raw.answer().await, yes(""));

            let line = world.noted("lines").pop().unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            let received_at = value["receivedAt"].as_u64().unwrap();
            assert!(received_at.abs_diff(now()) < 60);
            let value = serde_json::to_value(&asked).unwrap();
            let fields = [
                "content",
                "created_at",
                "id",
                "kind",
                "pubkey",
                "sig",
                "tags",
            ];
            let fields = fields.map(|name| format!("{name:?}:{}", value[name]));
            let expected = format!(
                r#"{{"event":{{{}}},"receivedAt":{received_at},"sourceInfo":"{source_info}","sourceType":"{source_type}","type":"new"}}"#,
                fields.join(",")
            );
            assert_eq!(line, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn plugin_that_breaks_the_protocol_is_ended_and_started_anew() {
    let setup = Setup {
        timeout_secs: 1,
        ..Setup::default()
    };
    in_each_world(setup, async |world: World| {
        let breaches = [
            "null",
            "other-id",
            "no-id",
            "no-action",
            "unknown",
            "long",
            "silent",
            "die",
        ];
        for (number, breach) in breaches.iter().enumerate() {
            let refused = world.answer(&note(breach)).await;
            assert_eq!(refused, no("error: internal error"), "{breach}");
            assert_eq!(world.answer(&note("x")).await, yes(""), "{breach}");
            assert_eq!(world.noted("starts").len(), number + 2, "{breach}");
        }

        // All but the one that died were signalled, and had ended before the next was started.
        let mut ended = world.noted("starts");
        ended.truncate(breaches.len() - 1);
        assert_eq!(world.noted("terms"), ended);
    })
    .await;
}

#[tokio::test]
async fn plugin_without_a_program_refuses() {
    in_each_world(Setup::default(), async |world: World| {
        fs::remove_file(world.folder.path().join("plugin.sh")).unwrap();

        let answer = world.answer(&note("x")).await;

        assert_eq!(answer, no("error: internal error"));
    })
    .await;
}

#[tokio::test]
async fn batch_is_judged_whole_before_it_is_stored_and_reads_go_on() {
    in_each_world(Setup::default(), async |world: World| {
        // What comes from elsewhere: the built-in relay adds to a batch what this host itself submits.
        let mut raw = Raw::connect(world.port, Some("203.0.113.7")).await;
        let (first, second, third) = (note("wait"), note("x"), note("look"));
        raw.say(json!(["EVENT", first])).await;
        eventually("the plugin is asked", async || world.noted("lines").len() == 1).await;

        // These two queue up behind the first and make a batch. Two requests later they have been passed on.
        raw.say(json!(["EVENT", second])).await;
        raw.say(json!(["EVENT", third])).await;
        for _ in 0..2 {
            assert_eq!(raw.count(json!({"kinds": [7]})).await, 0);
        }
        world.touch("go");
        assert_eq!(raw.answer().await, yes(""));
        eventually("the plugin looks", async || {
            world.folder.path().join("looking").exists()
        })
        .await;

        // Of the batch the second is accepted, and the third is being asked about.
        assert_eq!(world.noted("lines").len(), 3);
        assert_eq!(world.stored().await, [first]);

        world.touch("looked");
        assert_eq!(raw.answer().await, yes(""));
        assert_eq!(raw.answer().await, yes(""));
        assert_eq!(world.stored().await.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn older_version_is_answered_replaced() {
    in_each_world(Setup::default(), async |world: World| {
        let keys = Keys::generate();
        let version = |created_at, name| {
            let tags: [&[&str]; 2] = [&["d", "x"], &["name", name]];
            event(&keys, 30617, created_at, "", &tags)
        };
        let mut tied = [version(now(), "a"), version(now(), "b")];
        tied.sort_by_key(|event| event.id);

        assert_eq!(world.answer(&tied[1]).await, yes(""));
        assert_eq!(
            world.answer(&version(now() - 9, "c")).await,
            no("replaced: have newer event")
        );
        assert_eq!(world.answer(&tied[0]).await, yes(""));
        let outcome = world.client.publish(&tied[1]).await;
        assert_eq!(outcome, PublishOutcome::Replaced);

        assert_eq!(world.stored().await, [tied[0].clone()]);
    })
    .await;
}

#[tokio::test]
async fn deleted_event_is_gone_and_answered_deleted() {
    in_each_world(Setup::default(), async |world: World| {
        let (keys, other) = (Keys::generate(), Keys::generate());
        let earlier = now() - 60;
        let announcement = event(&keys, 30617, earlier, "", &[&["d", "x"]]);
        let pr = event(&keys, 1618, earlier, "", &[]);
        let unseen = event(&keys, 1618, earlier, "unseen", &[]);
        let not_theirs = event(&other, 1618, earlier, "", &[]);
        for event in [&announcement, &pr, &not_theirs] {
            assert_eq!(world.answer(event).await, yes(""));
        }
        let coordinate = format!("30617:{}:x", keys.public_key());
        let ids = [&pr, &unseen, &not_theirs].map(|event| event.id.to_hex());
        let tags: [&[&str]; 4] = [&["a", &coordinate], &["e", &ids[0]], &["e", &ids[1]], &["e", &ids[2]]];
        let deletion = event(&keys, 5, now() - 30, "", &tags);

        assert_eq!(world.answer(&deletion).await, yes(""));

        for event in [&announcement, &pr, &unseen] {
            let answer = world.answer(event).await;
            assert_eq!(answer, no("deleted: user requested deletion"));
        }
        let outcome = world.client.publish(&pr).await;
        assert_eq!(outcome, PublishOutcome::Deleted);
        let mut expected = vec![not_theirs, deletion];
        expected.sort();
        assert_eq!(world.stored().await, expected);
        let newer = event(&keys, 30617, now(), "", &[&["d", "x"]]);
        assert_eq!(world.answer(&newer).await, yes(""));
        let foreign = event(&other, 5, now(), "", &[&["a", &coordinate]]);
        assert_eq!(
            world.answer(&foreign).await,
            no("invalid: can't delete other user's events")
        );
    })
    .await;
}

#[tokio::test]
async fn invalid_event_is_refused_without_the_plugin() {
    in_each_world(Setup::default(), async |world: World| {
        let made = |kind, created_at, tags: &[&[&str]]| event(&Keys::generate(), kind, created_at, "", tags);
        let past = (now() - 1).to_string();
        let expired: [&[&str]; 1] = [&["expiration", &past]];
        for (event, expected) in [
            (made(1, now() + 1000, &[]), "invalid: created_at too late"),
            (made(1, now() - 21 * YEAR_SECS, &[]), "invalid: created_at too early"),
            (made(20_001, now() - 100, &[]), "invalid: ephemeral event expired"),
            (made(1, now(), &expired), "invalid: event expired"),
            (made(1, now(), &[&["-"]]), "blocked: event marked as protected"),
        ] {
            assert_eq!(world.answer(&event).await, no(expected));
        }
        for (field, value, expected) in [
            ("content", json!("y"), "invalid: bad event id"),
            ("sig", json!("0".repeat(128)), "invalid: bad signature"),
        ] {
            let mut forged = serde_json::to_value(note("x")).unwrap();
            forged[field] = value;
            let mut raw = Raw::connect(world.port, None).await;
            raw.say(json!(["EVENT", forged])).await;
            assert_eq!(raw.answer().await, no(expected));
        }
        let outcome = world.client.publish(&made(1, now(), &expired)).await;
        assert_eq!(outcome, PublishOutcome::Expired);
        assert_eq!(world.noted("lines").len(), 0);
    })
    .await;
}

#[tokio::test]
async fn shipped_limits_take_what_git_needs() {
    in_each_world(Setup::default(), async |world: World| {
        let keys = Keys::generate();
        let oid = "0".repeat(40);
        let names: Vec<String> = (0..2500).map(|number| format!("refs/tags/v{number}")).collect();
        let refs: Vec<[&str; 2]> = names.iter().map(|name| [name.as_str(), oid.as_str()]).collect();
        let tags: Vec<&[&str]> = refs.iter().map(<[&str; 2]>::as_slice).collect();
        let old = now() - 10 * YEAR_SECS;
        for event in [
            event(&keys, 1617, now(), &"x".repeat(196_608), &[]),
            event(&keys, 30618, now(), "", &[&[&["d", "x"][..]], &tags[..]].concat()),
            event(&keys, 30617, old, "", &[&["d", "old"]]),
        ] {
            assert_eq!(world.answer(&event).await, yes(""));
        }

        let too_large = event(&keys, 1617, now(), &"x".repeat(262_144), &[]);
        let (accepted, text) = world.answer(&too_large).await;
        assert!(!accepted);
        assert!(text.starts_with("invalid: event too large: "), "{text}");
    })
    .await;
}

#[tokio::test]
async fn query_is_whole_beyond_the_relays_limit() {
    let setup = Setup {
        limit_max: 20,
        ..Setup::default()
    };
    in_each_world(setup, async |world: World| {
        let keys = Keys::generate();
        let mut expected = Vec::new();
        for number in 0..90 {
            let created_at = now() - 100 + number / 7;
            let event = event(&keys, 1, created_at, &number.to_string(), &[]);
            let outcome = world.client.publish(&event).await;
            assert_eq!(outcome, PublishOutcome::Stored);
            expected.push(event);
        }
        expected.sort();

        let document = world.client.information().await.unwrap();
        assert_eq!(document["limitation"]["max_limit"], 20);
        let mut raw = Raw::connect(world.port, None).await;
        for (filter, count) in [(json!({}), 20), (json!({"limit": 1000}), 20), (json!({"limit": 0}), 0)] {
            assert_eq!(raw.count(filter).await, count);
        }
        let author = Filter::new().author(keys.public_key());
        for filters in [vec![Filter::new()], vec![Filter::new().kind(Kind::TextNote), author]] {
            let mut stored = world.client.query(filters).await.unwrap();
            stored.sort();
            assert_eq!(stored, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn bad_request_is_closed_and_the_connection_stays() {
    in_each_world(Setup::default(), async |world: World| {
        let mut raw = Raw::connect(world.port, None).await;
        for filter in [
            json!({"search": "x"}),
            json!({"ids": ["x"]}),
            json!({"#a": ["x"], "#b": ["x"], "#c": ["x"], "#d": ["x"]}),
        ] {
            raw.say(json!(["REQ", "s", filter])).await;
            let message = raw.hear().await;
            assert_eq!(message[0], "CLOSED", "{message}");
            assert_eq!(message[1], "s", "{message}");
        }
        raw.say(json!(["WHAT", "x"])).await;
        assert_eq!(raw.hear().await[0], "NOTICE");
        assert_eq!(raw.count(json!({"authors": []})).await, 0);
    })
    .await;
}

/// 9 KB of `[` end a strfry 1.1.1 whose threads have stacks of 8 MiB.
#[tokio::test]
async fn the_deepest_message_ends_nobody() {
    in_each_world(Setup::default(), async |world: World| {
        let mut raw = Raw::connect(world.port, None).await;

        raw.0.send(Message::text("[".repeat(393_000))).await.unwrap();

        assert_eq!(raw.hear().await[0], "NOTICE");
        assert_eq!(world.answer(&note("x")).await, yes(""));
    })
    .await;
}

#[test]
fn the_shipped_stack_holds_the_deepest_message_that_is_taken() {
    // 8,452 levels fill 8 MiB.
    let bytes_per_level = (8 << 20) / 8_452 + 1;
    assert!(shipped("maxWebsocketPayloadSize") * bytes_per_level < shipped_stack_kib() * 1024);
    // The requests of RelayClient at a time, and its subscription.
    assert!(shipped("maxSubsPerConnection") > 17);
}

/// Returns a number of the shipped configuration.
fn shipped(name: &str) -> u64 {
    let configuration = strfry_configuration(&[]);
    let mut values = configuration.lines().filter_map(|line| line.trim().strip_prefix(name));
    values.next().unwrap().trim_start_matches([' ', '=']).parse().unwrap()
}

/// Returns the `LimitSTACK` of the shipped unit.
fn shipped_stack_kib() -> u64 {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../strfry-config/systemd/strfry.service");
    let unit = fs::read_to_string(unit).unwrap();
    let mebibytes = unit
        .lines()
        .find_map(|line| line.strip_prefix("LimitSTACK=")?.strip_suffix('M'));
    mebibytes.unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_count_and_a_sync_end_at_their_bounds() {
    let setup = Setup {
        bounds: &[("maxFilterLimitCount", "20"), ("maxSyncEvents", "20")],
        ..Setup::default()
    };
    in_strfry(setup, async |world: World| {
        for number in 0..30 {
            let outcome = world.client.publish(&note(&number.to_string())).await;
            assert_eq!(outcome, PublishOutcome::Stored);
        }
        let mut raw = Raw::connect(world.port, None).await;

        raw.say(json!(["COUNT", "s", {"kinds": [1]}])).await;
        assert_eq!(raw.hear().await, json!(["COUNT", "s", {"count": 20, "limited": true}]));
        raw.say(json!(["NEG-OPEN", "s", {"kinds": [1]}, NEGENTROPY])).await;
        assert_eq!(
            raw.hear().await,
            json!(["NEG-ERR", "s", "blocked: too many query results", 20])
        );
        raw.say(json!(["NEG-OPEN", "s", {"kinds": [7]}, NEGENTROPY])).await;
        assert_eq!(raw.hear().await[0], "NEG-MSG");
    })
    .await;
}

#[tokio::test]
async fn a_connection_has_so_many_requests_at_a_time() {
    in_strfry(Setup::default(), async |world: World| {
        for (request, argument, answer) in [("REQ", None, "EOSE"), ("NEG-OPEN", Some(NEGENTROPY), "NEG-MSG")] {
            let mut raw = Raw::connect(world.port, None).await;
            let ask = |number: u64| {
                let filter = json!({"kinds": [7]});
                let words = [json!(request), json!(format!("s{number}")), filter];
                Value::Array(words.into_iter().chain(argument.map(Value::from)).collect())
            };
            for number in 0..shipped("maxSubsPerConnection") {
                raw.say(ask(number)).await;
                assert_eq!(raw.hear().await[0], answer, "{request} {number}");
            }

            raw.say(ask(1000)).await;

            // It may have been answered before it is refused.
            let mut said = raw.hear().await;
            if said[0] == answer {
                said = raw.hear().await;
            }
            let text = said[1].as_str().unwrap();
            assert!(said[0] == "NOTICE" && text.contains("too many concurrent"), "{said}");
            assert_eq!(world.answer(&note("x")).await, yes(""));
        }
    })
    .await;
}

/// The first message of a sync that knows nothing: the version of the protocol.
const NEGENTROPY: &str = "61";

#[tokio::test]
async fn subscriber_hears_what_is_stored_and_nothing_else() {
    in_each_world(Setup::default(), async |world: World| {
        let outcome = world.client.publish(&note("before")).await;
        assert_eq!(outcome, PublishOutcome::Stored);
        let filter = Filter::new().kind(Kind::TextNote);
        let mut subscription = world.client.subscribe(vec![filter]);
        assert_eq!(subscription.next().await, Signal::Connected);

        for content in ["shadow", "reject", "x", "shadow", "y"] {
            let event = note(content);
            let outcome = world.client.publish(&event).await;
            if outcome == PublishOutcome::Stored {
                assert_eq!(subscription.next().await, Signal::Event(Box::new(event)));
            }
        }
        assert_eq!(world.noted("lines").len(), 6);
    })
    .await;
}

#[tokio::test]
async fn import_takes_what_the_relay_refuses_from_clients_and_says_what_became_of_it() {
    in_each_world(Setup::default(), async |world: World| {
        let keys = Keys::generate();
        let protected: [&[&str]; 2] = [&["d", "x"], &["-"]];
        let old = now() - 21 * YEAR_SECS;
        let [older, newer] = [old, now()].map(|at| event(&keys, 30618, at, "", &protected));
        let plain = event(&Keys::generate(), 30618, old, "", &[&["d", "y"]]);
        assert_eq!(world.answer(&newer).await, no("blocked: event marked as protected"));
        assert_eq!(world.answer(&plain).await, no("invalid: created_at too early"));

        for (event, said) in [
            (&newer, "Writer: added: 1 dups: 0 replaced: 0 deleted: 0"),
            (&newer, "Writer: added: 0 dups: 1 replaced: 0 deleted: 0"),
            (&older, "Writer: added: 0 dups: 0 replaced: 1 deleted: 0"),
            (&plain, "Writer: added: 1 dups: 0 replaced: 0 deleted: 0"),
        ] {
            let output = world.import(&serde_json::to_string(event).unwrap()).await;
            assert!(
                output.lines().any(|line| line.ends_with(&format!("| {said}"))),
                "{output}"
            );
        }
        let mut forged = serde_json::to_value(&plain).unwrap();
        forged["sig"] = json!("0".repeat(128));
        for (line, said) in [
            (forged.to_string(), "| Rejected event"),
            ("x".to_owned(), "| Unable to parse JSON on line 1"),
        ] {
            let output = world.import(&line).await;
            assert!(output.contains(said) && !output.contains("added: 1"), "{output}");
        }
        assert_eq!(world.stored().await, [newer.clone(), plain]);
        // What is protected is refused before it is found to be there.
        assert_eq!(world.answer(&newer).await, no("blocked: event marked as protected"));
        assert_eq!(world.noted("lines").len(), 0);
    })
    .await;
}

#[tokio::test]
async fn plugin_ends_with_the_relay() {
    in_each_world(Setup::default(), async |world: World| {
        assert_eq!(world.answer(&note("x")).await, yes(""));

        match world.relay {
            Relay::StandIn(relay) => relay.stop().await,
            Relay::Strfry(mut strfry) => strfry.kill().await.unwrap(),
        }

        // At its end of input the plugin notes that, unless the stand-in has killed it.
        let plugin = fs::read_to_string(world.folder.path().join("starts")).unwrap();
        let process = PathBuf::from(format!("/proc/{}", plugin.trim()));
        eventually("the plugin ends", async || !process.exists()).await;
    })
    .await;
}

/// Runs a test with the stand-in and, where there is one, with strfry.
async fn in_each_world(setup: Setup, test: impl AsyncFn(World)) {
    println!("with the stand-in");
    let world = World::stand_in(setup).await;
    tokio::time::timeout(LIMIT, test(world)).await.expect("in time");
    in_strfry(setup, test).await;
}

/// Runs a test with strfry, where there is one.
async fn in_strfry(setup: Setup, test: impl AsyncFn(World)) {
    if let Some(binary) = std::env::var_os("STRFRY_BIN") {
        println!("with strfry");
        let world = World::strfry(Path::new(&binary), setup).await;
        tokio::time::timeout(LIMIT, test(world)).await.expect("in time");
    }
}

/// No test takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// What a test changes in the relay's settings.
#[derive(Clone, Copy)]
struct Setup {
    timeout_secs: u64,
    limit_max: usize,
    /// Others, which the stand-in does not have.
    bounds: &'static [(&'static str, &'static str)],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            timeout_secs: 10,
            limit_max: 1000,
            bounds: &[],
        }
    }
}

/// A relay with the plugin.
struct World {
    port: u16,
    client: RelayClient,
    relay: Relay,
    folder: TempDir,
}

enum Relay {
    StandIn(RelayServer),
    Strfry(Child),
}

impl World {
    async fn stand_in(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = RelayLimits {
            limit_max: setup.limit_max,
            ..RelayLimits::default()
        };
        let timeout = Duration::from_secs(setup.timeout_secs);
        let plugin = PluginHost::new(plugin_command(folder.path()), timeout);
        let database = folder.path().join("db");
        let configuration = strfry_configuration(&[("db", format!("{database:?}"))]);
        fs::write(folder.path().join("strfry.conf"), configuration).unwrap();
        let relay = RelayServer::start(listener, &database, plugin, limits).await.unwrap();
        Self::new(relay.local_addr().port(), folder, Relay::StandIn(relay))
    }

    async fn strfry(binary: &Path, setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let database = folder.path().join("db");
        fs::create_dir(&database).unwrap();
        let mut settings = vec![
            ("db", format!("{database:?}")),
            ("port", port.to_string()),
            ("maxFilterLimit", setup.limit_max.to_string()),
            ("plugin", format!("{:?}", plugin_command(folder.path()))),
            ("timeoutSeconds", setup.timeout_secs.to_string()),
        ];
        settings.extend(setup.bounds.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let configuration = strfry_configuration(&settings);
        let path = folder.path().join("strfry.conf");
        fs::write(&path, configuration).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "strfry is no git")]
        let child = tokio::process::Command::new("/bin/sh")
            // As the unit starts it.
            .arg("-c")
            .arg(format!("ulimit -s {}; exec \"$0\" \"$@\"", shipped_stack_kib()))
            .arg(binary)
            .arg(format!("--config={}", path.display()))
            .arg("relay")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("strfry listens", async || is_listened_at(("127.0.0.1", port)).await).await;
        Self::new(port, folder, Relay::Strfry(child))
    }

    fn new(port: u16, folder: TempDir, relay: Relay) -> Self {
        let url = format!("ws://127.0.0.1:{port}");
        Self {
            port,
            client: RelayClient::new(url.parse().unwrap(), Duration::from_secs(30)),
            relay,
            folder,
        }
    }

    /// Runs an import of one line, and returns what it said.
    async fn import(&self, line: &str) -> String {
        let strfry = match &self.relay {
            Relay::StandIn(_) => program("strfry-double"),
            Relay::Strfry(_) => std::env::var_os("STRFRY_BIN").unwrap().into(),
        };
        let command = format!(
            "{} --config={} import --show-rejected --debounce-millis=0 --write-batch=1 2>&1",
            strfry.display(),
            self.folder.path().join("strfry.conf").display()
        );
        shell(&command, &format!("{line}\n")).await
    }

    /// Returns the lines of a file that the plugin writes.
    fn noted(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn touch(&self, file: &str) {
        fs::write(self.folder.path().join(file), "").unwrap();
    }

    /// Returns what the relay answers to an event: accepted or not, and the text.
    async fn answer(&self, event: &Event) -> (bool, String) {
        let mut raw = Raw::connect(self.port, None).await;
        raw.say(json!(["EVENT", event])).await;
        raw.answer().await
    }

    /// Returns all stored events, newest first.
    async fn stored(&self) -> Vec<Event> {
        let mut stored = self.client.query(vec![Filter::new()]).await.unwrap();
        stored.sort();
        stored
    }
}

fn plugin_command(folder: &Path) -> String {
    let script = folder.join("plugin.sh");
    fs::write(&script, PLUGIN).unwrap();
    format!("exec /bin/sh {} {}", script.display(), folder.display())
}

/// Waits until something holds.
async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client that says exactly what it is told to.
struct Raw(WebSocketStream<TcpStream>);

impl Raw {
    async fn connect(port: u16, real_ip: Option<&str>) -> Self {
        let url = format!("ws://127.0.0.1:{port}/");
        let mut request = url.into_client_request().unwrap();
        if let Some(real_ip) = real_ip {
            let value = real_ip.parse().unwrap();
            request.headers_mut().insert("x-real-ip", value);
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Self(client_async(request, stream).await.unwrap().0)
    }

    async fn say(&mut self, message: Value) {
        let message = Message::text(message.to_string());
        self.0.send(message).await.unwrap();
    }

    /// Returns the next message, or null at the end of the connection.
    async fn hear(&mut self) -> Value {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Value::Null,
            }
        }
    }

    async fn answer(&mut self) -> (bool, String) {
        let message = self.hear().await;
        assert_eq!(message[0], "OK", "{message}");
        let text = message[3].as_str().unwrap().to_owned();
        (message[2].as_bool().unwrap(), text)
    }

    /// Asks, and returns how many stored events there were.
    async fn count(&mut self, filter: Value) -> usize {
        self.say(json!(["REQ", "s", filter])).await;
        let mut count = 0;
        loop {
            let message = self.hear().await;
            match message[0].as_str() {
                Some("EVENT") => count += 1,
                Some("EOSE") => return count,
                _ => panic!("{message}"),
            }
        }
    }
}

fn now() -> u64 {
    Timestamp::now().as_secs()
}

fn note(content: &str) -> Event {
    event(&Keys::generate(), 1, now(), content, &[])
}

fn event(keys: &Keys, kind: u16, created_at: u64, content: &str, tags: &[&[&str]]) -> Event {
    EventBuilder::new(Kind::from(kind), content)
        .tags(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()))
        .custom_created_at(Timestamp::from_secs(created_at))
        .finalize(keys)
        .unwrap()
}

fn yes(text: &str) -> (bool, String) {
    (true, text.to_owned())
}

fn no(text: &str) -> (bool, String) {
    (false, text.to_owned())
}

const YEAR_SECS: u64 = 365 * 86_400;

/// A plugin that does what the content of an event says. It notes each line it gets and, at its start, the number of
/// its process. `$1` is its folder.
const PLUGIN: &str = r#"
echo $$ >> "$1/starts"
trap 'echo $$ >> "$1/terms"; exit 0' TERM
await() { until [ -e "$1" ]; do sleep 0.05; done; }
while IFS= read -r line; do
    printf '%s\n' "$line" >> "$1/lines"
    content=$(printf '%s\n' "$line" | sed 's/^{"event":{"content":"\([^"]*\)".*/\1/')
    id=$(printf '%s\n' "$line" | sed 's/.*,"id":"\([0-9a-f]*\)","kind":.*/\1/')
    accept="{\"id\":\"$id\",\"action\":\"accept\"}"
    case "$content" in
        reject) echo "{\"id\":\"$id\",\"action\":\"reject\",\"msg\":\"blocked: no\"}" ;;
        shadow) echo "{\"id\":\"$id\",\"action\":\"shadowReject\",\"msg\":\"purgatory: wait\"}" ;;
        message) echo "{\"id\":\"$id\",\"action\":\"accept\",\"msg\":\"hello\"}" ;;
        noise) printf 'hello\n\n'; echo "$accept" ;;
        wait) await "$1/go"; echo "$accept" ;;
        look) : > "$1/looking"; await "$1/looked"; echo "$accept" ;;
        null) echo "{\"id\":\"$id\",\"action\":\"accept\",\"msg\":null}" ;;
        other-id) echo '{"id":"0","action":"accept"}' ;;
        no-id) echo '{"action":"accept"}' ;;
        no-action) echo "{\"id\":\"$id\"}" ;;
        unknown) echo "{\"id\":\"$id\",\"action\":\"hold\"}" ;;
        long) printf '%09000d\n' 0 ;;
        silent) ;;
        die) exit 1 ;;
        *) echo "$accept" ;;
    esac
done
"#;
