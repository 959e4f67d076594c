//! What becomes of a repository on disk that nobody announces here any more, or whose state was lost.

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
    /// It is not announced here since this second (unix); its data is kept for a while, unserved.
    KeepUnhosted {
        /// Since when.
        since: u64,
    },
    /// It has not been announced here for long enough.
    Remove,
}

/// Decides whether a repository on disk is kept. `unhosted_since` is what was decided last time.
pub fn decide_retention(
    facts: &Facts,
    coordinate: &Coordinate,
    unhosted_since: Option<u64>,
    retention_secs: u64,
) -> Retention {
    // A sleeping announcement may wake, and an operator may put back what his list takes down.
    let is_announced = facts
        .announcements
        .iter()
        .any(|known| known.item.coordinate == *coordinate && facts.service.is_named_by(&known.item));
    let names_us = facts
        .served_announcement(coordinate)
        .is_none_or(|known| facts.service.is_named_by(&known.item));
    let since = unhosted_since.unwrap_or(facts.now);
    match is_announced && names_us {
        true => Retention::Keep,
        false if since.saturating_add(retention_secs) <= facts.now => Retention::Remove,
        false => Retention::KeepUnhosted { since },
    }
}

/// Whether a repository has branches or tags, and no state declares any: its events were lost with the purgatory.
pub fn has_lost_its_state(facts: &Facts, coordinate: &Coordinate, refs: &BTreeMap<RefName, Oid>) -> bool {
    !facts.declares_refs(coordinate) && refs.keys().any(RefName::is_branch_or_tag)
}
