//! When a PR is complete, where its commit goes, and what happens to commits that arrived before their event (GRASP-01,
//! "Pull Requests"; docs/ARCHITECTURE.md rule 6).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::alignment::NextStates;
use super::plan::Installation;
use super::plan::InstallationSource;
use super::plan::Outcome;
use super::plan::Plan;
use super::ref_room::RefRoom;
use crate::git::ObjectKind;
use crate::git::RefName;
use crate::nip34::Coordinate;
use crate::nip34::PullRequest;
use crate::purgatory::Placeholder;
use crate::rules::Disk;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Hosting;
use crate::rules::Known;
use crate::rules::SourceTag;
use crate::rules::Staged;
use crate::rules::StagedPacks;

pub(super) fn plan_pull_requests(
    facts: &Facts,
    disk: &Disk,
    next_states: &NextStates<'_>,
    mut room: RefRoom<'_>,
    plan: &mut Plan,
) {
    let staged = staged_by_event(disk);
    for known in &facts.pull_requests {
        let pull_request = &known.item;
        let places = facts.offered_to(pull_request).into_iter();
        let repositories: Vec<&Coordinate> = places.map(|place| &facts.hosted()[place]).collect();
        let sources = Sources::of(facts, disk, pull_request, &repositories, &staged);
        let is_announced = |at: &&Coordinate| plan.is_announced(facts, at);
        let announced: Vec<&Coordinate> = repositories.iter().copied().filter(is_announced).collect();
        let installable: Vec<&Coordinate> = announced.iter().copied().filter(|at| sources.has_for(at)).collect();
        let is_uninstallable = |at: &Coordinate| disk.uninstallable.contains(&(at.clone(), pull_request.event_id));
        let is_unknown = |at: &&Coordinate| next_states.is_broken(at) || is_uninstallable(at);
        // An incomplete repository is not made readable by the commit of a PR: it would look complete.
        let is_open = |at: &Coordinate| next_states.is_whole(at) && !is_uninstallable(at);
        let (mut open, mut lacks) = (BTreeMap::new(), Vec::new());
        for at in installable.iter().filter(|at| is_open(at)) {
            let Some(source) = sources.for_repository(at) else {
                continue;
            };
            let brought = brought(facts, disk, (pull_request, at), &source);
            match room.lack(at, pull_request, brought) {
                None => drop(open.insert((*at).clone(), (source, brought))),
                Some(lack) => {
                    let lacking = ((*at).clone(), pull_request.event_id);
                    plan.lacking.insert(lacking, lack.clone());
                    lacks.push(lack);
                }
            }
        }
        if known.status == EventStatus::Held {
            let outcome = if !open.is_empty() {
                Outcome::Release {
                    after: plan.announcements_before(facts, open.keys()),
                }
            } else if let Some(lack) = lacks.first() {
                Outcome::Wait(lack.clone())
            } else if repositories.iter().any(is_unknown) || !installable.is_empty() {
                Outcome::Undecided
            } else if sources.is_anywhere() && announced.is_empty() {
                Outcome::Wait("announcement not served".to_owned())
            } else {
                Outcome::Wait(format!("commit {}", pull_request.commit_oid))
            };
            plan.record(facts, &pull_request.event_id, outcome);
        }
        plan_installations(disk, pull_request, open, &mut room, plan);
    }
    plan_placeholders(facts, plan);
}

/// Returns which of these PRs have ended: nothing serves or holds them any more, or the operator denies their author.
/// The facts must have been asked about each of them.
pub fn ended_pull_requests(facts: &Facts, coordinate: &Coordinate, asked: &BTreeSet<EventId>) -> BTreeSet<EventId> {
    // The events of a repository that is not served decide nothing about it: it is kept as it is, or removed as a
    // whole.
    if facts.hosting(coordinate) != Hosting::Announced {
        return BTreeSet::new();
    }
    let is_held = |event_id: &EventId| {
        let entry = facts.entries.get(event_id);
        entry.is_some_and(|entry| !facts.deleted.contains(event_id) && !facts.access.denies_author(&entry.event.pubkey))
    };
    let is_awaited = |event_id: &EventId| facts.placeholders.iter().any(|awaited| awaited.event_id == *event_id);
    asked
        .iter()
        .filter(|event_id| facts.pull_request(event_id).is_none() && !is_held(event_id) && !is_awaited(event_id))
        .copied()
        .collect()
}

/// Whether a repository has the commit.
fn has_commit(disk: &Disk, pull_request: &PullRequest, coordinate: &Coordinate) -> bool {
    let on_disk = disk.repositories.get(coordinate);
    on_disk.is_some_and(|on_disk| on_disk.objects.get(&pull_request.commit_oid) == Some(&ObjectKind::Commit))
}

/// Where the commit of a PR is.
struct Sources<'a> {
    facts: &'a Facts,
    /// The repositories that have it, in order.
    having: Vec<&'a Coordinate>,
    /// The repositories that it is staged for, under its event.
    staged: Vec<&'a Coordinate>,
}

impl<'a> Sources<'a> {
    fn of(
        facts: &'a Facts,
        disk: &Disk,
        pull_request: &PullRequest,
        repositories: &[&'a Coordinate],
        staged: &StagedByEvent<'a>,
    ) -> Self {
        let staged = staged.get(&pull_request.event_id).into_iter().flatten();
        let has_it = |coordinate: &&Coordinate| has_commit(disk, pull_request, coordinate);
        Self {
            facts,
            having: repositories.iter().copied().filter(has_it).collect(),
            staged: staged
                .filter(|staged| staged.commit_oid == pull_request.commit_oid)
                .map(|staged| &staged.coordinate)
                .collect(),
        }
    }

    fn is_anywhere(&self) -> bool {
        !self.having.is_empty() || !self.staged.is_empty()
    }

    fn has_for(&self, coordinate: &Coordinate) -> bool {
        self.for_repository(coordinate).is_some()
    }

    /// Returns where a repository gets the commit from: itself, its staged objects, or the repository of the same
    /// identifier of one of its maintainers, with all that is there. A stranger's PR brings no repository into another
    /// one, whoever owns or lists both.
    fn for_repository(&self, coordinate: &Coordinate) -> Option<InstallationSource> {
        if self.having.binary_search(&coordinate).is_ok() {
            return Some(InstallationSource::Here);
        }
        if self.staged.contains(&coordinate) {
            return Some(InstallationSource::Staged);
        }
        let shares = |other: &&&Coordinate| {
            other.identifier == coordinate.identifier && self.facts.confirms(coordinate, &other.owner)
        };
        let having = self.having.iter().find(shares).map(|found| (*found).clone());
        let staged = || self.staged.iter().find(shares).map(|found| (*found).clone());
        having
            .map(InstallationSource::Repository)
            .or_else(|| staged().map(InstallationSource::StagedElsewhere))
    }
}

/// The staged objects of each event.
type StagedByEvent<'d> = BTreeMap<EventId, Vec<&'d Staged>>;

fn staged_by_event(disk: &Disk) -> StagedByEvent<'_> {
    let mut by_event = StagedByEvent::new();
    for staged in &disk.staged {
        by_event.entry(staged.event_id).or_default().push(staged);
    }
    by_event
}

/// Returns what comes with a PR into a repository. What is here, or is shared with another repository of the
/// maintainers, is paid for.
fn brought(
    facts: &Facts,
    disk: &Disk,
    (pull_request, coordinate): (&PullRequest, &Coordinate),
    source: &InstallationSource,
) -> StagedPacks {
    let event_id = pull_request.event_id;
    let staged = |coordinate: &Coordinate| {
        let staged = Staged {
            coordinate: coordinate.clone(),
            event_id,
            commit_oid: pull_request.commit_oid,
        };
        disk.staged_packs.get(&staged).copied().unwrap_or_default()
    };
    let mut brought = match source {
        InstallationSource::Staged => staged(coordinate),
        InstallationSource::StagedElsewhere(other) => staged(other),
        InstallationSource::Repository(other) => StagedPacks {
            bytes: 0,
            source: noted_source(disk, other, &event_id),
        },
        InstallationSource::Here => StagedPacks::default(),
    };
    let entry = facts.entries.get(&event_id);
    let by_event = || entry.and_then(|entry| SourceTag::of_source(&entry.source));
    brought.source = brought.source.or_else(by_event);
    brought
}

fn noted_source(disk: &Disk, coordinate: &Coordinate, event_id: &EventId) -> Option<SourceTag> {
    disk.repositories.get(coordinate)?.offers.get(event_id)?.source
}

/// Brings the commit into these repositories, from where each gets it.
fn plan_installations(
    disk: &Disk,
    pull_request: &PullRequest,
    open: BTreeMap<Coordinate, (InstallationSource, StagedPacks)>,
    room: &mut RefRoom<'_>,
    plan: &mut Plan,
) {
    let name = RefName::pull_request(&pull_request.event_id);
    for (coordinate, (source, brought)) in open {
        let old = disk
            .repositories
            .get(&coordinate)
            .and_then(|on_disk| on_disk.refs.get(&name).copied());
        if old == Some(pull_request.commit_oid) {
            continue;
        }
        plan.installations.push(Installation {
            offer: room.take(&coordinate, pull_request, brought),
            bytes: brought.bytes,
            coordinate,
            event_id: pull_request.event_id,
            commit_oid: pull_request.commit_oid,
            old,
            source,
        });
    }
}

/// A placeholder ends when its event has arrived, whatever commit that names, or when its deadline has passed.
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
        // Only where it may move in some day: other staged objects for its event belong to nobody. One whose event is
        // served does not wait for room.
        let lacks_room = plan.lacking.contains_key(&(staged.coordinate.clone(), staged.event_id));
        let waits = |known: &Known<PullRequest>| !lacks_room || !known.status.counts_as_served();
        let named = !expires
            && known.is_some_and(waits)
            && known.is_some_and(|known| {
                known.item.commit_oid == staged.commit_oid && facts.is_offered_to(&known.item, &staged.coordinate)
            })
            && facts.hosting(&staged.coordinate) != Hosting::Absent;
        if !moves_in && !awaited && (installed || !named) {
            plan.unstage.insert(staged.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use nostr::event::Event;
    use nostr::nips::nip19::ToBech32;

    use super::*;
    use crate::nip34;
    use crate::rules::facts::tests::NOW;
    use crate::rules::facts::tests::Scene;
    use crate::rules::facts::tests::announcement_event;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::event;
    use crate::rules::facts::tests::pubkey;
    use crate::rules::facts::tests::pull_request_event;

    #[test]
    fn the_ref_of_a_pull_request_ends_with_its_event() {
        let at = coordinate(1, "r");
        let request = pull_request_event(3, &at, 'c');
        let deletion = |author: u8| event(author, nip34::DELETION, 9, &[&["e", &request.id.to_hex()]]);
        let vanishes = event(3, nip34::VANISH, 9, &[&["relay", "ALL_RELAYS"]]);
        let announced = || Scene::default().served([announcement_event(1, "r", 1, &[])]);
        let denied = format!("{}\n", pubkey(3).to_bech32().unwrap());
        let with = |scene: Scene, events: &[&Event]| scene.served(events.iter().copied().cloned());
        for (story, scene, is_denied, ends) in [
            ("served", with(announced(), &[&request]), false, false),
            ("held", announced().held([request.clone()]), false, false),
            ("nowhere", announced(), false, true),
            (
                "held and deleted",
                with(announced().held([request.clone()]), &[&deletion(3)]),
                false,
                true,
            ),
            (
                "deleted by another",
                with(announced(), &[&request, &deletion(4)]),
                false,
                false,
            ),
            (
                "vanished, where the relay keeps it",
                with(announced(), &[&request, &vanishes]),
                false,
                true,
            ),
            ("denied", with(announced(), &[&request]), true, true),
            ("denied and held", announced().held([request.clone()]), true, true),
            (
                "awaited",
                announced().placeholder(request.id, at.clone(), 'c', NOW + 1),
                false,
                false,
            ),
            ("its repository is not served here", Scene::default(), false, false),
        ] {
            let mut scene = scene;
            if is_denied {
                scene.access.denied_authors = denied.parse().unwrap();
            }
            let facts = scene.facts();

            let ended = ended_pull_requests(&facts, &at, &[request.id].into());

            assert_eq!(!ended.is_empty(), ends, "{story}");
        }
    }
}
