//! The git events of nostr.

use nostr::event::Event;
use shared::git::Namespace;
use shared::nip01;
use shared::nip01::Deletion;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Declared;
use shared::nip34::PullRequest;
use shared::rules::GitEvent;

use crate::input::AUTHORS_LEN;
use crate::input::author;
use crate::input::event;

/// Reads an event: JSON, or lines of tab-separated tags behind a first byte that picks the kind, with `@0` to `@3`
/// for public keys. What is read is what the rules may rely on.
pub fn nip34(data: &[u8]) {
    if let Ok(event) = serde_json::from_slice::<Event>(data) {
        check(&event);
    }
    let Some((pick, tags)) = data.split_first() else { return };
    let kind = KINDS[usize::from(*pick) % KINDS.len()];
    check(&event(1, author(0), u64::from(*pick), kind, &tags_in(tags)));
}

const KINDS: [u16; 6] = [
    nip34::ANNOUNCEMENT,
    nip34::STATE,
    nip34::PULL_REQUEST,
    nip34::PULL_REQUEST_UPDATE,
    nip34::DELETION,
    nip34::VANISH,
];

fn tags_in(text: &[u8]) -> Vec<Vec<String>> {
    let mut text = String::from_utf8_lossy(text).into_owned();
    for n in 0..AUTHORS_LEN {
        text = text.replace(&format!("@{n}"), &author(n).to_hex());
    }
    text.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn check(event: &Event) {
    match GitEvent::parse(event) {
        Ok(Some(GitEvent::Announcement(announcement))) => {
            assert_eq!(announcement.coordinate.owner, event.pubkey);
            let text = announcement.coordinate.to_string();
            assert_eq!(text.parse::<Coordinate>().as_ref(), Ok(&announcement.coordinate));
            assert!(announcement.roles.leads.is_subset(&announcement.roles.listed));
        }
        Ok(Some(GitEvent::State(state))) => {
            if let Ok(declared) = &state.declared {
                check_declared(declared);
            }
        }
        Ok(Some(GitEvent::PullRequest(pull_request))) => {
            assert!((1..=PullRequest::REPOSITORIES_MAX).contains(&pull_request.coordinates.len()));
            assert!(!pull_request.coordinates.is_empty());
        }
        Ok(None) => assert!(!matches!(event.kind.as_u16(), 30617 | 30618 | 1618 | 1619)),
        Err(refusal) => assert!(refusal.to_string().contains(": "), "no NIP-01 prefix: {refusal}"),
    }
    if let Some(deletion) = Deletion::requested_by(event) {
        assert_eq!(deletion.author, event.pubkey);
        assert!(deletion.event_ids.len() <= Deletion::TARGETS_MAX);
        assert!(deletion.addresses.len() <= Deletion::TARGETS_MAX);
    }
    assert!(nip01::tag_values(event, "relay").count() <= event.tags.len());
}

fn check_declared(declared: &Declared) {
    for name in declared.refs.keys() {
        assert!(matches!(name.namespace(), Namespace::Branch | Namespace::Tag), "{name}");
        let conflict = declared
            .refs
            .keys()
            .take(CONFLICTS_LOOKED_FOR)
            .find(|other| name.conflicts_with(other));
        assert_eq!(conflict, None, "{name}");
    }
    if let Some(head) = &declared.head {
        assert!(declared.refs.contains_key(head), "{head}");
        assert_eq!(head.namespace(), Namespace::Branch);
    }
}

/// Not all of thousands with all: the fuzzer finds it with few.
const CONFLICTS_LOOKED_FOR: usize = 64;
