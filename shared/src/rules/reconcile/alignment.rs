//! To which state each repository is brought: the newest held one whose objects are all here, or else the one that
//! governs it already.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use nostr::event::EventId;

use super::plan::Alignment;
use crate::git::Namespace;
use crate::git::ObjectKind;
use crate::git::Oid;
use crate::git::RefName;
use crate::git::RefUpdate;
use crate::nip01::Revision;
use crate::nip34::Coordinate;
use crate::nip34::Declared;
use crate::nip34::State;
use crate::nip34::Unfulfillable;
use crate::rules::Disk;
use crate::rules::EventStatus;
use crate::rules::Facts;
use crate::rules::Hosting;
use crate::rules::Known;
use crate::rules::OnDisk;
use crate::rules::Parts;
use crate::rules::namesakes::RepositoryIndex;
use crate::rules::namesakes::StateIndex;

/// The next state of every hosted repository that has one. Repositories and states are known by their places: there may
/// be hundreds of both, and each pair matters.
pub(super) struct NextStates<'f> {
    facts: &'f Facts,
    disk: &'f Disk,
    objects: ObjectPlaces<'f>,
    /// By repository; `None`: it has none, or cannot be read.
    next: Vec<Option<NextState<'f>>>,
    /// By state: the repositories that are at it, or are brought to it.
    brought: Vec<Vec<RepositoryIndex>>,
    /// The repositories that cannot be read or changed, in order.
    broken: Vec<RepositoryIndex>,
    /// The newest state of each author and identifier that a repository is brought to.
    newest: BTreeMap<Coordinate, Revision>,
    /// By repository: the state that governs it, if its refs were left out of the facts.
    unread: Vec<Option<Revision>>,
}

struct NextState<'f> {
    state: &'f State,
    declared: &'f Declared,
    /// Where the objects come from that the repository lacks; `None`: some are nowhere.
    sources: Option<ObjectSources>,
}

fn unread_governing(facts: &Facts) -> Vec<Option<Revision>> {
    let is_unread = |state: &State| state.declared == Err(Unfulfillable::Unread);
    if !facts.states.iter().any(|known| is_unread(&known.item)) {
        return vec![None; facts.hosted().len()];
    }
    let governing = facts.hosted().iter().map(|at| facts.governing_state(at));
    governing
        .map(|state| state.filter(|state| is_unread(state)).map(|state| state.revision))
        .collect()
}

impl<'f> NextStates<'f> {
    pub(super) fn choose(facts: &'f Facts, disk: &'f Disk) -> Self {
        let hosted = facts.hosted();
        let mut next_states = Self {
            facts,
            disk,
            objects: ObjectPlaces::of(facts, disk),
            next: hosted.iter().map(|_| None).collect(),
            brought: vec![Vec::new(); facts.states.len()],
            broken: (0..hosted.len())
                .filter(|at| disk.broken.contains(&hosted[*at]))
                .collect(),
            newest: BTreeMap::new(),
            unread: unread_governing(facts),
        };
        let mut is_undecided: Vec<bool> = (0..hosted.len()).map(|at| !next_states.is_broken_at(at)).collect();
        // The newest first.
        for place in 0..facts.states.len() {
            next_states.offer(place, &mut is_undecided);
        }
        next_states
    }

    /// Offers a state to each undecided repository for which it is authoritative, and decides those that look no
    /// further.
    fn offer(&mut self, place: StateIndex, is_undecided: &mut [bool]) {
        let Known { item: state, status } = &self.facts.states[place];
        if *status == EventStatus::Held && self.objects.are_complete_nowhere(place, &state.revision.event_id) {
            return;
        }
        for at in open_to(self.facts, state).iter().copied() {
            if !is_undecided[at] {
                continue;
            }
            let ControlFlow::Break(next) = self.consider(at, place) else {
                continue;
            };
            is_undecided[at] = false;
            if next.as_ref().is_some_and(|next| next.sources.is_some()) {
                self.brought[place].push(at);
            }
            self.next[at] = next;
        }
        if !self.brought[place].is_empty() {
            let newest = self.newest.entry(state.home()).or_insert(state.revision);
            *newest = state.revision.max(*newest);
        }
    }

    /// Considers a state for a repository for which no newer one was chosen: a held one is its next state if its
    /// objects are all here, and the one that governs it in any case. `Break(None)`: it has none; `Continue`: an older
    /// one may be it.
    fn consider(&self, at: RepositoryIndex, place: StateIndex) -> ControlFlow<Option<NextState<'f>>> {
        let known = &self.facts.states[place];
        let is_candidate = known.status == EventStatus::Held;
        let Ok(declared) = &known.item.declared else {
            // No older one governs, either.
            return match is_candidate {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(None),
            };
        };
        // An empty repository needs an announcement that readers know of; otherwise it would look like a missing one.
        if is_candidate && declared.refs.is_empty() && !self.is_announced(at) {
            return ControlFlow::Continue(());
        }
        let sources = self.objects.sources(self.facts, at, place);
        if is_candidate && sources.is_none() {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(Some(NextState {
            state: &known.item,
            declared,
            sources,
        }))
    }

    fn is_announced(&self, at: RepositoryIndex) -> bool {
        self.facts.hosting_at(at) == Hosting::Announced
    }

    fn next(&self, coordinate: &Coordinate) -> Option<&NextState<'f>> {
        self.next[self.facts.hosted().binary_search(coordinate).ok()?].as_ref()
    }

    pub(super) fn alignments(&self) -> Vec<Alignment> {
        let next_states = self.facts.hosted().iter().zip(&self.next);
        next_states
            .filter_map(|(at, next)| align(at, next.as_ref()?, self.disk.repositories.get(at)))
            .collect()
    }

    /// Returns the repositories whose next state has refs that cannot be had.
    pub(super) fn data_missing(&self) -> BTreeSet<Coordinate> {
        let next_states = self.facts.hosted().iter().zip(&self.next);
        let missing = next_states.filter(|(_, next)| next.as_ref().is_some_and(|next| next.sources.is_none()));
        missing.map(|(coordinate, _)| coordinate.clone()).collect()
    }

    /// Whether the repository has, or gets by this plan, at least one branch or tag that a state declares.
    pub(super) fn has_refs(&self, coordinate: &Coordinate) -> bool {
        let next = self.next(coordinate);
        next.is_some_and(|next| next.sources.is_some() && !next.declared.refs.is_empty())
    }

    pub(super) fn is_broken(&self, coordinate: &Coordinate) -> bool {
        self.disk.broken.contains(coordinate)
    }

    /// Whether the same holds for the repository at a position.
    pub(super) fn is_broken_at(&self, at: RepositoryIndex) -> bool {
        self.broken.binary_search(&at).is_ok()
    }

    /// Whether any of these can be neither read nor changed; they are in order.
    pub(super) fn is_any_broken(&self, repositories: &[RepositoryIndex]) -> bool {
        let mut broken = self.broken.iter();
        broken.any(|at| repositories.binary_search(at).is_ok())
    }

    /// Whether nothing of the repository at a position is missing.
    pub(super) fn is_whole_at(&self, at: RepositoryIndex) -> bool {
        let next = self.next[at].as_ref();
        !self.is_broken_at(at) && self.unread[at].is_none() && next.is_none_or(|next| next.sources.is_some())
    }

    /// Returns the repositories that have a commit, in order.
    pub(super) fn having_commit(&self, commit: &Oid) -> impl Iterator<Item = RepositoryIndex> + '_ {
        let having = self.objects.repositories.get(commit).into_iter().flatten();
        having.filter_map(|(at, kind)| (*kind == ObjectKind::Commit).then_some(*at))
    }

    /// Returns the repositories that are at, or are brought to, a state.
    pub(super) fn brought_to(&self, state: StateIndex) -> impl Iterator<Item = &'f Coordinate> {
        self.brought[state].iter().map(|at| &self.facts.hosted()[*at])
    }

    /// Whether a repository is at, or is brought to, a newer state than this one.
    pub(super) fn is_overtaken(&self, at: RepositoryIndex, state: &State) -> bool {
        let next = self.next[at].as_ref();
        next.is_some_and(|next| next.state.revision > state.revision) || self.unread[at] > Some(state.revision)
    }

    /// Returns the newest state by the author of a state that a repository is brought to.
    pub(super) fn newest_by_author_of(&self, state: &State) -> Option<Revision> {
        self.newest.get(&state.home()).copied()
    }

    /// Whether a repository has everything that a state declares, or another one has it that shares it. The state is
    /// authoritative for it.
    pub(super) fn has_all(&self, at: RepositoryIndex, state: StateIndex) -> bool {
        // Hundreds of repositories are asked about hundreds of states: in no words, and by the state first.
        match &self.facts.states[state].item.declared {
            Err(_) => false,
            Ok(declared) if declared.refs.is_empty() => self.is_announced(at),
            // What is in no repository can be among kept parts only, and they move in only with their state.
            Ok(_) => {
                let sources = self
                    .objects
                    .are_in_repositories(state)
                    .then(|| self.objects.sources(self.facts, at, state));
                sources.flatten().is_some_and(|sources| sources.parts.is_empty())
            }
        }
    }

    /// Whether the kept parts of a state may still move into the repository.
    pub(super) fn wants_parts(&self, coordinate: &Coordinate, state_id: &EventId) -> bool {
        let Ok(at) = self.facts.hosted().binary_search(coordinate) else {
            // If its maintainers are not all known, nothing is decided. If it is not hosted, it may wake again.
            let is_hosted = self.facts.hosting(coordinate) != Hosting::Absent;
            return is_hosted || self.facts.status(state_id) == Some(EventStatus::Held);
        };
        let is_it = |state: &State| state.revision.event_id == *state_id;
        let contenders = self.facts.contenders(coordinate).into_iter();
        let mut states = contenders.map(|place| &self.facts.states[place].item);
        let Some(state) = states.find(|state| is_it(state)) else {
            return false;
        };
        let next = self.next[at].as_ref().filter(|next| is_it(next.state));
        let sources = next.and_then(|next| next.sources.as_ref());
        let has_moved_in = sources.is_some_and(|sources| sources.parts.is_empty());
        !has_moved_in && !self.is_overtaken(at, state)
    }

    /// Returns what a state waits for in a repository, in words; `None`: nothing is missing.
    pub(super) fn missing(&self, at: RepositoryIndex, state: StateIndex) -> Option<String> {
        match &self.facts.states[state].item.declared {
            Err(defect) => Some(format!("nothing: it can never be fulfilled, {defect}")),
            Ok(declared) if declared.refs.is_empty() && !self.is_announced(at) => {
                Some("announcement not served".to_owned())
            }
            Ok(_) => match self.objects.lacking(self.facts, at, state) {
                Ok(lacking) => {
                    let lacking: BTreeSet<Oid> = lacking.copied().collect();
                    (!lacking.is_empty()).then(|| Missing::Objects(lacking).to_string())
                }
                Err(missing) => Some(missing.to_string()),
            },
        }
    }
}

/// Returns the places of the repositories for which a state is authoritative, in order.
pub(super) fn open_to<'f>(facts: &'f Facts, state: &State) -> &'f [RepositoryIndex] {
    facts.all_confirming(&state.identifier, &state.author)
}

/// Where objects are.
struct ObjectPlaces<'f> {
    /// Which repositories have an object, in their order.
    repositories: BTreeMap<&'f Oid, Vec<(RepositoryIndex, ObjectKind)>>,
    /// By repository: the kept parts of states.
    parts: Vec<Option<&'f Parts>>,
    /// The states of which any repository keeps parts.
    in_parts: BTreeSet<&'f EventId>,
    /// By state: the declared objects that none of the repositories has for which it is authoritative. No repository is
    /// copied because a stranger declares its objects.
    nowhere: Vec<Result<BTreeSet<Oid>, Missing>>,
}

impl<'f> ObjectPlaces<'f> {
    fn of(facts: &'f Facts, disk: &'f Disk) -> Self {
        let mut repositories = BTreeMap::<_, Vec<_>>::new();
        for (at, coordinate) in facts.hosted().iter().enumerate() {
            let on_disk = disk.repositories.get(coordinate);
            for (oid, kind) in on_disk.into_iter().flat_map(|on_disk| &on_disk.objects) {
                repositories.entry(oid).or_default().push((at, *kind));
            }
        }
        let mut places = Self {
            repositories,
            parts: facts.hosted().iter().map(|at| disk.parts.get(at)).collect(),
            in_parts: disk.parts.values().flat_map(BTreeMap::keys).collect(),
            nowhere: Vec::new(),
        };
        let states = facts.states.iter().map(|known| &known.item);
        places.nowhere = states.map(|state| places.nowhere_of(facts, state)).collect();
        places
    }

    fn nowhere_of(&self, facts: &Facts, state: &State) -> Result<BTreeSet<Oid>, Missing> {
        let mut nowhere = BTreeSet::new();
        let declared = state.declared.iter().flat_map(|declared| &declared.refs);
        let of_one_set = open_to(facts, state);
        for (name, oid) in declared {
            match self.in_one_set(oid, of_one_set) {
                Some((_, kind)) => check_kind(name, kind)?,
                None => drop(nowhere.insert(*oid)),
            }
        }
        Ok(nowhere)
    }

    /// Whether none of the repositories for which a state is authoritative gets all that it declares.
    fn are_complete_nowhere(&self, state: StateIndex, event_id: &EventId) -> bool {
        !self.are_in_repositories(state) && !self.in_parts.contains(event_id)
    }

    /// Whether everything that a state declares is in the repositories for which it is authoritative, and of the right
    /// kind.
    fn are_in_repositories(&self, state: StateIndex) -> bool {
        self.nowhere[state].as_ref().is_ok_and(BTreeSet::is_empty)
    }

    /// Returns the first of these repositories that has an object.
    fn in_one_set(&self, oid: &Oid, of_one_set: &[RepositoryIndex]) -> Option<(RepositoryIndex, ObjectKind)> {
        let having = self.repositories.get(oid)?;
        let is_meant = |(at, _): &&(RepositoryIndex, ObjectKind)| of_one_set.binary_search(at).is_ok();
        having.iter().find(is_meant).copied()
    }

    /// Returns the kept parts of a state for a repository.
    fn parts(&self, facts: &Facts, at: RepositoryIndex, state: StateIndex) -> Option<&'f BTreeMap<Oid, ObjectKind>> {
        self.parts[at]?.get(&facts.states[state].item.revision.event_id)
    }

    /// Returns the declared objects that a repository does not get.
    fn lacking(
        &self,
        facts: &Facts,
        at: RepositoryIndex,
        state: StateIndex,
    ) -> Result<impl Iterator<Item = &Oid>, &Missing> {
        let nowhere = self.nowhere[state].as_ref()?;
        let parts = (!nowhere.is_empty()).then(|| self.parts(facts, at, state)).flatten();
        let is_aside = move |oid: &&Oid| parts.is_some_and(|parts| parts.contains_key(*oid));
        Ok(nowhere.iter().filter(move |oid| !is_aside(oid)))
    }

    /// Finds every object that a state declares: in the repository itself, among the kept parts of the state, or in
    /// another repository for which the state is authoritative. `None`: some are missing, or not of the right kind.
    fn sources(&self, facts: &Facts, at: RepositoryIndex, state: StateIndex) -> Option<ObjectSources> {
        if self.lacking(facts, at, state).ok()?.next().is_some() {
            return None;
        }
        let parts = self.parts(facts, at, state);
        let known = &facts.states[state].item;
        let mut sources = ObjectSources::default();
        for (name, oid) in known.declared.iter().flat_map(|declared| &declared.refs) {
            let having = self.repositories.get(oid).map_or(&[][..], Vec::as_slice);
            if having.binary_search_by_key(&at, |(at, _)| *at).is_ok() {
                continue;
            }
            if let Some(kind) = parts.and_then(|parts| parts.get(oid)) {
                check_kind(name, *kind).ok()?;
                sources.parts.insert(*oid);
            } else if let Some((other, _)) = self.in_one_set(oid, open_to(facts, known)) {
                let other = facts.hosted()[other].clone();
                sources.copies.entry(other).or_default().insert(*oid);
            }
        }
        Some(sources)
    }
}

fn check_kind(name: &RefName, kind: ObjectKind) -> Result<(), Missing> {
    match name.must_be_commit() && kind != ObjectKind::Commit {
        true => Err(Missing::BranchIsNoCommit(name.clone())),
        false => Ok(()),
    }
}

/// Where the objects that a repository lacks are found.
#[derive(Default)]
struct ObjectSources {
    /// Other repositories, with what each has of them.
    copies: BTreeMap<Coordinate, BTreeSet<Oid>>,
    /// Aside, with the state.
    parts: BTreeSet<Oid>,
}

/// Declared objects that no repository has from which they may be copied.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("{} missing object{}: {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, list(.0))]
    Objects(BTreeSet<Oid>),
    #[error("nothing: it can never be fulfilled, {0} names an object that is not a commit")]
    BranchIsNoCommit(RefName),
}

fn list(oids: &BTreeSet<Oid>) -> String {
    let mut texts: Vec<String> = oids.iter().take(8).map(Oid::to_string).collect();
    if oids.len() > texts.len() {
        texts.push("…".to_owned());
    }
    texts.join(" ")
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

/// Returns the changes from the current branches and tags to the declared ones.
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

/// Returns the branch that HEAD must name if it differs from the current one: the declared one, or if the state
/// declares none and HEAD names no branch of it, the one that a reader would expect.
pub(in crate::rules) fn head_for(declared: &Declared, current: Option<&RefName>) -> Option<RefName> {
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
