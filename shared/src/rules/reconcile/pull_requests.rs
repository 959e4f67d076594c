//! When a PR is complete, where its commit goes, and what becomes of commits that came before their event (GRASP-01,
//! "Pull Requests"; docs/ARCHITECTURE.md rule 6).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::alignment::NextStates;
use super::plan::Installation;
use super::plan::InstallationSource;
use super::plan::Outcome;
use super::plan::Plan;
use crate::git::ObjectKind;
use crate::git::RefName;
use crate::nip34::Coordinate;
use crate::nip34::PullRequest;
use crate::purgatory::Placeholder;
use crate::rules::Disk;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Hosting;
use crate::rules::Staged;
use crate::rules::namesakes::Namesakes;

pub(super) fn plan_pull_requests(facts: &Facts, disk: &Disk, next_states: &NextStates<'_>, plan: &mut Plan) {
    let staged = staged_by_event(disk);
    for known in &facts.pull_requests {
        let pull_request = &known.item;
        let confirming = |known: &Namesakes, key: &PublicKey| known.all_confirming(key).collect();
        let repositories: Vec<Coordinate> = facts.offered_to(pull_request, confirming).into_iter().collect();
        let announced: Vec<&Coordinate> = repositories
            .iter()
            .filter(|coordinate| plan.is_announced(facts, coordinate))
            .collect();
        let is_uninstallable = |at: &Coordinate| disk.uninstallable.contains(&(at.clone(), pull_request.event_id));
        // A repository that is not whole is not brought back by the commit of a PR: it would read as whole.
        let is_open = |at: &Coordinate| next_states.is_whole(at) && !is_uninstallable(at);
        let open: BTreeSet<Coordinate> = announced.iter().copied().filter(|at| is_open(at)).cloned().collect();
        let source = source_of(disk, pull_request, &repositories, &staged);
        let found = source.is_some();
        if known.status == EventStatus::Held {
            let outcome = if found && !open.is_empty() {
                Outcome::Release {
                    after: plan.announcements_before(facts, &open),
                }
            } else if repositories.iter().any(|at| next_states.is_broken(at)) || found && !announced.is_empty() {
                Outcome::Undecided
            } else if found {
                Outcome::Wait("announcement not served".to_owned())
            } else {
                Outcome::Wait(format!("commit {}", pull_request.commit_oid))
            };
            plan.record(facts, &pull_request.event_id, outcome);
        }
        if let Some(source) = source {
            plan_installations(disk, pull_request, &source, &open, plan);
        }
    }
    plan_placeholders(facts, plan);
}

/// Whether a repository has the commit.
fn has_commit(disk: &Disk, pull_request: &PullRequest, coordinate: &Coordinate) -> bool {
    let on_disk = disk.repositories.get(coordinate);
    on_disk.is_some_and(|on_disk| on_disk.objects.get(&pull_request.commit_oid) == Some(&ObjectKind::Commit))
}

/// Finds the commit in any of the repositories, or among what is staged for its event.
fn source_of(
    disk: &Disk,
    pull_request: &PullRequest,
    repositories: &[Coordinate],
    staged: &StagedByEvent<'_>,
) -> Option<InstallationSource> {
    let has_it = |coordinate: &&Coordinate| has_commit(disk, pull_request, coordinate);
    if let Some(coordinate) = repositories.iter().find(has_it) {
        return Some(InstallationSource::Repository(coordinate.clone()));
    }
    let staged = staged.get(&pull_request.event_id)?;
    let own = staged
        .iter()
        .find(|staged| staged.commit_oid == pull_request.commit_oid)?;
    Some(InstallationSource::StagedElsewhere(own.coordinate.clone()))
}

/// What is staged for each event.
type StagedByEvent<'d> = BTreeMap<EventId, Vec<&'d Staged>>;

fn staged_by_event(disk: &Disk) -> StagedByEvent<'_> {
    let mut by_event = StagedByEvent::new();
    for staged in &disk.staged {
        by_event.entry(staged.event_id).or_default().push(staged);
    }
    by_event
}

/// Brings the commit, which is at `source`, into every repository that readers know of.
fn plan_installations(
    disk: &Disk,
    pull_request: &PullRequest,
    source: &InstallationSource,
    open: &BTreeSet<Coordinate>,
    plan: &mut Plan,
) {
    let name = RefName::pull_request(&pull_request.event_id);
    for coordinate in open {
        let old = disk
            .repositories
            .get(coordinate)
            .and_then(|on_disk| on_disk.refs.get(&name).copied());
        if old == Some(pull_request.commit_oid) {
            continue;
        }
        let is_staged_here = disk.staged.contains(&Staged {
            coordinate: coordinate.clone(),
            event_id: pull_request.event_id,
            commit_oid: pull_request.commit_oid,
        });
        plan.installations.push(Installation {
            coordinate: coordinate.clone(),
            event_id: pull_request.event_id,
            commit_oid: pull_request.commit_oid,
            old,
            source: match has_commit(disk, pull_request, coordinate) {
                true => InstallationSource::Here,
                false if is_staged_here => InstallationSource::Staged,
                false => source.clone(),
            },
        });
    }
}

/// A placeholder ends when its event is here, whatever commit that names, or when its time is over.
fn plan_placeholders(facts: &Facts, plan: &mut Plan) {
    for placeholder in &facts.placeholders {
        let answered = facts.pull_request(&placeholder.event_id).is_some();
        if answered || placeholder.deadline <= facts.now {
            plan.placeholders_ended.push(placeholder.clone());
        }
    }
}

/// Staged objects live as long as the event that names them, or the placeholder that awaits one.
pub(super) fn plan_unstaging(facts: &Facts, disk: &Disk, plan: &mut Plan) {
    let staged_for = |placeholder: &Placeholder| Staged {
        event_id: placeholder.event_id,
        coordinate: placeholder.coordinate.clone(),
        commit_oid: placeholder.commit_oid,
    };
    let ended: BTreeSet<Staged> = plan.placeholders_ended.iter().map(staged_for).collect();
    let awaited: BTreeSet<Staged> = facts.placeholders.iter().map(staged_for).collect();
    let from_staged = |installation: &&Installation| installation.source == InstallationSource::Staged;
    let installations = plan.installations.iter().filter(from_staged);
    let moving: BTreeSet<(&Coordinate, EventId)> = installations
        .map(|installation| (&installation.coordinate, installation.event_id))
        .collect();
    let expiring: BTreeSet<EventId> = plan.expired.iter().map(|(event_id, _)| *event_id).collect();
    for staged in &disk.staged {
        let awaited = awaited.contains(staged) && !ended.contains(staged);
        let name = RefName::pull_request(&staged.event_id);
        let on_disk = disk.repositories.get(&staged.coordinate);
        let installed = on_disk.is_some_and(|on_disk| on_disk.refs.get(&name) == Some(&staged.commit_oid));
        let moves_in = moving.contains(&(&staged.coordinate, staged.event_id));
        let known = facts.pull_request(&staged.event_id);
        let expires = expiring.contains(&staged.event_id);
        // Only where it may move in some day: whatever else is staged for its event is nobody's.
        let named = !expires
            && known.is_some_and(|known| {
                known.item.commit_oid == staged.commit_oid && facts.is_offered_to(&known.item, &staged.coordinate)
            })
            && facts.hosting(&staged.coordinate) != Hosting::Absent;
        if !moves_in && !awaited && (installed || !named) {
            plan.unstage.insert(staged.clone());
        }
    }
}
