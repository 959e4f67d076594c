//! To which state each repository is brought (`shared/src/rules/reconcile/alignment.rs`).

use super::EventStatus;
use super::Facts;
use crate::Configuration;
use crate::disk::Disk;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Parts;

/// The next state of every hosted repository that has one (`NextStates`), by coordinate.
pub(super) struct NextStates {
    pub(super) next: [Option<Event>; 2],
    /// The same, unless some of its objects are nowhere.
    pub(super) target: [Option<Event>; 2],
    pub(super) broken: Coordinates,
}

impl NextStates {
    pub(super) fn choose(model: &Configuration, facts: &Facts, disk: &Disk, errors: DiskErrors) -> Self {
        let broken = errors.broken();
        let (mut next, mut target) = ([None; 2], [None; 2]);
        for one in facts.hosted(model).without(broken).iter() {
            let is_here = |state: &Event| has_objects(model, facts, disk, (one, *state));
            let candidate = facts.candidate_states(model, one).find(is_here);
            next[one.index()] = candidate.or(facts.governing_state(model, one));
            target[one.index()] = next[one.index()].filter(is_here);
        }
        Self { next, target, broken }
    }

    pub(super) fn alignments(&self, disk: &Disk) -> [Option<Event>; 2] {
        [0, 1].map(|at| self.target[at].filter(|_| self.target[at] != disk.refs[at]))
    }

    /// Tells whether what is kept aside with the newer state may still move into X. What moves in by this plan is gone
    /// by the next, which the program makes at once.
    pub(super) fn wants_parts(&self, model: &Configuration, facts: &Facts) -> bool {
        let (x, newer) = (Coordinates::X, Event::Newer);
        if !facts.hosted(model).meets(x) {
            return facts.event_status(model, newer) == EventStatus::Held;
        }
        let governing = facts.governing_state(model, x);
        let is_candidate = governing == Some(newer) || facts.candidate_states(model, x).any(|state| state == newer);
        is_candidate && self.target[x.index()] != Some(newer)
    }

    /// Tells whether nothing of the repository is missing.
    pub(super) fn is_whole(&self, one: Coordinates) -> bool {
        !self.broken.meets(one) && self.target[one.index()] == self.next[one.index()]
    }
}

/// Tells whether a repository has what a state declares, or gets it from another one for which its author is confirmed
/// (`find_objects`).
pub(super) fn has_objects(
    model: &Configuration,
    facts: &Facts,
    disk: &Disk,
    (one, state): (Coordinates, Event),
) -> bool {
    let is_aside = one == Coordinates::X && state == Event::Newer && disk.parts == Parts::BOTH;
    is_aside || has_all(model, facts, disk, (one, state))
}

/// The same without what is kept aside (`has_all`).
pub(super) fn has_all(model: &Configuration, facts: &Facts, disk: &Disk, (one, state): (Coordinates, Event)) -> bool {
    let has_it = |at: Coordinates| disk.objects[at.index()].has(state);
    has_it(one) || facts.open_to(model, state).iter().any(has_it)
}
