//! What is decided, given facts: `shared/src/rules/` for these few events. The functions have the names of those that
//! they stand for.

mod facts;
mod next_states;
mod plan;
mod pull_requests;
mod reconcile;

use crate::Configuration;
use crate::disk::Disk;
use crate::event::Event;
use crate::event::Events;
use crate::event::Push;
use crate::redis::EntryStatus;

pub use facts::Answered;
pub use facts::EventStatus;
pub use facts::Facts;
pub use facts::Reach;
pub use plan::Plan;
pub use reconcile::plan;

/// What to do with an event that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The relay may store it.
    Accept,
    /// It waits for its git data.
    Hold {
        /// Entries that are held as long as this one from now on.
        extend: Events,
    },
    /// It is refused as deleted or replaced: for ever, so that whoever publishes it is done.
    RuleOut,
    /// It is refused.
    Refuse,
}

/// Decides about an event that arrived (`decide_admission`).
pub fn decide_admission(model: &Configuration, event: Event, facts: &Facts) -> Admission {
    if facts.is_deleted(model, event) {
        return Admission::RuleOut;
    }
    if facts.reading.statuses[event.index()] == EntryStatus::Releasing {
        return Admission::Accept;
    }
    match event {
        Event::Announcement => {
            let home = model.scene.home(event);
            // Whose states are waiting for it only an announcement that is known already can say.
            let is_known = facts.event_status(model, event) != EventStatus::Unknown;
            let waits = |state: &Event| {
                let is_held = facts.event_status(model, *state) == EventStatus::Held;
                is_known && is_held && model.scene.authorises(home, *state)
            };
            let extend = [Event::Older, Event::Newer].into_iter().filter(waits).collect();
            Admission::Hold { extend }
        }
        Event::Older | Event::Newer => decide_state(model, event, facts),
        Event::PullRequest => Admission::Hold { extend: Events::NONE },
    }
}

fn decide_state(model: &Configuration, state: Event, facts: &Facts) -> Admission {
    let newer_counts_as_served = || facts.event_status(model, Event::Newer).counts_as_served();
    if state == Event::Older && model.is_one_author() && newer_counts_as_served() {
        return Admission::RuleOut;
    }
    let is_known = |one| facts.announcement_status(model, one) != EventStatus::Unknown;
    let mut admitting = facts.covered.iter().filter(|one| model.scene.authorises(*one, state));
    if !admitting.any(is_known) {
        return Admission::Refuse;
    }
    let announced = model.scene.announced();
    let waits = matches!(
        facts.event_status(model, Event::Announcement),
        EventStatus::Held | EventStatus::Asleep
    );
    let is_extended = waits && announced.iter().any(|one| model.scene.authorises(one, state));
    let announcement = is_extended.then_some(Event::Announcement);
    Admission::Hold {
        extend: announcement.into_iter().collect(),
    }
}

/// What to do with a push (`decide_push`): whose deadlines are extended meanwhile; `None`: it has no effect.
///
/// The old oid that the client names is always the current one: staleness only refuses.
pub fn decide_push(model: &Configuration, push: Push, facts: &Facts, disk: &Disk) -> Option<Events> {
    let at = push.coordinate();
    if !facts.is_hosted(model, at) {
        return None;
    }
    let Some(state) = push.state() else {
        let in_place = at.meets(disk.installed);
        return (!in_place).then_some(Events::NONE);
    };
    if disk.refs[at.index()] == Some(state) {
        return None;
    }
    let governing = facts.governing_state(model, at);
    let is_candidate =
        governing == Some(state) || facts.candidate_states(model, at).any(|candidate| candidate == state);
    let own = (model.scene.announced() == at).then_some(Event::Announcement);
    let held = |event: &Event| facts.event_status(model, *event) == EventStatus::Held;
    is_candidate.then(|| own.into_iter().chain([state]).filter(held).collect())
}
