//! Which events that need no git data belong here: those of a thread about a repository that is served (GRASP-01,
//! "Event Acceptance"; docs/facts/grasp.md 1.4).

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;

use crate::nip01::Address;
use crate::nip01::tag_values;
use crate::nip34;

/// What to do with events of kinds that have nothing to do with git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "io", derive(clap::ValueEnum))]
pub enum OtherKinds {
    /// They pass: the relay is a general one.
    Accept,
    /// They pass if they belong to a served event: the relay is there for git only.
    Refuse,
}

/// Whether events of a kind need a decision. All others pass unread.
///
/// strfry accepts kinds beyond 65535 too, which are not among these.
pub fn may_concern(kind: Option<u16>, other_kinds: OtherKinds) -> bool {
    let is_ours = |kind| {
        let is_related = matches!(
            kind,
            nip34::PATCH | nip34::ISSUE | nip34::STATUS_FIRST
                ..=nip34::STATUS_LAST | nip34::COMMENT | nip34::DELETION | nip34::VANISH | nip34::GRASP_LIST
        );
        is_related || nip34::needs_git_data(kind)
    };
    other_kinds == OtherKinds::Refuse || kind.is_some_and(is_ours)
}

/// Whether an event passes only if it belongs to a served event.
///
/// `event` needs no git data: its kind is not among those that are held.
pub fn must_belong(event: &Event, other_kinds: OtherKinds) -> bool {
    let kind = event.kind.as_u16();
    match kind {
        // These are addressed to every relay.
        nip34::DELETION | nip34::VANISH | nip34::GRASP_LIST => false,
        nip34::PATCH | nip34::ISSUE | nip34::STATUS_FIRST..=nip34::STATUS_LAST => true,
        nip34::COMMENT if names_git(event) => true,
        _ => other_kinds == OtherKinds::Refuse,
    }
}

/// Whether an event is git's business, and not that of a general relay's own policy.
///
/// Anyone may request to vanish, and must be obeyed.
pub fn is_about_git(event: &Event) -> bool {
    match event.kind.as_u16() {
        nip34::DELETION | nip34::COMMENT => names_git(event),
        kind => may_concern(Some(kind), OtherKinds::Accept),
    }
}

/// A comment has the kinds of its root and its parent in `K` and `k`, and their addresses in `A` and `a` (NIP-22); a
/// deletion has those of its targets in `k` and `a` (NIP-09).
fn names_git(event: &Event) -> bool {
    let is_kind = |kind: &str| {
        kind.parse().is_ok_and(|kind| {
            !matches!(kind, nip34::COMMENT | nip34::DELETION | nip34::VANISH)
                && may_concern(Some(kind), OtherKinds::Accept)
        })
    };
    event.tags.iter().any(|tag| match tag.as_slice() {
        [name, value, ..] if name == "K" || name == "k" => is_kind(value),
        [name, value, ..] if name == "A" || name == "a" => value.split(':').next().is_some_and(is_kind),
        _ => false,
    })
}

/// Whether an event may come before the PR that it refers to, of those that a client sends together.
pub fn may_precede_its_pull_request(event: &Event) -> bool {
    let of_a_pull_request = |kind: &str| kind.parse().is_ok_and(nip34::is_pull_request);
    match event.kind.as_u16() {
        nip34::STATUS_FIRST..=nip34::STATUS_LAST => true,
        nip34::COMMENT => tag_values(event, "K")
            .chain(tag_values(event, "k"))
            .any(of_a_pull_request),
        _ => false,
    }
}

/// The references that connect an event with others, in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References {
    /// The event's own id, which others may reference.
    pub id: EventId,
    /// The event's own address (`kind:pubkey:d`), which others may reference, if its kind has one.
    pub address: Option<Address>,
    /// The ids that it refers to (`e`, `E`, `q`).
    pub ids: BTreeSet<EventId>,
    /// The addresses that it refers to (`a`, `A`, `q`).
    pub addresses: BTreeSet<Address>,
}

impl References {
    /// Most references that count: later ones are ignored.
    pub const REFERENCES_MAX: usize = 100;
    /// Of these, most addresses. A relay may need long for each; a thread has a few, and an issue one for each of the
    /// repositories that a PR may name.
    pub const ADDRESSES_MAX: usize = 16;

    /// Reads the references of an event.
    pub fn of(event: &Event) -> Self {
        let mut references = Self {
            id: event.id,
            address: Address::of(event),
            ids: BTreeSet::new(),
            addresses: BTreeSet::new(),
        };
        for tag in event.tags.iter() {
            let [name, value, ..] = tag.as_slice() else { continue };
            if !matches!(name.as_str(), "a" | "A" | "e" | "E" | "q") || references.len() >= Self::REFERENCES_MAX {
                continue;
            }
            if let Ok(address) = value.parse() {
                if references.addresses.len() < Self::ADDRESSES_MAX {
                    references.addresses.insert(address);
                }
            } else if let Ok(id) = EventId::from_hex(value) {
                references.ids.insert(id);
            }
        }
        references
    }

    fn len(&self) -> usize {
        self.ids.len() + self.addresses.len()
    }

    /// Whether one of the two events refers to the other.
    pub fn connect(&self, other: &Self) -> bool {
        self.refers_to(other) || other.refers_to(self)
    }

    fn refers_to(&self, other: &Self) -> bool {
        let address = other.address.as_ref();
        self.ids.contains(&other.id) || address.is_some_and(|address| self.addresses.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::facts::tests::event;
    use crate::rules::facts::tests::pubkey;

    #[test]
    fn what_must_belong() {
        let repository = format!("30617:{}:r", pubkey(1).to_hex());
        for (story, kind, tags, on_a_general_relay, on_one_for_git) in [
            ("a note", 1, &[][..], false, true),
            ("a patch", 1617, &[], true, true),
            ("an issue", 1621, &[], true, true),
            ("a status", 1632, &[], true, true),
            ("a comment on anything", 1111, &[&["K", "1"][..]], false, true),
            ("a comment on an issue", 1111, &[&["K", "1621"]], true, true),
            ("a comment on a repository", 1111, &[&["A", &repository]], true, true),
            ("a profile", 0, &[], false, true),
            ("something ephemeral", 20001, &[], false, true),
            ("a deletion", 5, &[], false, false),
            ("a request to vanish", 62, &[], false, false),
            ("a list of GRASP servers", 10317, &[], false, false),
        ] {
            let event = event(1, kind, 1, tags);
            assert_eq!(must_belong(&event, OtherKinds::Accept), on_a_general_relay, "{story}");
            assert_eq!(must_belong(&event, OtherKinds::Refuse), on_one_for_git, "{story}");
        }
    }

    #[test]
    fn what_is_about_git() {
        let repository = format!("30617:{}:r", pubkey(1).to_hex());
        let article = format!("30023:{}:r", pubkey(1).to_hex());
        for (story, kind, tags, expected) in [
            ("a note", 1, &["a", repository.as_str()], false),
            ("an issue", 1621, &["x", ""], true),
            ("a state", 30618, &["x", ""], true),
            ("a list of GRASP servers", 10317, &["x", ""], true),
            ("a request to vanish", 62, &["x", ""], true),
            ("a comment on an article", 1111, &["A", &article], false),
            ("a comment on a comment on a PR", 1111, &["K", "1618"], true),
            ("a deletion of anything", 5, &["e", "x"], false),
            ("a deletion of notes", 5, &["k", "1"], false),
            ("a deletion of a repository", 5, &["a", &repository], true),
            ("a deletion of states", 5, &["k", "30618"], true),
            ("a deletion of a deletion", 5, &["k", "5"], false),
        ] {
            assert_eq!(is_about_git(&event(1, kind, 1, &[&tags[..]])), expected, "{story}");
        }
    }

    #[test]
    fn events_are_tied_by_id_and_by_whole_address() {
        let author = pubkey(1).to_hex();
        let addressable = References::of(&event(1, 30023, 1, &[&["d", "a:b"]]));
        let note = References::of(&event(1, 1, 1, &[]));
        for (story, tag, to_addressable, to_note) in [
            ("by id", ["e", &note.id.to_hex()], false, true),
            ("by root id", ["E", &note.id.to_hex()], false, true),
            ("quoting an id", ["q", &note.id.to_hex()], false, true),
            ("by address", ["a", &format!("30023:{author}:a:b")], true, false),
            ("by root address", ["A", &format!("30023:{author}:a:b")], true, false),
            ("quoting an address", ["q", &format!("30023:{author}:a:b")], true, false),
            (
                "by a part of an address",
                ["a", &format!("30023:{author}:a")],
                false,
                false,
            ),
            ("by mention", ["p", &author], false, false),
        ] {
            let references = References::of(&event(2, 1, 1, &[&tag]));
            assert_eq!(references.connect(&addressable), to_addressable, "{story}");
            assert_eq!(
                addressable.connect(&references),
                to_addressable,
                "{story}, the other way round"
            );
            assert_eq!(references.connect(&note), to_note, "{story}");
        }
    }

    #[test]
    fn only_so_many_references_count() {
        let tags: Vec<[String; 2]> = (0..200_u64).map(|n| ["e".to_owned(), format!("{n:064x}")]).collect();
        let tags: Vec<Vec<&str>> = tags
            .iter()
            .map(|tag| tag.iter().map(String::as_str).collect())
            .collect();
        let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();

        assert_eq!(
            References::of(&event(1, 1, 1, &tags)).ids.len(),
            References::REFERENCES_MAX
        );
    }

    #[test]
    fn only_so_many_addresses_count_and_no_id_for_them() {
        let of = |name: &str, value: String| vec![name.to_owned(), value];
        let addresses = (0..99).map(|number| of("a", format!("30617:{}:{number}", pubkey(1).to_hex())));
        let tags: Vec<Vec<String>> = addresses.chain([of("e", format!("{:064x}", 1))]).collect();
        let tags: Vec<Vec<&str>> = tags
            .iter()
            .map(|tag| tag.iter().map(String::as_str).collect())
            .collect();
        let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();

        let references = References::of(&event(1, 1621, 1, &tags));

        assert_eq!(references.addresses.len(), References::ADDRESSES_MAX);
        assert_eq!(references.ids.len(), 1);
    }
}
