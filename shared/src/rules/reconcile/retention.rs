//! Decides about a repository on disk that is not announced any more, or whose state was lost.

use std::collections::BTreeMap;

use crate::git::Oid;
use crate::git::RefName;
use crate::nip34::Coordinate;
use crate::rules::Facts;

/// What to do with a repository on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// It is announced here.
    Keep,
    /// It has not been announced since this second (unix); its data is kept for a while, unserved.
    KeepUnhosted {
        /// Since when.
        since: u64,
    },
    /// It has not been announced here for long enough.
    Remove,
}

/// Decides whether a repository on disk is kept. `unhosted_since` is the previous decision.
pub fn decide_retention(
    facts: &Facts,
    coordinate: &Coordinate,
    unhosted_since: Option<u64>,
    retention_secs: u64,
) -> Retention {
    // A sleeping announcement may wake, and an operator may restore a repository that a list took down.
    let is_announced = facts
        .announcements
        .iter()
        .any(|known| known.item.coordinate == *coordinate && facts.service.is_named_by(&known.item));
    let names_us = facts
        .served_announcement(coordinate)
        .is_none_or(|known| facts.service.is_named_by(&known.item));
    let since = unhosted_since.unwrap_or(facts.now);
    match is_announced && names_us || facts.taken_down.contains(coordinate) {
        true => Retention::Keep,
        false if since.saturating_add(retention_secs) <= facts.now => Retention::Remove,
        false => Retention::KeepUnhosted { since },
    }
}

/// Whether a repository has branches or tags, and no state declares any: its events were lost with the purgatory.
pub fn has_lost_its_state(facts: &Facts, coordinate: &Coordinate, refs: &BTreeMap<RefName, Oid>) -> bool {
    !facts.declares_refs(coordinate) && refs.keys().any(RefName::is_branch_or_tag)
}

#[cfg(test)]
mod tests {
    use nostr::nips::nip19::ToBech32;

    use super::*;
    use crate::rules::Access;
    use crate::rules::facts::tests::NOW;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::foreign_announcement_event;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::facts::tests::state_event;

    #[test]
    fn what_an_operators_list_takes_down_is_kept_as_long_as_it_is_announced() {
        let lists = |text: &str| text.parse().unwrap();
        let owner = pubkey(1).to_bech32().unwrap();
        let denied_author = || Access {
            denied_authors: lists(&owner),
            ..Access::default()
        };
        let denied_repository = || Access {
            denied: lists(&format!("{owner}/r")),
            ..Access::default()
        };
        let (ours, moved) = (
            announcement_event(1, "r", 1, &[]),
            foreign_announcement_event(1, "r", 2, &[]),
        );
        let state = state_event(1, "r", 1, &[("heads/main", 'a')]);
        for (story, access, served, kept) in [
            ("nobody denies it", Access::default(), &[&ours][..], true),
            ("its owner is denied", denied_author(), &[&ours, &state], true),
            ("it is denied", denied_repository(), &[&ours], true),
            (
                "its owner has deleted it before or since",
                denied_author(),
                &[&state],
                false,
            ),
            (
                "its owner has moved it before or since",
                denied_author(),
                &[&moved],
                false,
            ),
        ] {
            let scene = Scene {
                access,
                ..Scene::default().served(served.iter().map(|&event| event.clone()))
            };

            let decided = decide_retention(&scene.facts(), &coordinate(1, "r"), Some(NOW - 10), 10);

            let expected = if kept { Retention::Keep } else { Retention::Remove };
            assert_eq!(decided, expected, "{story}");
        }
    }
}
