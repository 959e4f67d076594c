//! What an event must be before the policy is asked about it (strfry `events.cpp`, `RelayIngester.cpp`). Pure.
//!
//! Stricter than strfry, which takes kinds over 65535, hex in upper case and tag values that are not strings: such
//! events have no [`Event`].

use nostr::event::Event;
use nostr::types::Timestamp;
use serde_json::Value;
use shared::nip01::is_lower_hex;
use shared::nip01::tag_values;

use crate::RelayLimits;
use crate::settings::EPHEMERAL_AGE_SECS_MAX;

/// Returns the event in `value`, valid at `now`.
///
/// # Errors
/// The text for the client, with its NIP-01 prefix.
pub(super) fn admit(value: Value, now: Timestamp, limits: &RelayLimits) -> Result<Event, String> {
    let event = parse(value, limits).map_err(invalid)?;
    check_tags(&event, limits).map_err(invalid)?;
    check_time(&event, now, limits).map_err(invalid)?;
    check_signature(&event).map_err(invalid)?;
    if event.is_protected() {
        return Err("blocked: event marked as protected".to_owned());
    }
    let repost = matches!(event.kind.as_u16(), 6 | 16);
    if repost && event.content.contains(r#"["-"]"#) {
        return Err("blocked: reposts can't embed protected events".to_owned());
    }
    Ok(event)
}

/// Returns the id to name in the answer, or `?` as strfry does.
pub(super) fn id_for_answer(value: &Value) -> String {
    value.get("id").and_then(Value::as_str).unwrap_or("?").to_owned()
}

fn invalid(reason: String) -> String {
    format!("invalid: {reason}")
}

fn parse(value: Value, limits: &RelayLimits) -> Result<Event, String> {
    let fields = value.as_object().ok_or("event is not an object")?;
    for (name, length) in [("id", 64), ("pubkey", 64), ("sig", 128)] {
        if !fields
            .get(name)
            .and_then(Value::as_str)
            .is_some_and(|text| is_lower_hex(text, length))
        {
            return Err(format!("{name} is not {length} lower-case hex digits"));
        }
    }
    let tags = fields
        .get("tags")
        .and_then(Value::as_array)
        .ok_or("tags is not an array")?;
    if tags.len() > limits.tags_max {
        return Err(format!("too many tags: {}, at most {}", tags.len(), limits.tags_max));
    }
    let event: Event = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let bytes = serde_json::to_string(&event).map_or(usize::MAX, |json| json.len());
    if bytes > limits.event_bytes_max {
        return Err(format!(
            "event too large: {bytes} bytes, at most {}",
            limits.event_bytes_max
        ));
    }
    Ok(event)
}

fn check_tags(event: &Event, limits: &RelayLimits) -> Result<(), String> {
    check_identifier(event)?;
    for tag in event.tags.iter() {
        let [name, rest @ ..] = tag.as_slice() else {
            return Err("too few fields in tag".to_owned());
        };
        let value = rest.first().map_or("", String::as_str);
        if name.len() == 1 && value.len() > limits.tag_value_bytes_max {
            return Err(format!(
                "tag val too large: {} bytes, at most {}",
                value.len(),
                limits.tag_value_bytes_max
            ));
        }
        match name.as_str() {
            "e" | "p" if !is_lower_hex(value, 64) => {
                return Err(format!("{name} tag is not 64 lower-case hex digits"));
            }
            "a" if event.kind.as_u16() == shared::nip34::DELETION => {
                let author = value.split(':').nth(1).ok_or("a tag is not a coordinate")?;
                if author != event.pubkey.to_hex() {
                    return Err("can't delete other user's events".to_owned());
                }
            }
            "expiration" if value.parse::<u64>().is_err() => {
                return Err("invalid expiration".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses what `nostr-lmdb` would take for another event's version: its index has the first bytes of every `d` tag,
/// filled up with zeros, and does not look at the event again.
fn check_identifier(event: &Event) -> Result<(), String> {
    if !event.kind.is_addressable() {
        return Ok(());
    }
    let mut identifiers = tag_values(event, "d");
    let (Some(identifier), None) = (identifiers.next(), identifiers.next()) else {
        return Err("an addressable event needs one d tag here".to_owned());
    };
    if identifier.len() > IDENTIFIER_BYTES_MAX || identifier.contains('\0') {
        return Err(format!(
            "the d tag is over {IDENTIFIER_BYTES_MAX} bytes, or has a zero byte"
        ));
    }
    Ok(())
}

fn check_time(event: &Event, now: Timestamp, limits: &RelayLimits) -> Result<(), String> {
    let now_secs = now.as_secs();
    let created_at = event.created_at.as_secs();
    let (age_secs_max, too_old) = if event.kind.is_ephemeral() {
        (EPHEMERAL_AGE_SECS_MAX, "ephemeral event expired")
    } else {
        (limits.age_secs_max, "created_at too early")
    };
    if created_at < now_secs.saturating_sub(age_secs_max) {
        return Err(too_old.to_owned());
    }
    if created_at > now_secs.saturating_add(limits.future_secs_max) {
        return Err("created_at too late".to_owned());
    }
    if is_expired(event, now) {
        return Err("event expired".to_owned());
    }
    Ok(())
}

fn check_signature(event: &Event) -> Result<(), String> {
    if !event.verify_id() {
        return Err("bad event id".to_owned());
    }
    if !event.verify_signature() {
        return Err("bad signature".to_owned());
    }
    Ok(())
}

/// Tells whether the event has expired (NIP-40), in strfry's reading: at the second itself it has.
pub(super) fn is_expired(event: &Event, now: Timestamp) -> bool {
    event.tags.expiration().is_some_and(|expiration| expiration <= now)
}

/// Longest identifier that the index of `nostr-lmdb` holds (`store/lmdb/index.rs`).
const IDENTIFIER_BYTES_MAX: usize = 182;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use serde_json::json;

    use super::*;

    const NOW: u64 = 2_000_000_000;

    fn judged(kind: u16, content: &str, created_at: u64, tags: &[&[&str]]) -> Result<Event, String> {
        let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap());
        let event = EventBuilder::new(Kind::from(kind), content)
            .tags(tags)
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(&Keys::generate())
            .unwrap();
        let limits = RelayLimits {
            tags_max: 3,
            age_secs_max: 1000,
            event_bytes_max: 2500,
            ..RelayLimits::default()
        };
        admit(serde_json::to_value(event).unwrap(), Timestamp::from_secs(NOW), &limits)
    }

    fn assert_verdict(verdict: Result<Event, String>, expected: &str) {
        let verdict = verdict.map_or_else(|text| text, |_| String::new());

        let matches = verdict.starts_with(expected) && verdict.is_empty() == expected.is_empty();
        assert!(matches, "{verdict}, not {expected}");
    }

    #[test]
    fn time_decides_as_strfry_does() {
        for (kind, created_at, expected) in [
            (1, NOW, ""),
            (1, NOW - 1000, ""),
            (1, NOW - 1001, "invalid: created_at too early"),
            (1, NOW + 900, ""),
            (1, NOW + 901, "invalid: created_at too late"),
            (20000, NOW - 60, ""),
            (20000, NOW - 61, "invalid: ephemeral event expired"),
        ] {
            assert_verdict(judged(kind, "", created_at, &[]), expected);
        }
        for (expiration, expected) in [
            (NOW + 1, ""),
            (NOW, "invalid: event expired"),
            (NOW - 1, "invalid: event expired"),
        ] {
            let tags: [&[&str]; 1] = [&["expiration", &expiration.to_string()]];
            assert_verdict(judged(1, "", NOW, &tags), expected);
        }
    }

    #[test]
    fn tags_and_content_decide_as_strfry_does() {
        let long = "x".repeat(1025);
        let other = format!("30617:{}:x", "0".repeat(64));
        let too_many: [&[&str]; 4] = [&["t", "x"]; 4];
        let longest = "x".repeat(182);
        let rows: [(u16, &[&[&str]], &str); 13] = [
            (1, &[&["clone", &long]], ""),
            (1, &[&["t", &long]], "invalid: tag val too large: 1025 bytes"),
            (1, &too_many, "invalid: too many tags: 4, at most 3"),
            (1, &[&["expiration", "x"]], "invalid: invalid expiration"),
            (1, &[&["e", "x"]], "invalid: e tag is not 64 lower-case hex"),
            (5, &[&["a", &other]], "invalid: can't delete other user's events"),
            (30617, &[&["a", &other], &["d", "x"]], ""),
            (30617, &[&["d", &longest]], ""),
            (30617, &[&["d", &long[..183]]], "invalid: the d tag is over"),
            (30617, &[&["d", "x\0"]], "invalid: the d tag is over"),
            (30617, &[], "invalid: an addressable event needs one d tag"),
            (
                30617,
                &[&["d", "x"], &["d", "y"]],
                "invalid: an addressable event needs one d tag",
            ),
            (1, &[&["-"]], "blocked: event marked as protected"),
        ];
        for (kind, tags, expected) in rows {
            assert_verdict(judged(kind, "", NOW, tags), expected);
        }
        let longer = "x".repeat(2500);
        assert_verdict(judged(1, &longer, NOW, &[]), "invalid: event too large");
        let repost = judged(6, r#"[["-"]]"#, NOW, &[]);
        assert_verdict(repost, "blocked: reposts can't embed protected events");
    }

    #[test]
    fn event_that_is_not_what_was_signed_is_refused() {
        let valid = serde_json::to_value(judged(1, "x", NOW, &[]).unwrap()).unwrap();
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

            let verdict = admit(event, Timestamp::from_secs(NOW), &RelayLimits::default()).unwrap_err();

            assert!(verdict.starts_with(expected), "{field} {value}: {verdict}");
        }
        for value in [json!(null), json!([]), json!({}), json!("x")] {
            assert!(admit(value, Timestamp::from_secs(NOW), &RelayLimits::default()).is_err());
        }
    }
}
