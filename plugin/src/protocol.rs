//! strfry's plugin protocol: one JSON object a line, each way (strfry `docs/plugins.md` and `PluginEventSifter.h`;
//! docs/strfry-contract.md). Pure.

use std::borrow::Cow;

use nostr::event::Event;
use shared::nip34;
use shared::rules::OtherKinds;
use shared::rules::may_concern;
use shared::write_policy::Answer;

use crate::event::EventFault;
use crate::event::ReadEvent;
use crate::event::read_event;
use crate::json::members;
use crate::json::number;
use crate::json::text;

/// A line of strfry, scanned as far as every answer needs it. Nothing is copied: most lines have events of other kinds,
/// and strfry's writer waits.
pub struct ScannedLine<'l> {
    /// As [`Request::id`].
    pub id: Cow<'l, str>,
    kind: Option<u16>,
    event: &'l [u8],
    source_type: Cow<'l, str>,
    source_info: Cow<'l, str>,
}

impl<'l> ScannedLine<'l> {
    /// Scans a line. Whatever is in it, there is something to answer, and by the id that strfry waits for.
    pub fn of(line: &'l [u8]) -> Self {
        let (mut event, mut source_type, mut source_info) = (&b""[..], Cow::default(), Cow::default());
        for (name, value) in members(line) {
            match &*name {
                "event" => event = value,
                "sourceType" => source_type = text(value).unwrap_or_default(),
                "sourceInfo" => source_info = text(value).unwrap_or_default(),
                _ => {}
            }
        }
        let (mut id, mut kind) = (Cow::default(), None);
        for (name, value) in members(event) {
            match &*name {
                "id" => id = text(value).unwrap_or_default(),
                "kind" => kind = number(value),
                _ => {}
            }
        }
        if quoted_len_max(&id) > ID_BYTES_MAX && quoted_len(&id) > ID_BYTES_MAX {
            id = Cow::default();
        }
        Self {
            id,
            kind: kind.and_then(|kind| u16::try_from(kind).ok()),
            event,
            source_type,
            source_info,
        }
    }

    /// Whether any rule here may speak of the event.
    pub fn may_concern(&self, other_kinds: OtherKinds) -> bool {
        may_concern(self.kind, other_kinds)
    }

    /// Reads the rest.
    pub fn read(self, other_kinds: OtherKinds) -> Request {
        Request {
            verified: matches!(&*self.source_type, "IP4" | "IP6"),
            source: format!("{} {}", self.source_type, self.source_info).trim().to_owned(),
            subject: match self.may_concern(other_kinds) {
                true => subject(self.event),
                false => Subject::NotOurs,
            },
            id: self.id.into_owned(),
        }
    }
}

/// A line of strfry, read as far as we need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `event.id` as it is in the line, to be echoed verbatim; empty if there is none, or one that no event can have.
    pub id: String,
    /// Where the event came from: `IP4 203.0.113.7`, `Stream wss://…`.
    pub source: String,
    /// Whether strfry has checked id and signature: only for events of its own clients.
    pub verified: bool,
    /// Its content.
    pub subject: Subject,
}

/// What an event is to us.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A kind that no rule here speaks of, on a general relay.
    NotOurs,
    /// One of ours.
    Ours(Box<Event>),
    /// One of ours that is not held, in a shape that strfry stores and [`Event`] cannot hold: of no tag is there more
    /// than the strings that it begins with. Its signature cannot be checked.
    Inexact {
        /// The readable part.
        event: Box<Event>,
        /// The rest.
        reason: String,
    },
    /// One of our kinds, in a shape that no event has.
    Malformed {
        /// The fault.
        reason: String,
    },
}

fn subject(event: &[u8]) -> Subject {
    let malformed = |fault: EventFault| Subject::Malformed {
        reason: fault.to_string(),
    };
    match read_event(event) {
        Ok(ReadEvent { event, fault: None }) => Subject::Ours(Box::new(event)),
        Ok(ReadEvent {
            event,
            fault: Some(fault),
        }) => match nip34::needs_git_data(event.kind.as_u16()) {
            true => malformed(fault),
            // strfry keeps its own copy of it.
            false => Subject::Inexact {
                event: Box::new(event),
                reason: fault.to_string(),
            },
        },
        Err(fault) => malformed(fault),
    }
}

/// Writes the line that answers a request, with its line feed, over the content of `line`.
///
/// It has at most [`ANSWER_BYTES_MAX`] bytes, since strfry kills a plugin that writes a longer one, and no `msg` of
/// `null`, for the same reason.
pub fn write_answer(line: &mut Vec<u8>, id: &str, answer: &Answer) {
    let (start, message) = match answer {
        Answer::Accept => (r#"{"action":"accept","id":"#, None),
        // OK *true* with the message, and nothing stored: what GRASP-01 wants for the purgatory.
        Answer::Hold(message) => (r#"{"action":"shadowReject","id":"#, Some(&**message)),
        Answer::Refuse(message) => (r#"{"action":"reject","id":"#, Some(message.as_str())),
    };
    line.clear();
    line.extend_from_slice(start.as_bytes());
    quote(line, id);
    if let Some(message) = message {
        line.extend_from_slice(br#","msg":"#);
        quote(line, shortened(message, id));
    }
    line.extend_from_slice(b"}\n");
}

fn quote(line: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(line, text).expect("a text is JSON, and memory takes it");
}

fn shortened<'m>(message: &'m str, id: &str) -> &'m str {
    let room = ANSWER_BYTES_MAX.saturating_sub(FRAME_BYTES + quoted_len(id)) / QUOTED_BYTE_MAX;
    let mut end = message.len().min(room).min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

fn quoted_len(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |quoted| quoted.len())
}

fn quoted_len_max(text: &str) -> usize {
    QUOTED_BYTE_MAX * text.len() + 2
}

/// JSON may write one byte as six (`\u0000`).
const QUOTED_BYTE_MAX: usize = 6;

/// An id is 64 hex digits, and 66 bytes with the `0x` that strfry takes too. One of a stream, which strfry has not
/// checked, may be any text; any longer, as JSON writes it, and an answer that echoes it could be longer than strfry
/// reads.
const ID_BYTES_MAX: usize = 4_096;

/// Longest message for a client.
const MESSAGE_BYTES_MAX: usize = 1_023;

/// The length of an answer without its id and its message.
const FRAME_BYTES: usize = 64;

/// Longest line that strfry reads (`setMaxRecordSize` in strfry's `PluginEventSifter.h`), its end included.
pub const ANSWER_BYTES_MAX: usize = 8191;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    fn line(event: &Value, source_type: &str) -> Vec<u8> {
        json!({"event": event, "receivedAt": 1, "sourceInfo": "127.0.0.1", "sourceType": source_type, "type": "new"})
            .to_string()
            .into_bytes()
    }

    fn request(line: &[u8]) -> Request {
        ScannedLine::of(line).read(OtherKinds::Accept)
    }

    fn answer_line(id: &str, answer: &Answer) -> String {
        let mut line = b"another answer".to_vec();
        write_answer(&mut line, id, answer);
        String::from_utf8(line).unwrap()
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
            format!("{{\"event\":{{\"id\":\"{}\"}}}}", "a".repeat(4095)).as_bytes(),
        ] {
            let request = request(line);
            assert_eq!(request.id, "");
        }
    }

    /// serde_json reads no deeper than 128, and recursion ends with the stack: strfry stores such an event, and killed
    /// a plugin that answered it with an empty id.
    #[test]
    fn the_id_is_found_whatever_else_the_line_holds() {
        for (tag, kinds) in [
            (
                format!("[\"t\",\"x\",{}{}]", "[".repeat(500_000), "]".repeat(500_000)),
                [1, 5, 30617],
            ),
            (
                format!("[\"t\",\"x\",{}1{}]", "{\"a\":".repeat(200), "}".repeat(200)),
                [1, 62, 30618],
            ),
            ("[\"t\",\"\\\"]}\",{\"id\":1}]".to_owned(), [1, 1111, 1618]),
        ] {
            for kind in kinds {
                let mut event = event(kind);
                let id = event["id"].as_str().unwrap().to_owned();
                event["tags"] = json!("TAGS");
                let line = String::from_utf8(line(&event, "IP4"))
                    .unwrap()
                    .replace("\"TAGS\"", &format!("[{tag}]"));
                let request = request(line.as_bytes());

                assert_eq!(request.id, id);
                let as_wanted = match kind {
                    1 => request.subject == Subject::NotOurs,
                    5 | 62 | 1111 => matches!(request.subject, Subject::Inexact { .. }),
                    _ => matches!(request.subject, Subject::Malformed { .. }),
                };
                assert!(as_wanted, "{kind}");
            }
        }
        let mut prefixed = event(30617);
        prefixed["id"] = json!(format!("0x{}", prefixed["id"].as_str().unwrap()));
        assert_eq!(prefixed["id"], request(&line(&prefixed, "IP4")).id);
    }

    /// Beside a general relay users could not delete their notes.
    #[test]
    fn what_strfry_stores_of_kinds_that_are_not_held_is_read_as_far_as_it_goes() {
        let mut deletion = event(5);
        let id = "ab".repeat(32);
        deletion["tags"] = json!([["e", id, null, "x"], ["k", 5], ["e", id.to_uppercase(), {"a": 1}]]);
        deletion["pubkey"] = json!(deletion["pubkey"].as_str().unwrap().to_uppercase());

        let Subject::Inexact { event, .. } = request(&line(&deletion, "IP4")).subject else {
            panic!("refused")
        };

        let tags: Vec<&[String]> = event.tags.iter().map(Tag::as_slice).collect();
        assert_eq!(
            tags,
            [
                &["e".to_owned(), id.clone()][..],
                &["k".to_owned()],
                &["e".to_owned(), id.to_uppercase()]
            ]
        );
        assert_eq!(
            event.pubkey.to_hex(),
            deletion["pubkey"].as_str().unwrap().to_lowercase()
        );
    }

    #[test]
    fn tags_and_their_elements_have_limits_and_honest_states_are_within() {
        let state = |refs: usize, elements: usize| {
            let mut state = event(30618);
            let tag = vec!["0".repeat(40); elements];
            state["tags"] = json!(vec![tag; refs]);
            match request(&line(&state, "Stream")).subject {
                Subject::Malformed { reason } => reason,
                Subject::Ours(_) => String::new(),
                other @ (Subject::NotOurs | Subject::Inexact { .. }) => panic!("{other:?}"),
            }
        };

        assert_eq!(state(5_000, 4), "");
        assert_eq!(state(1, 20_000), "");
        assert_eq!(state(5_001, 1), "too many tags: at most 5000");
        assert_eq!(state(5_000, 5), "too many elements of tags: at most 20000");
        assert_eq!(state(1, 20_001), "too many elements of tags: at most 20000");
    }

    #[test]
    fn no_answer_is_longer_than_strfry_reads() {
        for id in ["a".repeat(64), "\u{1}".repeat(682), String::new()] {
            assert!(quoted_len(&id) <= ID_BYTES_MAX);
            for message in ["\u{1}é".repeat(10_000), "\u{1}".repeat(10_000), "x".to_owned()] {
                let line = answer_line(&id, &Answer::Refuse(message));

                assert!(line.len() <= ANSWER_BYTES_MAX, "{}", line.len());
                assert_eq!(line.matches('\n').count(), 1);
            }
        }
    }

    #[test]
    fn no_answer_has_a_null_message() {
        assert_eq!(
            answer_line("x", &Answer::Accept),
            "{\"action\":\"accept\",\"id\":\"x\"}\n"
        );
    }
}
