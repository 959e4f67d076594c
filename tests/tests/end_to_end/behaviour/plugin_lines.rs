//! What strfry lets through and no other parser likes: the plugin's answer carries the line's id, and what is not ours
//! is judged by strfry's rules.

use std::io::Write;

use nostr::event::Event;
use nostr::key::Keys;
use serde_json::Value;
use serde_json::json;
use shared::nip34;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::world::World;

use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::redis;

/// A line of strfry, with these tags instead of the event's.
fn line(event: &Event, tags: Option<&str>, source_type: &str) -> String {
    let mut event = json!(event);
    let tags = tags.map_or_else(|| event["tags"].to_string(), str::to_owned);
    event["tags"] = json!("TAGS");
    json!({"event": event, "receivedAt": now(), "sourceInfo": "192.0.2.1", "sourceType": source_type, "type": "new"})
        .to_string()
        .replace("\"TAGS\"", &tags)
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_events_are_answered_with_their_ids_and_those_that_are_not_ours_pass() {
    let options = Options {
        other_kinds: "accept",
        ..Options::default()
    };
    let world = World::start(Kind::Strfry, options).await;
    let keys = Keys::generate();
    let event = |kind: u16| sign(&keys, kind, now(), &[]);
    let deep = format!("[[\"t\",\"x\",{}{}]]", "[".repeat(20_000), "]".repeat(20_000));
    let odd = "[[\"K\",\"1\",null],[\"I\",\"https://example.com\",5]]";
    let about_git = "[[\"K\",\"1621\",null]]";
    let mut rows = Vec::new();
    for (kind, tags, action) in [
        (1, deep.as_str(), "accept"),
        (7, &deep, "accept"),
        (nip34::DELETION, &deep, "accept"),
        (nip34::VANISH, &deep, "accept"),
        (nip34::COMMENT, &deep, "accept"),
        (nip34::STATE, &deep, "reject"),
        (nip34::PULL_REQUEST, &deep, "reject"),
        (nip34::DELETION, odd, "accept"),
        (nip34::COMMENT, odd, "accept"),
        (nip34::COMMENT, about_git, "reject"),
        (nip34::ISSUE, odd, "reject"),
    ] {
        rows.push((event(kind), tags, action));
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|(event, tags, _)| line(event, Some(tags), "IP4"))
        .collect();

    let answers = world.plugin_answers(&lines).await;

    assert_eq!(answers.len(), rows.len());
    for ((event, tags, action), answer) in rows.iter().zip(&answers) {
        let wanted = [json!(event.id.to_hex()), json!(action)];
        let tags = &tags[..tags.len().min(40)];
        assert_eq!(
            [&answer["id"], &answer["action"]],
            wanted.each_ref(),
            "{} {tags}: {answer}",
            event.kind
        );
    }
}

/// Its author cannot know what other software writes into a tag.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_with_a_number_in_a_tag_and_a_key_in_upper_case_ends_what_it_names() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let announcement = world.announcement(&repository, now(), &[]);
    assert_eq!(nostr.send(&announcement).await, held());
    let deletion = sign(&repository.owner, nip34::DELETION, now(), &[]);
    let tags = json!([["e", announcement.id.to_hex().to_uppercase(), 5], ["k", "30617", null]]).to_string();
    let key = repository.owner.public_key().to_hex();
    let line = line(&deletion, Some(&tags), "IP6").replace(&key, &key.to_uppercase());

    let answers = world.plugin_answers(&[line]).await;

    assert_eq!(answers[0]["action"], "accept", "{answers:?}");
    let status = field(&mut redis(&world).await, &announcement.id.to_hex(), "status").await;
    assert_eq!(status, None);
}

/// strfry checks what comes by a stream after the plugin, and never what the plugin holds: a state dated next year was
/// held, completed, refused by strfry, and governed its repository for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_a_stream_is_dated_as_clients_may_date_it() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    assert_eq!(nostr.send(&world.announcement(&repository, now(), &[])).await, held());
    let state = |at: u64| repository.state(at, &[("refs/heads/main", &"a".repeat(40))]);
    let expired = sign(
        &repository.owner,
        nip34::STATE,
        now(),
        &[tag(&["d", "r"]), tag(&["expiration", "1000000000"])],
    );
    let rows = [
        (state(now() + 31_536_000), "reject", "invalid: created_at too late"),
        (state(now() + 1_000), "reject", "invalid: created_at too late"),
        (state(1_000), "reject", "invalid: created_at too early"),
        (expired, "reject", "invalid: event expired"),
        (
            state(now() + 800),
            "shadowReject",
            "purgatory: won't be served until git data arrives",
        ),
    ];
    let lines: Vec<String> = rows.iter().map(|(event, ..)| line(event, None, "Stream")).collect();

    let answers = world.plugin_answers(&lines).await;

    let told = |answer: &Value| (answer["action"].clone(), answer["msg"].clone());
    let expected: Vec<_> = rows
        .iter()
        .map(|(_, action, msg)| (json!(action), json!(msg)))
        .collect();
    assert_eq!(answers.iter().map(told).collect::<Vec<_>>(), expected);
}

/// Whatever is in a line, strfry waits for one answer to it, with its id and in its order, and reads 8,192 bytes at
/// most.
/// `TEST_LINES` says how many are tried (scripts/plugin-lines).
#[tokio::test(flavor = "multi_thread")]
async fn every_line_has_one_answer_in_order_with_its_id() {
    let world = World::start(Kind::Strfry, Options::default()).await;
    let asked_for = std::env::var("TEST_LINES").ok();
    let count: usize = asked_for.map_or(2_000, |count| count.parse().unwrap());
    let (input, output) = (world.folder().join("lines"), world.folder().join("answers"));
    let files = format!("<{} >{}", input.display(), output.display());
    let (mut random, mut with_id) = (Random(0x5eed), 0);
    let events = some_events(&world);
    for first in (0..count).step_by(LINES_MAX) {
        let lines: Vec<Vec<u8>> = (first..count.min(first + LINES_MAX))
            .map(|_| random.line(&events))
            .collect();
        std::fs::write(&input, lines.join(&b'\n')).unwrap();
        std::fs::File::options()
            .append(true)
            .open(&input)
            .unwrap()
            .write_all(b"\n")
            .unwrap();

        world.plugin_answers_with(&files, &[]).await;

        let answers = std::fs::read(&output).unwrap();
        let answers: Vec<&[u8]> = answers.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(answers.len(), lines.len());
        for (line, answer) in lines.iter().zip(answers) {
            let shown = || String::from_utf8_lossy(line).chars().take(2_000).collect::<String>();
            assert!(answer.len() <= 8_192, "{}", shown());
            let answer: Value = serde_json::from_slice(answer).unwrap();
            let action = answer["action"].as_str().unwrap();
            assert!(["accept", "reject", "shadowReject"].contains(&action), "{}", shown());
            assert!(
                !answer.as_object().unwrap().get("msg").is_some_and(Value::is_null),
                "{}",
                shown()
            );
            let read: Option<Value> = serde_json::from_slice(line).ok();
            // strfry has no plain text longer than this for an id.
            if let Some(id) = read.as_ref().and_then(|line| line["event"]["id"].as_str())
                && id.len() <= 600
            {
                assert_eq!(answer["id"], id, "{}", shown());
                with_id += 1;
            }
        }
    }
    assert!(with_id > count / 3, "{with_id} of {count} have an id");
}

/// Lines that one plugin is asked with.
const LINES_MAX: usize = 500;

/// Events of each kind of answer, and what else stands in lines.
fn some_events(world: &World) -> Vec<Value> {
    let keys = Keys::generate();
    let repository = Repository::new("r");
    let mut events = vec![
        world.announcement(&repository, now(), &[]),
        repository.state(now(), &[("refs/heads/main", &"a".repeat(40))]),
        repository.pull_request(&keys, &"b".repeat(40)),
    ];
    let other_id = tag(&["e", &"ab".repeat(32), "", "root"]);
    for kind in [0, 1, 5, 7, 62, 1111, 1617, 1619, 1621, 1630, 10317, 30618] {
        events.push(sign(&keys, kind, now(), &[other_id.clone(), tag(&["K", "1618"])]));
    }
    events.into_iter().map(|event| json!(event)).collect()
}

/// A generator of lines, the same ones for the same seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// Returns a line about one of these events, perhaps with other values, perhaps with other bytes.
    fn line(&mut self, events: &[Value]) -> Vec<u8> {
        let mut event = events[self.below(events.len())].clone();
        for _ in 0..self.below(3) {
            let fields = ["id", "pubkey", "created_at", "kind", "tags", "content", "sig", "more"];
            event[fields[self.below(fields.len())]] = self.value(3);
        }
        let source = ["IP4", "IP6", "Stream", "Sync", "?"][self.below(5)];
        let line = json!({"event": event, "receivedAt": now(), "sourceInfo": "192.0.2.1", "sourceType": source,
            "type": "new"});
        let mut line = line.to_string().into_bytes();
        let changes = [0, 0, 1, 8][self.below(4)];
        for _ in 0..changes {
            let at = self.below(line.len());
            let byte = b"\"\\{}[]:,0u \x00\xff\xc3"[self.below(14)];
            match self.below(4) {
                0 => line[at] = byte,
                1 => line.insert(at, byte),
                2 => drop(line.remove(at)),
                _ => line.extend_from_within(at..),
            }
        }
        line
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 1),
            2 => json!(self.below(100_000)),
            3 => json!(-1.5e300),
            4 => json!("\u{1}\"\\\u{1f980}".repeat(self.below(2_000))),
            5 => json!("0x".to_owned() + &"AB".repeat(32)),
            6 => json!(u64::MAX),
            7 => (0..self.below(5)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let text = self.value(0);
                json!({"id": text, "kind": self.value(depth - 1)})
            }
        }
    }
}
