//! How far from now an event may be dated, and when its author wants it to end (NIP-40).

use nostr::event::Event;

use super::tags::first_value;
use super::tags::tags;

/// Why an event's times exclude it. The texts are strfry's (`events.cpp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeDefect {
    /// It is dated further ahead than [`AHEAD_SECS_MAX`].
    #[error("created_at too late")]
    TooFarAhead,
    /// It is older than [`AGE_SECS_MAX`].
    #[error("created_at too early")]
    TooOld,
    /// Its `expiration` tag is malformed.
    #[error("invalid expiration")]
    MalformedExpiration,
    /// The time of its `expiration` tag has come.
    #[error("event expired")]
    Expired,
}

/// Checks when an event was made, as strfry checks events of its clients before it asks about them.
///
/// # Errors
/// See [`TimeDefect`].
pub fn check_date(event: &Event, now: u64) -> Result<(), TimeDefect> {
    let created_at = event.created_at.as_secs();
    if created_at > now.saturating_add(AHEAD_SECS_MAX) {
        return Err(TimeDefect::TooFarAhead);
    }
    if created_at < now.saturating_sub(AGE_SECS_MAX) {
        return Err(TimeDefect::TooOld);
    }
    Ok(())
}

/// Returns when an event ends, unix seconds; `None`: never.
///
/// # Errors
/// [`TimeDefect::MalformedExpiration`]
pub fn expiration(event: &Event) -> Result<Option<u64>, TimeDefect> {
    if tags(event, EXPIRATION).next().is_none() {
        return Ok(None);
    }
    match first_value(event, EXPIRATION).parse() {
        Ok(expiration) if expiration >= EXPIRATION_MIN => Ok(Some(expiration)),
        Ok(_) | Err(_) => Err(TimeDefect::MalformedExpiration),
    }
}

/// Whether the time of an event's `expiration` tag has come; at the second itself it has, as for strfry.
pub fn is_expired(event: &Event, now: u64) -> bool {
    matches!(expiration(event), Ok(Some(expiration)) if expiration <= now)
}

/// Events dated further in the future are refused (`events.rejectEventsNewerThanSeconds`): the default of strfry, which
/// would refuse a held event later, while it blocks the author's real events.
pub const AHEAD_SECS_MAX: u64 = 900;
/// Events made longer ago are refused (`events.rejectEventsOlderThanSeconds` of `strfry-config/strfry.conf`): older
/// than git, and than any clock that was ever right.
pub const AGE_SECS_MAX: u64 = 630_720_000;
const EXPIRATION: &str = "expiration";
/// strfry takes smaller numbers for mistakes.
const EXPIRATION_MIN: u64 = 100;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use nostr::types::Timestamp;

    use super::*;

    const NOW: u64 = 2_000_000_000;

    fn event(created_at: u64, tags: &[&[&str]]) -> Event {
        EventBuilder::new(Kind::TextNote, "")
            .tags(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()))
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(&Keys::generate())
            .unwrap()
    }

    #[test]
    fn dates() {
        for (created_at, expected) in [
            (NOW, Ok(())),
            (NOW + 900, Ok(())),
            (NOW + 901, Err(TimeDefect::TooFarAhead)),
            (u64::MAX, Err(TimeDefect::TooFarAhead)),
            (NOW - AGE_SECS_MAX, Ok(())),
            (NOW - AGE_SECS_MAX - 1, Err(TimeDefect::TooOld)),
            (0, Err(TimeDefect::TooOld)),
        ] {
            assert_eq!(check_date(&event(created_at, &[]), NOW), expected, "{created_at}");
        }
    }

    #[test]
    fn expirations() {
        let malformed = Err(TimeDefect::MalformedExpiration);
        for (tags, expected, expired) in [
            (&[][..], Ok(None), false),
            (&[&["expiration", "2000000000"][..]], Ok(Some(NOW)), true),
            (&[&["expiration", "2000000001"]], Ok(Some(NOW + 1)), false),
            (&[&["expiration", "99"]], malformed, false),
            (&[&["expiration", "tomorrow"]], malformed, false),
            (&[&["expiration"]], malformed, false),
            (&[&["expiration", "18446744073709551616"]], malformed, false),
        ] {
            let event = event(NOW, tags);
            assert_eq!(expiration(&event), expected, "{tags:?}");
            assert_eq!(is_expired(&event, NOW), expired, "{tags:?}");
        }
    }
}
