//! The outcome of a published event, from the relay's answer.
//!
//! The texts are strfry's (`RelayWriter.cpp`, `RelayIngester.cpp`, `events.cpp`) and NIP-01's prefixes;
//! `tests/tests/strfry_contract.rs` pins them.

/// The outcome of a published event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "only some outcomes mean that the relay has the event"]
pub enum PublishOutcome {
    /// The relay has stored it, durably.
    Stored,
    /// The relay had it already.
    Duplicate,
    /// The relay has a newer version of the same replaceable event and will never take this one.
    Replaced,
    /// Its author asked to delete it; the relay will never take it.
    Deleted,
    /// It has expired (NIP-40); the relay will never take it.
    Expired,
    /// A write policy kept it: our own, which holds it. The relay does not have it.
    Held(String),
    /// The relay did not decide: an error of its own, a limit, no answer. Worth another attempt.
    Busy(String),
    /// Anything else, including `OK` true with an unknown text (a write policy may answer that and store nothing).
    Refused(String),
}

impl PublishOutcome {
    /// Reads the answer `["OK", id, accepted, message]`.
    pub fn of(accepted: bool, message: &str) -> Self {
        let text = || message.to_owned();
        let has = |prefix: &str| message.starts_with(prefix);
        if has("purgatory:") {
            return Self::Held(text());
        }
        if accepted {
            return match message {
                "" => Self::Stored,
                _ if has("duplicate:") => Self::Duplicate,
                _ => Self::Refused(text()),
            };
        }
        if has("replaced:") {
            Self::Replaced
        } else if has("deleted:") {
            Self::Deleted
        } else if message == "invalid: event expired" {
            Self::Expired
        } else if has("error:") || has("rate-limited:") || has("Write error:") {
            Self::Busy(text())
        } else {
            Self::Refused(text())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_read_as_what_became_of_the_event() {
        use PublishOutcome::*;
        type OutcomeOf = fn(String) -> PublishOutcome;
        let rows: [(bool, &str, OutcomeOf); 19] = [
            (true, "", |_| Stored),
            (true, "duplicate: have this event", |_| Duplicate),
            (true, "purgatory: wait", Held),
            (true, "thank you", Refused),
            (true, "replaced: have newer event", Refused),
            (false, "", Refused),
            (false, "duplicate: have this event", Refused),
            (false, "replaced: have newer event", |_| Replaced),
            (false, "deleted: user requested deletion", |_| Deleted),
            (false, "invalid: event expired", |_| Expired),
            // It came late and has no expiration tag, so this is not that outcome.
            (false, "invalid: ephemeral event expired", Refused),
            (false, "purgatory: wait", Held),
            (false, "error: internal error", Busy),
            (false, "rate-limited: slow down", Busy),
            (false, "Write error: MDB_MAP_FULL", Busy),
            (false, "auth-required: event marked as protected", Refused),
            (false, "invalid: bad signature", Refused),
            (false, "blocked: no", Refused),
            (false, "restricted: no", Refused),
        ];

        for (accepted, message, outcome) in rows {
            assert_eq!(
                PublishOutcome::of(accepted, message),
                outcome(message.to_owned()),
                "{accepted} {message}"
            );
        }
    }
}
