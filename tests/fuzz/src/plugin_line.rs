//! What strfry writes to its plugin, and the answers.

use nostr::event::Event;
use plugin::protocol::ANSWER_BYTES_MAX;
use plugin::protocol::Request;
use plugin::protocol::ScannedLine;
use plugin::protocol::Subject;
use plugin::protocol::write_answer;
use serde_json::Value;
use shared::rules::OtherKinds;
use shared::write_policy::Answer;

/// Reads a line. Whatever stands in it, the answer is one line that strfry can read, for the event that it asked about.
pub fn plugin_line(data: &[u8]) {
    let request = ScannedLine::of(data).read(OtherKinds::Accept);
    let strict = ScannedLine::of(data).read(OtherKinds::Refuse);
    assert_eq!((&request.id, request.verified), (&strict.id, strict.verified));
    agrees_with_a_parser(data, &request);
    if let Subject::Ours(event) = &request.subject {
        assert_eq!(event.id.to_hex(), request.id, "echoed verbatim");
    }
    let text = match &request.subject {
        Subject::Malformed { reason } => reason.clone(),
        Subject::NotOurs | Subject::Ours(_) | Subject::Inexact { .. } => String::from_utf8_lossy(data).into_owned(),
    };
    for (answer, action) in [
        (Answer::Accept, "accept"),
        (Answer::Hold("purgatory: waits".into()), "shadowReject"),
        (Answer::Refuse(text), "reject"),
    ] {
        let mut line = Vec::new();
        write_answer(&mut line, &request.id, &answer);
        check(std::str::from_utf8(&line).expect("UTF-8"), &request.id, action);
    }
}

/// Where a parser of all JSON can read the line, it finds the same in it.
fn agrees_with_a_parser(data: &[u8], request: &Request) {
    let Ok(line) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = text(&line["event"]["id"]);
    if id.len() <= 600 {
        assert_eq!(id, request.id);
    }
    let (source_type, source_info) = (text(&line["sourceType"]), text(&line["sourceInfo"]));
    assert_eq!(request.source, format!("{source_type} {source_info}").trim());
    match (&request.subject, serde_json::from_value::<Event>(line["event"].clone())) {
        (Subject::Ours(event), Ok(parsed)) => assert_eq!(**event, parsed),
        (Subject::Ours(event), Err(error)) => panic!("{event:?} is none: {error}"),
        (Subject::NotOurs | Subject::Inexact { .. } | Subject::Malformed { .. }, _) => {}
    }
}

fn check(line: &str, id: &str, action: &str) {
    assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
    assert!(line.len() <= ANSWER_BYTES_MAX, "{} bytes", line.len());
    let answer: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(answer["id"], id);
    assert_eq!(answer["action"], action);
    assert_ne!(
        answer.get("msg"),
        Some(&Value::Null),
        "strfry ends a plugin that says so"
    );
}
