//! Checks an event (NIP-01, NIP-40, NIP-70) before the policy is asked about it (strfry `events.cpp`,
//! `RelayIngester.cpp`). Pure.
//!
//! Stricter than strfry, which takes kinds over 65535, hex in upper case and tag values that are not strings:
//! [`Event`] cannot hold such events.

use std::borrow::Cow;

use nostr::event::Event;
use nostr::event::Kind;
use nostr::types::Timestamp;
use serde_json::Value;
use shared::nip01::TimeDefect;
use shared::nip01::check_date;
use shared::nip01::is_lower_hex;
use shared::nip01::tag_values;

use crate::limits::RelayLimits;

/// Why an event is refused before the policy is asked: the text for the client, with its NIP-01 prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidEvent(Cow<'static, str>);

/// Returns the event in `value`, valid at `now`.
pub(super) fn validate(value: Value, now: Timestamp, limits: &RelayLimits) -> Result<Event, InvalidEvent> {
    let event = parse(value, limits)?;
    check_tags(&event, limits)?;
    check_deletion(&event)?;
    check_time(&event, now)?;
    if !event.verify_id() {
        return refuse("invalid: bad event id");
    }
    if !event.verify_signature() {
        return refuse("invalid: bad signature");
    }
    if event.is_protected() {
        return refuse("blocked: event marked as protected");
    }
    let repost = matches!(event.kind.as_u16(), 6 | 16);
    if repost && event.content.contains(r#"["-"]"#) {
        return refuse("blocked: reposts can't embed protected events");
    }
    Ok(event)
}

fn refuse<T>(reason: impl Into<Cow<'static, str>>) -> Result<T, InvalidEvent> {
    Err(InvalidEvent(reason.into()))
}

/// Returns the id to name in the answer, or `?` as strfry does.
pub(super) fn id_for_answer(value: &Value) -> String {
    value.get("id").and_then(Value::as_str).unwrap_or("?").to_owned()
}

fn parse(value: Value, limits: &RelayLimits) -> Result<Event, InvalidEvent> {
    let Some(fields) = value.as_object() else {
        return refuse("invalid: event is not an object");
    };
    for (field, length) in [("id", 64), ("pubkey", 64), ("sig", 128)] {
        let text = fields.get(field).and_then(Value::as_str);
        if !text.is_some_and(|text| is_lower_hex(text, length)) {
            return refuse(format!("invalid: {field} is not {length} lower-case hex digits"));
        }
    }
    let Some(tags) = fields.get("tags").and_then(Value::as_array) else {
        return refuse("invalid: tags is not an array");
    };
    let (count, max) = (tags.len(), limits.tags_max);
    if count > max {
        return refuse(format!("invalid: too many tags: {count}, at most {max}"));
    }
    let elements = tags.iter().filter_map(Value::as_array).map(Vec::len);
    let (count, max) = (elements.sum::<usize>(), limits.tag_elements_max);
    if count > max {
        return refuse(format!("invalid: too many elements of tags: {count}, at most {max}"));
    }
    let event: Event = match serde_json::from_value(value) {
        Ok(event) => event,
        Err(error) => return refuse(format!("invalid: {error}")),
    };
    let bytes = serde_json::to_string(&event).map_or(usize::MAX, |json| json.len());
    let max = limits.event_bytes_max;
    if bytes > max {
        return refuse(format!("invalid: event too large: {bytes} bytes, at most {max}"));
    }
    Ok(event)
}

fn check_tags(event: &Event, limits: &RelayLimits) -> Result<(), InvalidEvent> {
    check_identifiers(event)?;
    for tag in event.tags.iter() {
        let [name, rest @ ..] = tag.as_slice() else {
            return refuse("invalid: too few fields in tag");
        };
        let value = rest.first().map_or("", String::as_str);
        let (bytes, max) = (value.len(), limits.tag_value_bytes_max);
        if name.len() == 1 && bytes > max {
            return refuse(format!("invalid: tag val too large: {bytes} bytes, at most {max}"));
        }
        match name.as_str() {
            "e" | "p" if !is_lower_hex(value, 64) => {
                return refuse(format!("invalid: {name} tag is not 64 lower-case hex digits"));
            }
            "a" if event.kind == Kind::EventDeletion => match value.split(':').nth(1) {
                Some(author) if author == event.pubkey.to_hex() => {}
                Some(_) => return refuse("invalid: can't delete other user's events"),
                None => return refuse("invalid: a tag is not a coordinate"),
            },
            "expiration" if value.parse::<u64>().is_err() => return refuse("invalid: invalid expiration"),
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a deletion with too many targets: each coordinate is a look-up, in the only writer.
fn check_deletion(event: &Event) -> Result<(), InvalidEvent> {
    if event.kind != Kind::EventDeletion {
        return Ok(());
    }
    for (name, max) in [("e", DELETED_IDS_MAX), ("a", DELETED_COORDINATES_MAX)] {
        if tag_values(event, name).count() > max {
            return refuse(format!(
                "invalid: a deletion may have at most {max} {name} tags on this relay: split it"
            ));
        }
    }
    Ok(())
}

/// Refuses what `nostr-lmdb` would take for another event's version: its index has the first bytes of every `d` tag,
/// filled up with zeros, and does not compare the event itself. It looks through all with the same key, so that other
/// kinds have few such tags too.
fn check_identifiers(event: &Event) -> Result<(), InvalidEvent> {
    let count = tag_values(event, "d").count();
    if event.kind.is_addressable() && count != 1 {
        return refuse("invalid: an addressable event needs exactly one d tag on this relay");
    }
    if count > OTHER_IDENTIFIERS_MAX {
        return refuse(format!(
            "invalid: more than {OTHER_IDENTIFIERS_MAX} d tags in an event that they do not address"
        ));
    }
    let has_key_of_its_own = |value: &str| value.len() <= IDENTIFIER_BYTES_MAX && !value.contains('\0');
    if !tag_values(event, "d").all(has_key_of_its_own) {
        return refuse(format!(
            "invalid: the d tag is over {IDENTIFIER_BYTES_MAX} bytes, or has a zero byte"
        ));
    }
    Ok(())
}

fn check_time(event: &Event, now: Timestamp) -> Result<(), InvalidEvent> {
    let now_secs = now.as_secs();
    if event.kind.is_ephemeral() && event.created_at.as_secs() < now_secs.saturating_sub(EPHEMERAL_AGE_SECS_MAX) {
        return refuse("invalid: ephemeral event expired");
    }
    match check_date(event, now_secs) {
        Err(defect) => refuse(format!("invalid: {defect}")),
        Ok(()) if is_expired(event, now) => refuse(format!("invalid: {}", TimeDefect::Expired)),
        Ok(()) => Ok(()),
    }
}

/// Whether the event has expired (NIP-40), as strfry interprets it: in the second of its expiration it has.
pub(super) fn is_expired(event: &Event, now: Timestamp) -> bool {
    event.tags.expiration().is_some_and(|expiration| expiration <= now)
}

/// Ephemeral events made longer ago are refused (strfry `events.rejectEphemeralEventsOlderThanSeconds`).
const EPHEMERAL_AGE_SECS_MAX: u64 = 60;
const DELETED_IDS_MAX: usize = 1_000;
const DELETED_COORDINATES_MAX: usize = 100;
/// Longest identifier that the index of `nostr-lmdb` holds (`store/lmdb/index.rs`).
const IDENTIFIER_BYTES_MAX: usize = 182;
/// Identifiers of an event that is not addressable, and has none by right (NIP-01).
const OTHER_IDENTIFIERS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use serde_json::json;
    use shared::nip01::AGE_SECS_MAX;

    use super::*;

    const NOW: u64 = 2_000_000_000;

    fn validated(kind: u16, content: &str, created_at: u64, tags: &[&[&str]]) -> Result<Event, InvalidEvent> {
        let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap());
        let event = EventBuilder::new(Kind::from(kind), content)
            .tags(tags)
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(&Keys::generate())
            .unwrap();
        let limits = RelayLimits {
            tags_max: 3,
            tag_elements_max: 8,
            event_bytes_max: 2500,
            ..RelayLimits::default()
        };
        validate(serde_json::to_value(event).unwrap(), Timestamp::from_secs(NOW), &limits)
    }

    fn assert_text(validated: Result<Event, InvalidEvent>, expected: &str) {
        let text = validated.map_or_else(|invalid| invalid.to_string(), |_| String::new());

        let matches = text.starts_with(expected) && text.is_empty() == expected.is_empty();
        assert!(matches, "{text}, not {expected}");
    }

    #[test]
    fn time_decides_as_strfry_does() {
        for (kind, created_at, expected) in [
            (1, NOW, ""),
            (1, NOW - AGE_SECS_MAX, ""),
            (1, NOW - AGE_SECS_MAX - 1, "invalid: created_at too early"),
            (1, NOW + 900, ""),
            (1, NOW + 901, "invalid: created_at too late"),
            (20000, NOW - 60, ""),
            (20000, NOW - 61, "invalid: ephemeral event expired"),
        ] {
            assert_text(validated(kind, "", created_at, &[]), expected);
        }
        for (expiration, expected) in [
            (NOW + 1, ""),
            (NOW, "invalid: event expired"),
            (NOW - 1, "invalid: event expired"),
        ] {
            let tags: [&[&str]; 1] = [&["expiration", &expiration.to_string()]];
            assert_text(validated(1, "", NOW, &tags), expected);
        }
    }

    #[test]
    fn tags_and_content_decide_as_strfry_does() {
        let long = "x".repeat(1025);
        let other = format!("30617:{}:x", "0".repeat(64));
        let too_many: [&[&str]; 4] = [&["t", "x"]; 4];
        let longest = "x".repeat(182);
        let rows: [(u16, &[&[&str]], &str); 15] = [
            (1, &[&["clone", &long]], ""),
            (1, &[&["t", &long]], "invalid: tag val too large: 1025 bytes"),
            (1, &too_many, "invalid: too many tags: 4, at most 3"),
            (1, &[&["t", "1", "2", "3"], &["t", "1", "2", "3"]], ""),
            (
                1,
                &[&["t", "1", "2", "3"], &["t", "1", "2", "3", "4"]],
                "invalid: too many elements of tags: 9, at most 8",
            ),
            (1, &[&["expiration", "x"]], "invalid: invalid expiration"),
            (1, &[&["e", "x"]], "invalid: e tag is not 64 lower-case hex"),
            (5, &[&["a", &other]], "invalid: can't delete other user's events"),
            (30617, &[&["a", &other], &["d", "x"]], ""),
            (30617, &[&["d", &longest]], ""),
            (30617, &[&["d", &long[..183]]], "invalid: the d tag is over"),
            (30617, &[&["d", "x\0"]], "invalid: the d tag is over"),
            (30617, &[], "invalid: an addressable event needs exactly one d tag"),
            (
                30617,
                &[&["d", "x"], &["d", "y"]],
                "invalid: an addressable event needs exactly one d tag",
            ),
            (1, &[&["-"]], "blocked: event marked as protected"),
        ];
        for (kind, tags, expected) in rows {
            assert_text(validated(kind, "", NOW, tags), expected);
        }
        let longer = "x".repeat(2500);
        assert_text(validated(1, &longer, NOW, &[]), "invalid: event too large");
        let repost = validated(6, r#"[["-"]]"#, NOW, &[]);
        assert_text(repost, "blocked: reposts can't embed protected events");
    }

    #[test]
    fn identifiers_have_keys_of_their_own() {
        let long = "x".repeat(IDENTIFIER_BYTES_MAX + 1);
        let few = ["a", "b", "c", "d"];
        let many = ["a", "b", "c", "d", "e"];
        for (kind, identifiers, expected) in [
            (1, &few[..], ""),
            (1, &many, "invalid: more than 4 d tags"),
            (5, &many, "invalid: more than 4 d tags"),
            (1, &[&long], "invalid: the d tag is over"),
            (5, &["x\0"], "invalid: the d tag is over"),
            (30023, &few, "invalid: an addressable event needs exactly one d tag"),
            (30023, &[&long[1..]], ""),
        ] {
            let tags = identifiers.iter().map(|identifier| Tag::identifier(*identifier));
            let event = EventBuilder::new(Kind::from_u16(kind), "").tags(tags);
            let event = event.finalize(&Keys::generate()).unwrap();

            assert_text(check_identifiers(&event).map(|()| event), expected);
        }
    }

    /// A deletion of 5,000 coordinates was as many look-ups in the only writer.
    #[test]
    fn deletion_of_many_is_refused() {
        let keys = Keys::generate();
        let id = "0".repeat(64);
        let coordinate = format!("30617:{}:x", keys.public_key());
        for (kind, tag, count, expected) in [
            (5, ["a", &coordinate], 100, ""),
            (
                5,
                ["a", &coordinate],
                101,
                "invalid: a deletion may have at most 100 a tags on this relay",
            ),
            (5, ["e", &id], 1_000, ""),
            (
                5,
                ["e", &id],
                1_001,
                "invalid: a deletion may have at most 1000 e tags on this relay",
            ),
            (1, ["e", &id], 1_001, ""),
        ] {
            let event = EventBuilder::new(Kind::from(kind), "")
                .tags((0..count).map(|_| Tag::parse(tag).unwrap()))
                .custom_created_at(Timestamp::from_secs(NOW))
                .finalize(&keys)
                .unwrap();
            let value = serde_json::to_value(event).unwrap();

            assert_text(
                validate(value, Timestamp::from_secs(NOW), &RelayLimits::default()),
                expected,
            );
        }
    }

    #[test]
    fn event_that_is_not_what_was_signed_is_refused() {
        let valid = serde_json::to_value(validated(1, "x", NOW, &[]).unwrap()).unwrap();
        let rows = [
            ("content", json!("y"), "invalid: bad event id"),
            ("sig", json!("0".repeat(128)), "invalid: bad signature"),
            ("kind", json!(65536), "invalid: "),
            ("kind", json!(-1), "invalid: "),
            ("kind", json!("1"), "invalid: "),
            ("id", json!("A".repeat(64)), "invalid: id is not 64"),
            ("pubkey", json!("npub1"), "invalid: pubkey is not 64"),
            ("created_at", json!(1.5), "invalid: "),
            ("tags", json!({}), "invalid: tags is not an array"),
            ("tags", json!([[]]), "invalid: "),
            ("tags", json!([["t", 5]]), "invalid: "),
            ("tags", json!([["t", "x", null]]), "invalid: "),
        ];

        for (field, value, expected) in rows {
            let mut event = valid.clone();
            event[field] = value.clone();

            let invalid = validate(event, Timestamp::from_secs(NOW), &RelayLimits::default()).unwrap_err();

            assert!(invalid.to_string().starts_with(expected), "{field} {value}: {invalid}");
        }
        for value in [json!(null), json!([]), json!({}), json!("x")] {
            assert!(validate(value, Timestamp::from_secs(NOW), &RelayLimits::default()).is_err());
        }
    }
}
