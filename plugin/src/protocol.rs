//! strfry's plugin protocol: one JSON object a line, each way (strfry `docs/plugins.md` and `PluginEventSifter.h`;
//! docs/strfry-contract.md). Pure.

use nostr::event::Event;
use serde_json::Value;
use serde_json::json;
use shared::rules::OtherKinds;
use shared::rules::may_concern;
use shared::write_policy::Answer;

/// A line of strfry, read as far as we need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `event.id` as it stands there, to be echoed verbatim; empty if there is none, or one that no event can have.
    pub id: String,
    /// Where the event came from: `IP4 203.0.113.7`, `Stream wss://…`.
    pub source: String,
    /// Whether strfry has checked id and signature: only for events of its own clients.
    pub verified: bool,
    /// What is in it.
    pub subject: Subject,
}

/// What an event is to us.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A kind that no rule here speaks of, on a general relay.
    NotOurs,
    /// One of ours.
    Ours(Box<Event>),
    /// One of our kinds, in a shape that no event has.
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

impl Request {
    /// Reads a line. Whatever is in it, there is something to answer.
    pub fn parse(line: &[u8], other_kinds: OtherKinds) -> Self {
        let request: Value = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => {
                return Self {
                    id: String::new(),
                    source: String::new(),
                    verified: false,
                    subject: Subject::Malformed {
                        reason: format!("not JSON: {error}"),
                    },
                };
            }
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let event = &request["event"];
        let (source_type, source_info) = (text(&request["sourceType"]), text(&request["sourceInfo"]));
        Self {
            id: Some(text(&event["id"]))
                .filter(|id| id.len() <= ID_BYTES_MAX)
                .unwrap_or_default(),
            verified: matches!(source_type.as_str(), "IP4" | "IP6"),
            source: format!("{source_type} {source_info}").trim().to_owned(),
            subject: subject(event, other_kinds),
        }
    }
}

fn subject(event: &Value, other_kinds: OtherKinds) -> Subject {
    let kind = event["kind"].as_u64().and_then(|kind| u16::try_from(kind).ok());
    if !may_concern(kind, other_kinds) {
        return Subject::NotOurs;
    }
    let malformed = |reason: String| Subject::Malformed { reason };
    match serde_json::from_value::<Event>(event.clone()) {
        // strfry takes ids and keys in upper case too; here each has one spelling.
        Ok(parsed) if event["id"] != parsed.id.to_hex() || event["pubkey"] != parsed.pubkey.to_hex() => {
            malformed("id and pubkey must be written in lower-case hex".to_owned())
        }
        Ok(parsed) => Subject::Ours(Box::new(parsed)),
        Err(error) => malformed(format!("not an event: {error}")),
    }
}

/// Writes the line that answers a request, with its line feed.
///
/// It has at most [`ANSWER_BYTES_MAX`] bytes, since strfry kills a plugin that writes a longer one, and no `msg` of
/// `null`, for the same reason.
pub fn answer_line(id: &str, answer: &Answer) -> String {
    let mut line = match answer {
        Answer::Accept => json!({"id": id, "action": "accept"}),
        // OK *true* with the message, and nothing stored: what GRASP-01 wants for the purgatory.
        Answer::Hold(message) => json!({"id": id, "action": "shadowReject", "msg": message}),
        Answer::Refuse(message) => json!({"id": id, "action": "reject", "msg": shortened(message)}),
    }
    .to_string();
    line.push('\n');
    line
}

/// JSON may write one byte as six (`\u0000`).
fn shortened(message: &str) -> &str {
    let mut end = message.len().min(ANSWER_BYTES_MAX / 8);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

/// An id is 64 hex digits. Any longer, and an answer that echoes it could be longer than strfry reads.
const ID_BYTES_MAX: usize = 64;

/// Longest line that strfry reads (`setMaxRecordSize` in strfry's `PluginEventSifter.h`), its end included.
pub const ANSWER_BYTES_MAX: usize = 8191;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;

    fn line(event: &Value, source_type: &str) -> Vec<u8> {
        json!({"event": event, "receivedAt": 1, "sourceInfo": "127.0.0.1", "sourceType": source_type, "type": "new"})
            .to_string()
            .into_bytes()
    }

    fn request(line: &[u8]) -> Request {
        Request::parse(line, OtherKinds::Accept)
    }

    fn event(kind: u16) -> Value {
        let event = EventBuilder::new(Kind::from_u16(kind), "")
            .finalize(&Keys::generate())
            .unwrap();
        serde_json::to_value(event).unwrap()
    }

    #[test]
    fn kinds_of_ours_are_read() {
        for (kind, ours) in [
            (1, false),
            (5, true),
            (1617, true),
            (1111, true),
            (62, true),
            (7, false),
            (1618, true),
            (1619, true),
            (30617, true),
            (30618, true),
        ] {
            let subject = request(&line(&event(kind), "IP4")).subject;
            assert_eq!(matches!(subject, Subject::Ours(_)), ours, "{kind}");
        }
    }

    #[test]
    fn only_events_of_strfrys_clients_are_verified() {
        for (source_type, verified) in [
            ("IP4", true),
            ("IP6", true),
            ("Stream", false),
            ("Sync", false),
            ("?", false),
        ] {
            assert_eq!(
                request(&line(&event(30617), source_type)).verified,
                verified,
                "{source_type}"
            );
        }
    }

    #[test]
    fn what_strfry_lets_through_does_not_stop_us() {
        let mut huge_kind = event(1);
        huge_kind["kind"] = json!(99_999_999);
        let mut odd_tags = event(30617);
        odd_tags["tags"] = json!([["t", "x", 5, null, {"a": 1}]]);
        let mut upper = event(30617);
        upper["id"] = json!(upper["id"].as_str().unwrap().to_uppercase());
        let mut no_content = event(30618);
        no_content["content"] = Value::Null;

        assert_eq!(request(&line(&huge_kind, "IP4")).subject, Subject::NotOurs);
        for event in [odd_tags, upper.clone(), no_content] {
            let request = request(&line(&event, "IP4"));
            assert!(matches!(request.subject, Subject::Malformed { .. }), "{event}");
        }
        assert_eq!(upper["id"], request(&line(&upper, "IP4")).id, "echoed verbatim");
    }

    #[test]
    fn lines_without_an_event_are_answered_too() {
        for line in [
            &b""[..],
            b"x",
            b"{}",
            b"[]",
            b"null",
            b"{\"event\":{\"kind\":30617}}",
            b"\xff\xfe",
            format!("{{\"event\":{{\"id\":\"{}\"}}}}", "a".repeat(65)).as_bytes(),
        ] {
            let request = request(line);
            assert_eq!(request.id, "");
        }
    }

    #[test]
    fn no_answer_is_longer_than_strfry_reads() {
        let id = "a".repeat(64);

        let line = answer_line(&id, &Answer::Refuse("\u{1}é".repeat(10_000)));

        assert!(line.len() <= ANSWER_BYTES_MAX, "{}", line.len());
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn no_answer_has_a_null_message() {
        assert_eq!(
            answer_line("x", &Answer::Accept),
            "{\"action\":\"accept\",\"id\":\"x\"}\n"
        );
    }
}
