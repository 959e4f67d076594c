//! To which state each repository is brought: the newest held one whose objects are all here, or else the one that
//! governs it already.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::plan::Alignment;
use crate::git::Namespace;
use crate::git::ObjectKind;
use crate::git::Oid;
use crate::git::RefName;
use crate::git::RefUpdate;
use crate::nip01::Revision;
use crate::nip34::Coordinate;
use crate::nip34::Declared;
use crate::nip34::Identifier;
use crate::nip34::State;
use crate::rules::Disk;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Hosting;
use crate::rules::OnDisk;
use crate::rules::Parts;

/// The next state of every hosted repository that has one.
pub(super) struct NextStates<'f> {
    by_coordinate: BTreeMap<Coordinate, NextState<'f>>,
    /// The newest state of each author and identifier that a repository is brought to.
    newest: BTreeMap<Coordinate, Revision>,
    disk: &'f Disk,
    objects: ObjectPlaces<'f>,
}

/// Where objects are.
struct ObjectPlaces<'f> {
    /// Which repositories have an object, in their order.
    repositories: BTreeMap<&'f Oid, Vec<(&'f Coordinate, ObjectKind)>>,
    /// What is kept aside with states.
    parts: &'f BTreeMap<Coordinate, Parts>,
}

impl<'f> ObjectPlaces<'f> {
    fn on(disk: &'f Disk) -> Self {
        let mut repositories = BTreeMap::<_, Vec<_>>::new();
        for (coordinate, on_disk) in &disk.repositories {
            for (oid, kind) in &on_disk.objects {
                repositories.entry(oid).or_default().push((coordinate, *kind));
            }
        }
        Self {
            repositories,
            parts: &disk.parts,
        }
    }

    /// Returns the kind of an object that is kept aside for a repository with a state.
    fn part(&self, coordinate: &Coordinate, state: &State, oid: &Oid) -> Option<ObjectKind> {
        let parts = self.parts.get(coordinate)?.get(&state.revision.event_id)?;
        parts.get(oid).copied()
    }
}

struct NextState<'f> {
    state: &'f State,
    declared: &'f Declared,
    /// Where the objects come from that the repository lacks; `None`: some are nowhere.
    sources: Option<ObjectSources>,
}

impl<'f> NextStates<'f> {
    pub(super) fn choose(facts: &'f Facts, disk: &'f Disk) -> Self {
        let readable = facts.hosted().filter(|hosted| !disk.broken.contains(hosted));
        let objects = ObjectPlaces::on(disk);
        let by_coordinate: BTreeMap<Coordinate, NextState<'_>> = readable
            .filter_map(|coordinate| Some((coordinate.clone(), choose_one(facts, &objects, coordinate)?)))
            .collect();
        let mut newest = BTreeMap::new();
        for next_state in by_coordinate.values().filter(|next_state| next_state.sources.is_some()) {
            let state = next_state.state;
            let newest = newest
                .entry(author_of(&state.author, &state.identifier))
                .or_insert(state.revision);
            *newest = state.revision.max(*newest);
        }
        Self {
            by_coordinate,
            newest,
            disk,
            objects,
        }
    }

    pub(super) fn alignments(&self) -> Vec<Alignment> {
        let on_disk = |coordinate| self.disk.repositories.get(coordinate);
        self.by_coordinate
            .iter()
            .filter_map(|(coordinate, next_state)| align(coordinate, next_state, on_disk(coordinate)))
            .collect()
    }

    /// Returns the repositories whose next state has refs that cannot be had.
    pub(super) fn data_missing(&self) -> BTreeSet<Coordinate> {
        let next_states = self.by_coordinate.iter();
        let missing = next_states.filter(|(_, next_state)| next_state.sources.is_none());
        missing.map(|(coordinate, _)| coordinate.clone()).collect()
    }

    /// Tells whether the repository has, or gets by this plan, at least one branch or tag that a state declares.
    pub(super) fn has_refs(&self, coordinate: &Coordinate) -> bool {
        let next_state = self.by_coordinate.get(coordinate);
        next_state.is_some_and(|next_state| next_state.sources.is_some() && !next_state.declared.refs.is_empty())
    }

    pub(super) fn is_broken(&self, coordinate: &Coordinate) -> bool {
        self.disk.broken.contains(coordinate)
    }

    /// Tells whether nothing of the repository is missing.
    pub(super) fn is_whole(&self, coordinate: &Coordinate) -> bool {
        let next_state = self.by_coordinate.get(coordinate);
        !self.is_broken(coordinate) && next_state.is_none_or(|next_state| next_state.sources.is_some())
    }

    /// Tells whether the repository is brought to this state.
    pub(super) fn is_next(&self, coordinate: &Coordinate, state: &State) -> bool {
        let next_state = self.by_coordinate.get(coordinate);
        next_state.is_some_and(|next_state| next_state.state.revision == state.revision && next_state.sources.is_some())
    }

    /// Returns the repositories that are at, or are brought to, this state.
    pub(super) fn brought_to(&self, state: &State) -> impl Iterator<Item = &Coordinate> {
        let coordinates = self.by_coordinate.keys();
        coordinates.filter(|coordinate| self.is_next(coordinate, state))
    }

    /// Tells whether the repository is at, or is brought to, a newer state than this one.
    pub(super) fn is_overtaken(&self, coordinate: &Coordinate, state: &State) -> bool {
        let next_state = self.by_coordinate.get(coordinate);
        next_state.is_some_and(|next_state| next_state.state.revision > state.revision)
    }

    /// Returns the newest state by an author that a repository is brought to.
    pub(super) fn newest_by(&self, author: &PublicKey, identifier: &Identifier) -> Option<Revision> {
        self.newest.get(&author_of(author, identifier)).copied()
    }

    /// Returns the repositories for which a state is authoritative.
    pub(super) fn open_to(facts: &Facts, state: &State) -> BTreeSet<Coordinate> {
        let namesakes = facts.namesakes_of(&state.identifier).into_iter();
        namesakes
            .flat_map(|namesakes| namesakes.all_confirming(&state.author))
            .collect()
    }

    /// Tells whether a repository has everything that a state declares, or another one has that shares it.
    pub(super) fn has_all(&self, facts: &Facts, coordinate: &Coordinate, state: &State) -> bool {
        let declared = state.declared.as_ref().ok();
        let found = declared.map(|declared| find_objects(facts, &self.objects, coordinate, (state, declared)));
        // What is kept aside moves in only with its state.
        let is_here = found.is_some_and(|found| found.is_ok_and(|sources| sources.parts.is_empty()));
        is_here && self.missing(facts, coordinate, state).is_none()
    }

    /// Tells whether what is kept aside with a state may still move into the repository.
    pub(super) fn wants_parts(&self, facts: &Facts, coordinate: &Coordinate, state_id: &EventId) -> bool {
        // Its announcement may wake again.
        if facts.hosting(coordinate) == Hosting::Absent {
            return facts.status(state_id) == Some(EventStatus::Held);
        }
        let is_it = |state: &&State| state.revision.event_id == *state_id;
        let candidates = facts.candidate_states(coordinate).into_iter();
        let Some(state) = candidates.chain(facts.governing_state(coordinate)).find(is_it) else {
            return false;
        };
        let next_state = self.by_coordinate.get(coordinate).filter(|next| is_it(&next.state));
        let sources = next_state.and_then(|next_state| next_state.sources.as_ref());
        let has_moved_in = sources.is_some_and(|sources| sources.parts.is_empty());
        !has_moved_in && !self.is_overtaken(coordinate, state)
    }

    /// Returns what a state waits for in a repository, in words; `None`: everything is here.
    pub(super) fn missing(&self, facts: &Facts, coordinate: &Coordinate, state: &State) -> Option<String> {
        match &state.declared {
            Err(defect) => Some(format!("nothing: it can never be fulfilled, {defect}")),
            Ok(declared) if declared.refs.is_empty() && facts.hosting(coordinate) != Hosting::Announced => {
                Some("announcement not served".to_owned())
            }
            Ok(declared) => {
                let found = find_objects(facts, &self.objects, coordinate, (state, declared));
                found.err().map(|missing| missing.to_string())
            }
        }
    }
}

/// The author of states of an identifier, who may have a repository of it or not.
fn author_of(author: &PublicKey, identifier: &Identifier) -> Coordinate {
    Coordinate {
        owner: *author,
        identifier: identifier.clone(),
    }
}

fn choose_one<'f>(facts: &'f Facts, objects: &ObjectPlaces<'f>, coordinate: &Coordinate) -> Option<NextState<'f>> {
    for state in facts.candidate_states(coordinate) {
        let Ok(declared) = &state.declared else {
            continue;
        };
        // An empty repository needs an announcement that readers know of; otherwise it could not be told from none.
        if declared.refs.is_empty() && facts.hosting(coordinate) != Hosting::Announced {
            continue;
        }
        if let Ok(sources) = find_objects(facts, objects, coordinate, (state, declared)) {
            return Some(NextState {
                state,
                declared,
                sources: Some(sources),
            });
        }
    }
    let state = facts.governing_state(coordinate)?;
    let declared = state.declared.as_ref().ok()?;
    Some(NextState {
        state,
        declared,
        sources: find_objects(facts, objects, coordinate, (state, declared)).ok(),
    })
}

/// Where the objects that a repository lacks are found.
#[derive(Default)]
struct ObjectSources {
    /// Other repositories, with what each has of them.
    copies: BTreeMap<Coordinate, BTreeSet<Oid>>,
    /// Aside, with the state.
    parts: BTreeSet<Oid>,
}

/// What a state declares and no repository has that it may come from.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("{} missing object{}: {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, list(.0))]
    Objects(BTreeSet<Oid>),
    #[error("nothing: it can never be fulfilled, {0} names an object that is no commit")]
    BranchIsNoCommit(RefName),
}

fn list(oids: &BTreeSet<Oid>) -> String {
    let mut texts: Vec<String> = oids.iter().take(8).map(Oid::to_string).collect();
    if oids.len() > texts.len() {
        texts.push("…".to_owned());
    }
    texts.join(" ")
}

/// Finds every declared object: in the repository itself, aside with the state, or in another repository for which the
/// state's author is confirmed too. Nobody's repository is copied because a stranger declares what it has.
fn find_objects(
    facts: &Facts,
    objects: &ObjectPlaces<'_>,
    coordinate: &Coordinate,
    (state, declared): (&State, &Declared),
) -> Result<ObjectSources, Missing> {
    let mut of_one_set = None;
    let mut sources = ObjectSources::default();
    let mut missing = BTreeSet::new();
    for (name, oid) in &declared.refs {
        let places = objects.repositories.get(oid).map_or(&[][..], Vec::as_slice);
        let own = places.binary_search_by_key(&coordinate, |(place, _)| *place).ok();
        let kind = if let Some(own) = own {
            places[own].1
        } else if let Some(kind) = objects.part(coordinate, state, oid) {
            sources.parts.insert(*oid);
            kind
        } else {
            let is_of_one_set = |place: &Coordinate| {
                let of_one_set = of_one_set.get_or_insert_with(|| NextStates::open_to(facts, state));
                of_one_set.contains(place)
            };
            let Some((place, kind)) = find_place(places, is_of_one_set) else {
                missing.insert(*oid);
                continue;
            };
            sources.copies.entry(place.clone()).or_default().insert(*oid);
            kind
        };
        if name.namespace() == Namespace::Branch && kind != ObjectKind::Commit {
            return Err(Missing::BranchIsNoCommit(name.clone()));
        }
    }
    match missing.is_empty() {
        true => Ok(sources),
        false => Err(Missing::Objects(missing)),
    }
}

fn find_place<'f>(
    places: &[(&'f Coordinate, ObjectKind)],
    mut is_meant: impl FnMut(&Coordinate) -> bool,
) -> Option<(&'f Coordinate, ObjectKind)> {
    places.iter().find(|(place, _)| is_meant(place)).copied()
}

fn align(coordinate: &Coordinate, next_state: &NextState<'_>, on_disk: Option<&OnDisk>) -> Option<Alignment> {
    let sources = next_state.sources.as_ref()?;
    let nothing = OnDisk::default();
    let current = on_disk.unwrap_or(&nothing);
    let updates = differences(&current.refs, &next_state.declared.refs);
    let head = head_for(next_state.declared, current.head.as_ref());
    if updates.is_empty() && sources.parts.is_empty() && (head.is_none() || on_disk.is_none()) {
        return None;
    }
    Some(Alignment {
        coordinate: coordinate.clone(),
        state_id: next_state.state.revision.event_id,
        copies: sources.copies.clone(),
        parts: sources.parts.clone(),
        updates,
        head,
    })
}

/// Returns the changes that lead from the branches and tags as they are to those declared.
fn differences(current: &BTreeMap<RefName, Oid>, declared: &BTreeMap<RefName, Oid>) -> Vec<RefUpdate> {
    let governed = current.keys().filter(|name| name.is_branch_or_tag());
    let names: BTreeSet<&RefName> = governed.chain(declared.keys()).collect();
    names
        .into_iter()
        .map(|name| RefUpdate {
            name: name.clone(),
            old: current.get(name).copied(),
            new: declared.get(name).copied(),
        })
        .filter(|update| update.old != update.new)
        .collect()
}

/// Returns what HEAD shall name if that is another branch than now: the declared one, or where the state says nothing
/// and HEAD names no branch of it, the one that a reader would expect.
fn head_for(declared: &Declared, current: Option<&RefName>) -> Option<RefName> {
    let is_branch = |name: &&RefName| name.namespace() == Namespace::Branch;
    let kept = || current.filter(|name| declared.refs.contains_key(name));
    let usual = || {
        ["refs/heads/main", "refs/heads/master"]
            .into_iter()
            .find_map(|usual| declared.refs.keys().find(|name| name.as_str() == usual))
    };
    let wanted = declared
        .head
        .as_ref()
        .or_else(kept)
        .or_else(usual)
        .or_else(|| declared.refs.keys().find(is_branch));
    wanted.filter(|wanted| current != Some(wanted)).cloned()
}
