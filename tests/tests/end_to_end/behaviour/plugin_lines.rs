//! What strfry lets through and no other parser likes: the plugin's answer carries the line's id, and what is not ours
//! is judged by strfry's rules.

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
