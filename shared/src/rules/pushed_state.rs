//! The state that a push concerns, and the notes about the rest of it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::Facts;
use super::reconcile::head_for;
use crate::git::Oid;
use crate::git::RefName;
use crate::nip34::Coordinate;
use crate::nip34::State;

/// A state that a push fulfils, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedState {
    /// The state event.
    pub event_id: EventId,
    /// The branches and tags that it declares.
    pub refs: BTreeMap<RefName, Oid>,
    /// What `HEAD` names in a repository that is made for it.
    pub head: Option<RefName>,
}

impl PushedState {
    /// Returns the state that the next push is expected to be about: the newest candidate.
    pub fn expected(facts: &Facts, coordinate: &Coordinate) -> Option<Self> {
        let candidates = facts.candidate_states(coordinate).into_iter();
        Self::of(candidates.chain(facts.governing_state(coordinate)).next()?)
    }

    pub(super) fn of(state: &State) -> Option<Self> {
        let declared = state.declared.as_ref().ok()?;
        Some(Self {
            event_id: state.revision.event_id,
            refs: declared.refs.clone(),
            head: head_for(declared, None),
        })
    }

    /// Returns the objects that it declares.
    pub fn tips(&self) -> BTreeSet<Oid> {
        self.refs.values().copied().collect()
    }

    /// Names the refs of the state whose objects are still missing, the first of them by name, in a note.
    pub(super) fn still_missing(&self, here: &BTreeSet<Oid>) -> String {
        let missing = self.refs.iter().filter(|(_, oid)| !here.contains(oid));
        let names: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return "stored; the branches and tags will be set as soon as possible".to_owned();
        }
        let mut shown = names[..names.len().min(MISSING_NAMED_MAX)].join(", ");
        if names.len() > MISSING_NAMED_MAX {
            shown.push_str(&format!(" and {} more", names.len() - MISSING_NAMED_MAX));
        }
        format!(
            "kept until the rest of the state event has been pushed; then all branches and tags are set at once; still missing: \
             {shown}"
        )
    }
}

/// Refs that a pusher reads about.
const MISSING_NAMED_MAX: usize = 8;
