//! What strfry writes to its plugin, and the answers.

use plugin::protocol::ANSWER_BYTES_MAX;
use plugin::protocol::Request;
use plugin::protocol::Subject;
use plugin::protocol::answer_line;
use serde_json::Value;
use shared::rules::OtherKinds;
use shared::write_policy::Answer;

/// Reads a line. Whatever stands in it, the answer is one line that strfry can read, for the event that it asked about.
pub fn plugin_line(data: &[u8]) {
    let request = Request::parse(data, OtherKinds::Accept);
    let strict = Request::parse(data, OtherKinds::Refuse);
    assert_eq!((&request.id, request.verified), (&strict.id, strict.verified));
    if let Subject::Ours(event) = &request.subject {
        assert_eq!(event.id.to_hex(), request.id, "echoed verbatim");
    }
    let text = match &request.subject {
        Subject::Malformed { reason } => reason.clone(),
        Subject::NotOurs | Subject::Ours(_) => String::from_utf8_lossy(data).into_owned(),
    };
    for (answer, action) in [
        (Answer::Accept, "accept"),
        (Answer::Hold("purgatory: waits".into()), "shadowReject"),
        (Answer::Refuse(text), "reject"),
    ] {
        check(&answer_line(&request.id, &answer), &request.id, action);
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
