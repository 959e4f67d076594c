//! Whom an announcement names as maintainers: role tags `M`/`m`/`o` with their histories, or the legacy list.
//!
//! Source: the reading of ngit-grasp 3.0.10 `src/nostr/events.rs` in docs/facts/grasp.md 1.2.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::key::PublicKey;

use crate::nip01::parse_pubkey;
use crate::nip01::tags;

/// The maintainers that one announcement names, as of now: ended and deferred roles are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Whether the announcement has role tags (`M`, `m` or `o`, however malformed). Only then does the reciprocal
    /// rule apply to it in hybrid mode, and the legacy `maintainers` tag is ignored.
    pub explicit: bool,
    /// The active leads (`M`).
    pub leads: BTreeSet<PublicKey>,
    /// Everyone named as lead, co-maintainer or in the legacy tag; never a mere moderator (`o`).
    pub listed: BTreeSet<PublicKey>,
    /// Whether the author is active for the repository: not if the author's own role has ended, is malformed or is only
    /// that of a moderator.
    pub author_active: bool,
}

impl Roles {
    /// Reads the roles of an announcement.
    pub fn of(event: &Event) -> Self {
        let role_tags = || ["M", "m", "o"].into_iter().flat_map(|role| tags(event, role));
        if role_tags().next().is_none() {
            return Self {
                explicit: false,
                leads: BTreeSet::new(),
                listed: tags(event, "maintainers")
                    .next()
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|hex| parse_pubkey(hex))
                    .collect(),
                author_active: true,
            };
        }
        let active = |role| {
            let current = |values: &&[String]| history_is_active(values.get(1..).unwrap_or_default());
            tags(event, role).filter(current).filter_map(named_by)
        };
        let leads: BTreeSet<PublicKey> = active("M").collect();
        let listed: BTreeSet<PublicKey> = active("M").chain(active("m")).collect();
        let author_named = role_tags().filter_map(named_by).any(|named| named == event.pubkey);
        Self {
            explicit: true,
            author_active: !author_named || listed.contains(&event.pubkey),
            leads,
            listed,
        }
    }
}

/// Returns the key that a role tag names, the first of its values.
fn named_by(values: &[String]) -> Option<PublicKey> {
    parse_pubkey(values.first()?)
}

/// Behind the key stands the role's history, start, end, start, end, …: active without boundaries or when the last one
/// is a start.
fn history_is_active(history: &[String]) -> bool {
    let boundaries_parse = history.iter().all(|boundary| boundary.parse::<u64>().is_ok());
    // `defer` may stand only as the last end, and a malformed history is inactive: neither needs a case of its own.
    boundaries_parse && (history.is_empty() || history.len() % 2 == 1)
}

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    fn roles(author: &Keys, tags: &[&[&str]]) -> Roles {
        let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap());
        Roles::of(
            &EventBuilder::new(Kind::Custom(30617), "")
                .tags(tags)
                .finalize(author)
                .unwrap(),
        )
    }

    #[test]
    fn histories() {
        for (history, active) in [
            (&[][..], true),
            (&["100"], true),
            (&["100", "200"], false),
            (&["100", "200", "300"], true),
            (&["100", "defer"], false),
            (&["defer"], false),
            (&["soon"], false),
            (&["-1"], false),
        ] {
            let history: Vec<String> = history.iter().map(|&boundary| boundary.to_owned()).collect();
            assert_eq!(history_is_active(&history), active, "{history:?}");
        }
    }

    #[test]
    fn role_tags_silence_the_legacy_tag() {
        let (author, other, legacy) = (Keys::generate(), Keys::generate(), Keys::generate());
        let (other_hex, legacy_hex) = (other.public_key().to_hex(), legacy.public_key().to_hex());

        let roles = roles(&author, &[&["m", &other_hex], &["maintainers", &legacy_hex]]);

        assert!(roles.explicit);
        assert_eq!(roles.listed, BTreeSet::from([other.public_key()]));
        assert!(roles.author_active);
    }

    #[test]
    fn an_ended_own_role_ends_the_author() {
        let author = Keys::generate();
        let hex = author.public_key().to_hex();

        assert!(!roles(&author, &[&["M", &hex, "1", "2"]]).author_active);
        assert!(!roles(&author, &[&["o", &hex]]).author_active);
        assert!(roles(&author, &[&["o", &hex], &["m", &hex]]).author_active);
    }

    #[test]
    fn only_the_first_legacy_tag_counts() {
        let (author, first, second) = (Keys::generate(), Keys::generate(), Keys::generate());
        let (first_hex, second_hex) = (first.public_key().to_hex(), second.public_key().to_hex());

        let roles = roles(&author, &[&["maintainers", &first_hex], &["maintainers", &second_hex]]);

        assert!(!roles.explicit);
        assert_eq!(roles.listed, BTreeSet::from([first.public_key()]));
    }
}
