//! What to do about some coordinates (`shared/src/rules/reconcile/mod.rs`).

use super::EventStatus;
use super::Facts;
use super::Plan;
use super::next_states::NextStates;
use super::next_states::has_all;
use super::plan::is_after_announcement;
use super::pull_requests::plan_pull_request;
use super::pull_requests::plan_unstaging;
use crate::Bug;
use crate::Configuration;
use crate::disk::Disk;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Events;
use crate::event::Parts;
use crate::redis::EntryStatus;

/// Decides what to do about the coordinates of facts (`plan`), where something of the disk may fail: nothing is decided
/// about that.
pub fn plan(model: &Configuration, facts: &Facts, disk: &Disk, errors: DiskErrors) -> Plan {
    let facts = &facts.of_reconcile(disk);
    let disk = &disk.as_read(errors);
    let mut plan = Plan::default();
    for event in entered(model, facts) {
        if facts.is_deleted(model, event) {
            plan.ended.add(event);
        } else if facts.relay.served.has(event) && facts.reading.statuses[event.index()].is_waiting() {
            // It came into the relay by another way; publishing it once more is answered `duplicate`.
            plan.releases.add(event);
        }
    }
    let next_states = NextStates::choose(model, facts, disk, errors);
    plan.align = next_states.alignments(disk);
    plan_announcement(model, facts, &next_states, &mut plan);
    for state in [Event::Older, Event::Newer] {
        if facts.event_status(model, state) == EventStatus::Held {
            plan_state(model, facts, (disk, &next_states), state, &mut plan);
        }
    }
    plan_pull_request(model, facts, (disk, errors), &next_states, &mut plan);
    plan.undecided = match model.bug {
        Some(Bug::ExpireWithoutReading) => Events::NONE,
        _ => plan.undecided.without(plan.releases),
    };
    plan_expiry(model, facts, &mut plan);
    plan_unstaging(model, facts, disk, &mut plan);
    plan_parts(model, facts, (disk, &next_states), &mut plan);
    plan_listings(model, facts, &mut plan);
    plan
}

/// Returns the events that have an entry among the facts.
fn entered(model: &Configuration, facts: &Facts) -> impl Iterator<Item = Event> {
    let (covered, statuses, scene) = (facts.covered, facts.reading.statuses, model.scene);
    Event::ALL
        .into_iter()
        .filter(move |event| scene.coordinates(*event).meets(covered) && statuses[event.index()] != EntryStatus::Absent)
}

fn plan_announcement(model: &Configuration, facts: &Facts, next_states: &NextStates, plan: &mut Plan) {
    let announcement = Event::Announcement;
    if facts.event_status(model, announcement) != EventStatus::Held {
        return;
    }
    let home = model.scene.announced();
    if next_states.target[home.index()].is_some() {
        plan.releases.add(announcement);
    } else if next_states.broken.meets(home) {
        plan.undecided.add(announcement);
    }
}

/// What becomes of a held state (`state_outcome`).
fn plan_state(
    model: &Configuration,
    facts: &Facts,
    (disk, next_states): (&Disk, &NextStates),
    state: Event,
    plan: &mut Plan,
) {
    let open = facts.open_to(model, state);
    let repositories = open.without(next_states.broken);
    let is_decidable = open == repositories;
    let is_settled = model.scene.home(state).without(facts.settled).is_empty();
    let by_same_author = |other: Event| other == state || model.is_one_author();
    let counts = |other: Event| facts.event_status(model, other).counts_as_served();
    let newer_counts = state == Event::Older && by_same_author(Event::Newer) && counts(Event::Newer);
    let mut targets = next_states.target.into_iter().flatten();
    let is_superseded = newer_counts || targets.any(|target| target > state && by_same_author(target));
    if is_superseded && is_decidable {
        if is_settled {
            plan.ended.add(state);
        }
        return;
    }
    let is_next = |one: Coordinates| next_states.target[one.index()] == Some(state);
    let is_overtaken = |one: Coordinates| next_states.next[one.index()] > Some(state);
    let is_here = |one: Coordinates| has_all(model, facts, disk, (one, state));
    let is_complete_without_refs =
        || is_settled && repositories.iter().all(is_overtaken) && repositories.iter().any(is_here);
    if !is_superseded && (repositories.iter().any(is_next) || is_decidable && is_complete_without_refs()) {
        plan.releases.add(state);
        let in_place = repositories.iter().filter(|one| is_next(*one));
        plan.relies_on = in_place.fold(plan.relies_on, Coordinates::with);
        if is_after_announcement(model, facts, repositories, plan) {
            plan.after_announcement.add(state);
        }
    } else if !is_decidable {
        plan.undecided.add(state);
    }
}

/// Parts of a state live as long as it may become that of their repository (`ended_parts`).
fn plan_parts(model: &Configuration, facts: &Facts, (disk, next_states): (&Disk, &NextStates), plan: &mut Plan) {
    let x = Coordinates::X;
    let is_decidable = facts.settled.meets(x) && !next_states.broken.within(facts.hosted(model)).meets(x);
    let has_ended = plan.ended.with(plan.expired).has(Event::Newer) || !next_states.wants_parts(model, facts);
    plan.ends_parts = disk.parts != Parts::NONE && is_decidable && has_ended;
}

fn plan_expiry(model: &Configuration, facts: &Facts, plan: &mut Plan) {
    let overdue =
        |event: &Event| facts.reading.overdue.has(*event) && facts.reading.statuses[event.index()].is_waiting();
    for event in entered(model, facts).filter(overdue) {
        if plan.releases.has(event) || plan.ended.has(event) || plan.undecided.has(event) {
            continue;
        }
        let coordinates = model.scene.coordinates(event);
        let open = coordinates.without(facts.settled);
        if open.is_empty() || model.bug == Some(Bug::ExpireWithoutWidening) {
            plan.expired.add(event);
            if event.is_state() {
                plan.relies_on = plan.relies_on.with(facts.open_to(model, event));
            }
        } else if open != coordinates {
            plan.widen = plan.widen.with(open);
        }
    }
}

/// Whose notes of whom they list are not as they are (`listings_to_note`).
fn plan_listings(model: &Configuration, facts: &Facts, plan: &mut Plan) {
    if model.bug == Some(Bug::ListingsAreNeverMended) {
        return;
    }
    for one in facts.covered.iter() {
        let listed = model.scene.lists(one);
        let is_announcement = model.scene.announced() == one;
        let status = facts.announcement_status(model, one);
        // A held one that expires falls asleep.
        let is_gone = is_announcement
            && (plan.ended.has(Event::Announcement)
                || plan.expired.has(Event::Announcement) && status == EventStatus::Asleep);
        let is_known = !listed.is_empty() && status != EventStatus::Unknown;
        let lists = is_known && !is_gone;
        let is_released = is_announcement && plan.releases.has(Event::Announcement);
        let is_noted = facts.reading.noted.meets(one);
        if lists && (is_released || !is_noted) {
            let note = match is_released || status.counts_as_served() {
                true => &mut plan.note,
                false => &mut plan.note_held,
            };
            *note = note.with(one);
        } else if !lists && (is_noted || is_known) {
            plan.take_off = plan.take_off.with(one);
        }
    }
}
