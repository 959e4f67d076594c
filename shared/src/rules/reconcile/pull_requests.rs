//! When a PR is complete, where its commit goes, and what becomes of commits that came before their event (GRASP-01,
//! "Pull Requests"; docs/ARCHITECTURE.md rule 6).

use std::collections::BTreeSet;

use super::alignment::NextStates;
use super::plan::Installation;
use super::plan::InstallationSource;
use super::plan::Outcome;
use super::plan::Plan;
use crate::git::ObjectKind;
use crate::git::RefName;
use crate::nip34::Coordinate;
use crate::nip34::PullRequest;
use crate::rules::Disk;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Hosting;
use crate::rules::Staged;

pub(super) fn plan_pull_requests(facts: &Facts, disk: &Disk, next_states: &NextStates<'_>, plan: &mut Plan) {
    for known in &facts.pull_requests {
        let pull_request = &known.item;
        let repositories: Vec<Coordinate> = facts
            .hosted()
            .filter(|hosted| facts.is_offered_to(pull_request, hosted))
            .cloned()
            .collect();
        let announced: Vec<&Coordinate> = repositories
            .iter()
            .filter(|coordinate| plan.is_announced(facts, coordinate))
            .collect();
        let is_uninstallable = |at: &Coordinate| disk.uninstallable.contains(&(at.clone(), pull_request.event_id));
        // A repository that is not whole is not brought back by the commit of a PR: it would read as whole.
        let is_open = |at: &Coordinate| next_states.is_whole(at) && !is_uninstallable(at);
        let open: BTreeSet<Coordinate> = announced.iter().copied().filter(|at| is_open(at)).cloned().collect();
        let found = source_of(disk, pull_request, &repositories).is_some();
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
        if found {
            plan_installations(disk, pull_request, &repositories, &open, plan);
        }
    }
    plan_placeholders(facts, plan);
}

/// Finds the commit in any of the repositories.
fn source_of(disk: &Disk, pull_request: &PullRequest, repositories: &[Coordinate]) -> Option<InstallationSource> {
    let oid = pull_request.commit_oid;
    let has_it = |coordinate: &&Coordinate| {
        let on_disk = disk.repositories.get(coordinate);
        on_disk.is_some_and(|on_disk| on_disk.objects.get(&oid) == Some(&ObjectKind::Commit))
    };
    if let Some(coordinate) = repositories.iter().find(has_it) {
        return Some(InstallationSource::Repository(coordinate.clone()));
    }
    let own = |staged: &&Staged| staged.event_id == pull_request.event_id && staged.commit_oid == oid;
    let staged = disk.staged.iter().find(own)?;
    Some(InstallationSource::StagedElsewhere(staged.coordinate.clone()))
}

/// Brings the commit, which one of `repositories` has, into every one that readers know of.
fn plan_installations(
    disk: &Disk,
    pull_request: &PullRequest,
    repositories: &[Coordinate],
    open: &BTreeSet<Coordinate>,
    plan: &mut Plan,
) {
    let name = RefName::pull_request(&pull_request.event_id);
    for coordinate in open {
        let old = disk
            .repositories
            .get(coordinate)
            .and_then(|on_disk| on_disk.refs.get(&name).copied());
        let own = std::slice::from_ref(coordinate);
        let staged_here = disk.staged.contains(&Staged {
            coordinate: coordinate.clone(),
            event_id: pull_request.event_id,
            commit_oid: pull_request.commit_oid,
        });
        let source = match source_of(disk, pull_request, own) {
            Some(InstallationSource::Repository(_)) => Some(InstallationSource::Here),
            _ if staged_here => Some(InstallationSource::Staged),
            _ => source_of(disk, pull_request, repositories),
        };
        if let Some(source) = source
            && old != Some(pull_request.commit_oid)
        {
            plan.installations.push(Installation {
                coordinate: coordinate.clone(),
                event_id: pull_request.event_id,
                commit_oid: pull_request.commit_oid,
                old,
                source,
            });
        }
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
    for staged in &disk.staged {
        let awaited = facts.placeholders.iter().any(|placeholder| {
            placeholder.event_id == staged.event_id
                && placeholder.coordinate == staged.coordinate
                && placeholder.commit_oid == staged.commit_oid
                && !plan.placeholders_ended.contains(placeholder)
        });
        let name = RefName::pull_request(&staged.event_id);
        let on_disk = disk.repositories.get(&staged.coordinate);
        let installed = on_disk.is_some_and(|on_disk| on_disk.refs.get(&name) == Some(&staged.commit_oid));
        let moves_in = plan.installations.iter().any(|installation| {
            installation.source == InstallationSource::Staged
                && installation.coordinate == staged.coordinate
                && installation.event_id == staged.event_id
        });
        let known = facts.pull_request(&staged.event_id);
        let expires = plan.expired.iter().any(|(event_id, _)| *event_id == staged.event_id);
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
