//! Which state event a push fulfils: the newest candidate that the repository equals with the push applied, or else
//! the newest of which the push is a part (docs/ARCHITECTURE.md rule 5).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Facts;
use crate::git::Oid;
use crate::git::RefName;
use crate::git::RefUpdate;
use crate::nip34::Coordinate;
use crate::nip34::Declared;
use crate::nip34::State;

/// Which state the branches and tags of a push fulfil.
pub(super) enum Match<'f> {
    /// They change nothing.
    NotNeeded,
    /// They make the repository equal to this state.
    State(&'f State),
    /// Each of them is declared by this state, which declares more.
    Part(&'f State),
    /// No candidate; with the newest one that could have been meant.
    None {
        newest: Option<&'f State>,
        explanation: String,
    },
}

impl<'f> Match<'f> {
    /// Returns the state that is fulfilled, or a part of it.
    pub(super) fn state(&self) -> Option<&'f State> {
        match self {
            Self::State(state) | Self::Part(state) => Some(state),
            Self::NotNeeded | Self::None { .. } => None,
        }
    }
}

/// Finds the newest candidate that the repository equals with the push applied: the governing state, so that a
/// repository that lost data is healed by pushing again, or a held one newer than it. Without one, the newest
/// candidate that declares each of the changes.
pub(super) fn match_state<'f>(
    facts: &'f Facts,
    coordinate: &Coordinate,
    local: &BTreeMap<RefName, Oid>,
    governed: &[&RefUpdate],
) -> Match<'f> {
    if governed.iter().all(|update| is_in_place(update, local)) {
        return Match::NotNeeded;
    }
    let mut candidates = facts.candidate_states(coordinate);
    candidates.extend(facts.governing_state(coordinate));
    let resulting = apply(local, governed);
    let fulfils = |state: &&&State| state.declared.as_ref().is_ok_and(|declared| declared.refs == resulting);
    if let Some(state) = candidates.iter().find(fulfils) {
        return Match::State(state);
    }
    let is_part_of = |state: &&&State| {
        let declared = state.declared.as_ref().map(|declared| &declared.refs);
        declared.is_ok_and(|refs| {
            let is_declared = |update: &&RefUpdate| refs.get(&update.name).copied() == update.new;
            governed.iter().all(is_declared)
        })
    };
    if let Some(state) = candidates.iter().find(is_part_of) {
        return Match::Part(state);
    }
    let newest = candidates.first().copied();
    let explanation = match newest.map(|state| &state.declared) {
        None => "no state event for this repository waits for a push: publish a signed state (kind 30618) that \
                 declares what you push, then push again"
            .to_owned(),
        Some(Err(fault)) => {
            format!("no push can fulfil the newest state event: {fault}; publish a corrected one")
        }
        Some(Ok(declared)) => format!(
            "no state event declares the result of this push: {}",
            differences(&resulting, declared)
        ),
    };
    Match::None { newest, explanation }
}

pub(super) fn is_in_place(update: &RefUpdate, local: &BTreeMap<RefName, Oid>) -> bool {
    local.get(&update.name).copied() == update.new
}

/// Returns the current branches and tags with the push applied.
fn apply(local: &BTreeMap<RefName, Oid>, governed: &[&RefUpdate]) -> BTreeMap<RefName, Oid> {
    let mut resulting: BTreeMap<RefName, Oid> = local
        .iter()
        .filter(|(name, _)| name.is_branch_or_tag())
        .map(|(name, oid)| (name.clone(), *oid))
        .collect();
    for update in governed {
        match update.new {
            Some(oid) => resulting.insert(update.name.clone(), oid),
            None => resulting.remove(&update.name),
        };
    }
    resulting
}

/// Describes where the result of a push and a state differ, the first three refs by name.
fn differences(resulting: &BTreeMap<RefName, Oid>, declared: &Declared) -> String {
    let names: BTreeSet<&RefName> = resulting.keys().chain(declared.refs.keys()).collect();
    let differing: Vec<&RefName> = names
        .into_iter()
        .filter(|name| resulting.get(*name) != declared.refs.get(*name))
        .collect();
    let value = |oid: Option<&Oid>| oid.map_or("absent".to_owned(), Oid::short);
    let mut texts: Vec<String> = differing
        .iter()
        .take(3)
        .map(|name| {
            let pushed = value(resulting.get(*name));
            match declared.refs.get(*name) {
                Some(wanted) => format!("{name} would be {pushed}, the newest state declares {}", wanted.short()),
                None => format!("{name} would be {pushed}, the newest state declares no such ref"),
            }
        })
        .collect();
    if differing.len() > 3 {
        texts.push(format!("and {} more", differing.len() - 3));
    }
    texts.push("publish a state that declares it, then push again".to_owned());
    texts.join("; ")
}
