//! What to do about an event that the relay refuses from any client.

use nostr::event::Event;
use nostr::types::Timestamp;

/// What to do about a refused event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// `strfry import` may take it: the relay refused it for its age or for NIP-70, which bind clients only.
    Import,
    /// Drop it: it has expired meanwhile.
    Drop,
    /// None: it is stuck.
    None,
}

/// Decides what to do about an event that the relay refuses and will refuse again, at `now`.
///
/// Only strfry's own texts lead to an import, and only for events that they can be about: what another plugin or a
/// limit refuses stays refused.
pub fn decide_remedy(event: &Event, refusal: &str, now: Timestamp) -> Remedy {
    let binds_clients_only = match refusal {
        "blocked: event marked as protected" | "auth-required: event marked as protected" => event.is_protected(),
        "invalid: created_at too early" => event.created_at < now,
        "invalid: created_at too late" => event.created_at > now,
        _ => false,
    };
    match binds_clients_only {
        true if event.is_expired_at(now) => Remedy::Drop,
        true => Remedy::Import,
        false => Remedy::None,
    }
}

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn event(created_at: u64, tags: &[&[&str]]) -> Event {
        EventBuilder::new(Kind::from_u16(30618), "")
            .tags(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()))
            .custom_created_at(Timestamp::from_secs(created_at))
            .finalize(&Keys::generate())
            .unwrap()
    }

    #[test]
    fn only_age_and_nip_70_lead_to_an_import() {
        const PROTECTED: &[&[&str]] = &[&["d", "r"], &["-"]];
        const PLAIN: &[&[&str]] = &[&["d", "r"]];
        const EXPIRED: &[&[&str]] = &[&["d", "r"], &["-"], &["expiration", "1600000000"]];
        let rows = [
            ("blocked: event marked as protected", PROTECTED, NOW, Remedy::Import),
            (
                "auth-required: event marked as protected",
                PROTECTED,
                NOW,
                Remedy::Import,
            ),
            ("blocked: event marked as protected", PLAIN, NOW, Remedy::None),
            ("blocked: event marked as protected", EXPIRED, NOW, Remedy::Drop),
            ("invalid: created_at too early", PLAIN, NOW - 1, Remedy::Import),
            ("invalid: created_at too early", PLAIN, NOW + 1, Remedy::None),
            ("invalid: created_at too early", EXPIRED, NOW - 1, Remedy::Drop),
            ("invalid: created_at too late", PLAIN, NOW + 1, Remedy::Import),
            ("invalid: created_at too late", PLAIN, NOW - 1, Remedy::None),
            (
                "restricted: must be published by the author",
                PROTECTED,
                NOW,
                Remedy::None,
            ),
            ("invalid: event too large: 300000", PLAIN, NOW, Remedy::None),
            ("invalid: bad signature", PROTECTED, NOW, Remedy::None),
            ("blocked: spam", PROTECTED, NOW, Remedy::None),
            ("", PROTECTED, NOW, Remedy::None),
        ];

        for (refusal, tags, created_at, remedy) in rows {
            let event = event(created_at, tags);

            let decided = decide_remedy(&event, refusal, Timestamp::from_secs(NOW));

            assert_eq!(decided, remedy, "{refusal} {tags:?} {created_at}");
        }
    }
}
