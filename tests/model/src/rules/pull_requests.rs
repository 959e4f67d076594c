//! The PR, whose commit may be at X or at Y (`shared/src/rules/reconcile/pull_requests.rs`).

use super::EventStatus;
use super::Facts;
use super::Plan;
use super::next_states::NextStates;
use super::plan::is_after_announcement;
use crate::Configuration;
use crate::disk::Disk;
use crate::disk::DiskErrors;
use crate::event::Coordinates;
use crate::event::Event;

pub(super) fn plan_pull_request(
    model: &Configuration,
    facts: &Facts,
    (disk, errors): (&Disk, DiskErrors),
    next_states: &NextStates,
    plan: &mut Plan,
) {
    let status = facts.event_status(model, Event::PullRequest);
    if status == EventStatus::Unknown {
        return;
    }
    plan.placeholders_ended = facts.reading.placeholders.within(facts.covered);
    let repositories = facts.hosted(model);
    let is_announced = |one: &Coordinates| {
        let is_released = model.scene.announced() == *one && plan.releases.has(Event::Announcement);
        facts.announcement_status(model, *one).counts_as_served() || is_released
    };
    let announced = repositories.iter().filter(is_announced);
    let announced = announced.fold(Coordinates::NONE, Coordinates::with);
    let whole = announced.without(errors.uninstallable).iter();
    let open = whole.filter(|one| next_states.is_whole(*one));
    let open = open.fold(Coordinates::NONE, Coordinates::with);
    let found = disk
        .staged
        .within(facts.covered)
        .with(disk.installed.within(repositories));
    // Neither gets it from the other: they have no maintainer's repository in common.
    let (announced, open) = (announced.within(found), open.within(found));
    plan.install = open.without(disk.installed);
    if status != EventStatus::Held {
        return;
    }
    if errors.all().meets(repositories) || open.is_empty() && !announced.is_empty() {
        plan.undecided.add(Event::PullRequest);
    }
    if !open.is_empty() {
        plan.releases.add(Event::PullRequest);
        if is_after_announcement(model, facts, open, plan) {
            plan.after_announcement.add(Event::PullRequest);
        }
    }
}

/// Staged commits live as long as the event that names them, or the placeholder that awaits one.
pub(super) fn plan_unstaging(model: &Configuration, facts: &Facts, disk: &Disk, plan: &mut Plan) {
    let is_known = facts.event_status(model, Event::PullRequest) != EventStatus::Unknown;
    let mut named = Coordinates::NONE;
    if is_known && !plan.expired.has(Event::PullRequest) {
        named = facts.hosted(model);
    }
    let awaited = facts.reading.placeholders.without(plan.placeholders_ended);
    let staged = disk.staged.within(facts.covered).without(plan.install).without(awaited);
    plan.unstage = staged.within(disk.installed).with(staged.without(named));
}
