//! When a PR is complete, where its commit goes, and what happens to commits that arrived before their event (GRASP-01,
//! "Pull Requests"; docs/ARCHITECTURE.md rule 6).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::alignment::NextStates;
use super::announced::Announced;
use super::plan::Installation;
use super::plan::InstallationSource;
use super::plan::Outcome;
use super::plan::Plan;
use super::ref_room::FoundRoom;
use super::ref_room::RefRoom;
use super::ref_room::RoomLack;
use super::ref_room::RoomRequest;
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
use crate::rules::namesakes::RepositoryIndex;
use crate::rules::namesakes::marked;

pub(super) fn plan_pull_requests(
    facts: &Facts,
    disk: &Disk,
    next_states: &NextStates<'_>,
    announced: &Announced,
    mut room: RefRoom<'_>,
    plan: &mut Plan,
) {
    let staged = staged_by_event(disk);
    for known in &facts.pull_requests {
        let pull_request = &known.item;
        let offered = offered_to(facts, pull_request);
        let sources = Sources::of(facts, disk, next_states, pull_request, &offered, &staged);
        let is_uninstallable = |at: RepositoryIndex| {
            let coordinate = facts.hosted()[at].clone();
            disk.uninstallable.contains(&(coordinate, pull_request.event_id))
        };
        let is_unknown = |at: RepositoryIndex| next_states.is_broken_at(at) || is_uninstallable(at);
        // An incomplete repository is not made readable by the commit of a PR: it would look complete.
        let is_open = |at: RepositoryIndex| next_states.is_whole_at(at) && !is_uninstallable(at);
        let (mut open, mut lacks, mut is_installable) = (Vec::new(), Vec::new(), false);
        let name = RefName::pull_request(&pull_request.event_id);
        let maintained = maintained_by_author(facts, pull_request);
        for at in offered.iter().copied().filter(|at| announced.has(*at)) {
            let Some(source) = sources.for_repository(at) else {
                continue;
            };
            is_installable = true;
            if !is_open(at) {
                continue;
            }
            let request = RoomRequest {
                at,
                author: &pull_request.author,
                is_maintainers: maintained.binary_search(&at).is_ok(),
                name: &name,
                brought: sources.brought(at, &source),
            };
            match room.find(request) {
                Ok(found) => open.push((source, request, found)),
                Err(RoomLack(lack)) => {
                    let lacking = (facts.hosted()[at].clone(), pull_request.event_id);
                    plan.lacking.insert(lacking, lack.clone());
                    lacks.push(lack);
                }
            }
        }
        if known.status == EventStatus::Held {
            let outcome = if !open.is_empty() {
                Outcome::Release {
                    after: announced.before(open.iter().map(|(_, request, _)| request.at)),
                }
            } else if let Some(lack) = lacks.first() {
                Outcome::Wait(lack.clone())
            } else if is_installable || offered.iter().any(|at| is_unknown(*at)) {
                Outcome::Undecided
            } else if sources.is_anywhere() && !offered.iter().any(|at| announced.has(*at)) {
                Outcome::Wait("announcement not served".to_owned())
            } else {
                Outcome::Wait(format!("commit {}", pull_request.commit_oid))
            };
            plan.record(facts, &pull_request.event_id, outcome);
        }
        plan_installations(facts, pull_request, open, &mut room, plan);
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

/// Returns the hosted repositories to which a PR is offered, in order.
fn offered_to(facts: &Facts, pull_request: &PullRequest) -> Vec<RepositoryIndex> {
    let mut is_offered = vec![false; facts.hosted().len()];
    for offered in &pull_request.coordinates {
        let by_maintainers = facts.all_confirming(&offered.identifier, &offered.owner).iter();
        let own = facts.hosted().binary_search(offered).ok();
        by_maintainers.copied().chain(own).for_each(|at| is_offered[at] = true);
    }
    marked(&is_offered)
}

/// Returns the hosted repositories, of the identifiers that a PR names, whose confirmed maintainer its author is, in
/// order.
fn maintained_by_author(facts: &Facts, pull_request: &PullRequest) -> Vec<RepositoryIndex> {
    let identifiers: BTreeSet<_> = pull_request
        .coordinates
        .iter()
        .map(|offered| &offered.identifier)
        .collect();
    let by_identifier = identifiers.into_iter();
    let maintained = by_identifier.flat_map(|identifier| facts.all_confirming(identifier, &pull_request.author));
    let mut maintained: Vec<RepositoryIndex> = maintained.copied().collect();
    maintained.sort_unstable();
    maintained
}

/// Where the commit of a PR is.
struct Sources<'a> {
    facts: &'a Facts,
    disk: &'a Disk,
    pull_request: &'a PullRequest,
    /// The repositories that have it, in order.
    having: Vec<RepositoryIndex>,
    /// The repositories that it is staged for, under its event.
    staged: Vec<&'a Coordinate>,
    /// Who sent the event; `None`: that is unknown.
    sender: Option<SourceTag>,
}

impl<'a> Sources<'a> {
    fn of(
        facts: &'a Facts,
        disk: &'a Disk,
        next_states: &NextStates<'_>,
        pull_request: &'a PullRequest,
        offered: &[RepositoryIndex],
        staged: &StagedByEvent<'a>,
    ) -> Self {
        let staged = staged.get(&pull_request.event_id).into_iter().flatten();
        let having = next_states.having_commit(&pull_request.commit_oid);
        let entry = facts.entries.get(&pull_request.event_id);
        Self {
            facts,
            disk,
            pull_request,
            having: having.filter(|at| offered.binary_search(at).is_ok()).collect(),
            staged: staged
                .filter(|staged| staged.commit_oid == pull_request.commit_oid)
                .map(|staged| &staged.coordinate)
                .collect(),
            sender: entry.and_then(|entry| SourceTag::of_source(&entry.source)),
        }
    }

    fn is_anywhere(&self) -> bool {
        !self.having.is_empty() || !self.staged.is_empty()
    }

    /// Returns where a repository gets the commit from: itself, its staged objects, or the repository of the same
    /// identifier of one of its maintainers, with all that is there. A stranger's PR brings no repository into another
    /// one, no matter who owns or lists both.
    fn for_repository(&self, at: RepositoryIndex) -> Option<InstallationSource> {
        if self.having.binary_search(&at).is_ok() {
            return Some(InstallationSource::Here);
        }
        let coordinate = &self.facts.hosted()[at];
        if self.staged.contains(&coordinate) {
            return Some(InstallationSource::Staged);
        }
        let shares = |other: &&Coordinate| {
            other.identifier == coordinate.identifier && self.facts.confirms(coordinate, &other.owner)
        };
        let mut having = self.having.iter().map(|other| &self.facts.hosted()[*other]);
        let having = having.find(shares).cloned();
        let staged = || self.staged.iter().copied().find(shares).cloned();
        having
            .map(InstallationSource::Repository)
            .or_else(|| staged().map(InstallationSource::StagedElsewhere))
    }

    /// Returns what comes with the PR into a repository. What is here, or is shared with another repository of the
    /// maintainers, is paid for.
    fn brought(&self, at: RepositoryIndex, source: &InstallationSource) -> StagedPacks {
        let mut brought = match source {
            InstallationSource::Staged => self.staged_for(&self.facts.hosted()[at]),
            InstallationSource::StagedElsewhere(other) => self.staged_for(other),
            InstallationSource::Repository(other) => StagedPacks {
                bytes: 0,
                source: self.noted_source(other),
            },
            InstallationSource::Here => StagedPacks::default(),
        };
        brought.source = brought.source.or(self.sender);
        brought
    }

    fn staged_for(&self, coordinate: &Coordinate) -> StagedPacks {
        let staged = Staged {
            coordinate: coordinate.clone(),
            event_id: self.pull_request.event_id,
            commit_oid: self.pull_request.commit_oid,
        };
        self.disk.staged_packs.get(&staged).copied().unwrap_or_default()
    }

    fn noted_source(&self, coordinate: &Coordinate) -> Option<SourceTag> {
        let offers = &self.disk.repositories.get(coordinate)?.offers;
        offers.get(&self.pull_request.event_id)?.source
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

/// Brings the commit into these repositories, from where each gets it.
fn plan_installations(
    facts: &Facts,
    pull_request: &PullRequest,
    open: Vec<(InstallationSource, RoomRequest<'_>, FoundRoom)>,
    room: &mut RefRoom<'_>,
    plan: &mut Plan,
) {
    for (source, request, found) in open {
        if found.old == Some(pull_request.commit_oid) {
            continue;
        }
        room.take(request, &found);
        plan.installations.push(Installation {
            coordinate: facts.hosted()[request.at].clone(),
            event_id: pull_request.event_id,
            offer: found.offer,
            bytes: request.brought.bytes,
            commit_oid: pull_request.commit_oid,
            old: found.old,
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
