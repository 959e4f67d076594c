//! The actions of a reconcile, in order, and how the plan is made.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use crate::git::Oid;
use crate::git::RefName;
use crate::git::RefUpdate;
use crate::nip34::Coordinate;
use crate::purgatory::Entry;
use crate::purgatory::Expiry;
use crate::purgatory::Placeholder;
use crate::purgatory::Release;
use crate::rules::Facts;
use crate::rules::PullRequestOffer;
use crate::rules::Staged;
use crate::rules::reconcile::ref_room::PullRequestLimits;

/// Brings the refs of a repository to a state; creates the repository if necessary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// The repository.
    pub coordinate: Coordinate,
    /// The state.
    pub state_id: EventId,
    /// Repositories to copy objects from first, with the tips that each has and this one lacks.
    pub copies: BTreeMap<Coordinate, BTreeSet<Oid>>,
    /// The tips that are kept aside with the state, and move in first with all that came in parts.
    pub parts: BTreeSet<Oid>,
    /// The changes of branches and tags, none of them void.
    pub updates: Vec<RefUpdate>,
    /// The branch that HEAD shall name; `None`: it stays.
    pub head: Option<RefName>,
}

/// Where the commit of a PR comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallationSource {
    /// The repository has it.
    Here,
    /// It is staged for this repository, and moves in.
    Staged,
    /// It is copied from another repository.
    Repository(Coordinate),
    /// It is copied from the staged objects of another repository.
    StagedElsewhere(Coordinate),
}

/// Sets `refs/nostr/<event-id>` in a repository; creates the repository if need be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The repository.
    pub coordinate: Coordinate,
    /// The PR event.
    pub event_id: EventId,
    /// For whose shares its ref and its bytes count.
    pub offer: PullRequestOffer,
    /// The bytes of packs that come with it, no matter who pays for them.
    pub bytes: u64,
    /// Its commit.
    pub commit_oid: Oid,
    /// The current value of the ref, if it exists.
    pub old: Option<Oid>,
    /// Where the commit comes from.
    pub source: InstallationSource,
}

/// Durations and limits that are not among the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanSettings {
    /// For how long an expired announcement sleeps, in seconds.
    pub sleep_secs: u64,
    /// How many refs of PRs a repository may have.
    pub pull_requests: PullRequestLimits,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Repositories to bring to their next state.
    pub alignments: Vec<Alignment>,
    /// PR refs to set.
    pub installations: Vec<Installation>,
    /// The PRs that find no room in a repository, and what they lack.
    pub lacking: BTreeMap<(Coordinate, EventId), String>,
    /// Staged commits that nothing names any more.
    pub unstage: BTreeSet<Staged>,
    /// States whose parts are removed, and for which repository.
    pub parts_ended: BTreeSet<(Coordinate, EventId)>,
    /// Placeholders that have ended: their event has arrived, or their deadline has passed.
    pub placeholders_ended: Vec<Placeholder>,
    /// Complete events, in the order in which they are published.
    pub releases: Vec<Release>,
    /// Their ids.
    pub(super) release_ids: BTreeSet<EventId>,
    /// Entries that end: superseded by another event, or deleted by their author.
    pub ended: BTreeSet<EventId>,
    /// Entries whose time is over.
    pub expired: Vec<(EventId, Expiry)>,
    /// Entries that wait for a repository that cannot be read or changed now: they neither expire nor are dropped.
    pub undecided: BTreeSet<EventId>,
    /// What each remaining entry waits for.
    pub waiting: BTreeMap<EventId, String>,
    /// Repositories whose governing state has refs that are not on disk and cannot be had: not served until a push
    /// brings them back.
    pub data_missing: BTreeSet<Coordinate>,
    /// Repositories that must not change meanwhile although the plan does not change them: a released state is in place
    /// there, or the data of an expired one was searched for.
    pub relies_on: BTreeSet<Coordinate>,
    /// Coordinates that must be locked and reconciled together with these before a PR can expire.
    pub also_lock: BTreeSet<Coordinate>,
}

/// The decision about a held event.
pub(super) enum Outcome {
    /// It is complete, and goes after these announcements.
    Release { after: BTreeSet<EventId> },
    /// It has lost against another event.
    End,
    /// It waits, for this.
    Wait(String),
    /// It is decided when its repository can be read and changed again.
    Undecided,
}

impl Plan {
    pub(super) fn release(&mut self, entry: &Entry, after: BTreeSet<EventId>) {
        self.release_ids.insert(entry.event.id);
        self.releases.push(Release {
            event: entry.event.clone(),
            coordinates: entry.coordinates.clone(),
            after,
        });
    }

    pub(super) fn record(&mut self, facts: &Facts, event_id: &EventId, outcome: Outcome) {
        let Some(entry) = facts.entries.get(event_id) else {
            return;
        };
        match outcome {
            Outcome::Release { after } => self.release(entry, after),
            // A reconcile that reads more may find another reason to keep it, or to let it wait.
            Outcome::End | Outcome::Wait(_) if !entry.coordinates.iter().all(|at| facts.is_settled(at)) => {}
            Outcome::End => {
                self.ended.insert(*event_id);
            }
            Outcome::Wait(text) => {
                self.waiting.insert(*event_id, text);
            }
            Outcome::Undecided => {
                self.undecided.insert(*event_id);
                self.waiting.insert(*event_id, UNDECIDED.to_owned());
            }
        }
    }

    /// Returns the repositories that it changes or relies on: their locks are needed.
    pub fn needed(&self) -> BTreeSet<Coordinate> {
        let aligned = self.alignments.iter().map(|alignment| &alignment.coordinate);
        let installed = self.installations.iter().map(|installation| &installation.coordinate);
        aligned.chain(installed).chain(&self.relies_on).cloned().collect()
    }

    /// Leaves out everything that can be done when these repositories are reconciled, and that needs the lock of
    /// others.
    pub fn confine_to(&mut self, locked: &BTreeSet<Coordinate>) {
        self.unstage.retain(|staged| locked.contains(&staged.coordinate));
        self.parts_ended.retain(|(coordinate, _)| locked.contains(coordinate));
        self.placeholders_ended
            .retain(|ended| locked.contains(&ended.coordinate));
        self.data_missing.retain(|coordinate| locked.contains(coordinate));
    }

    /// Leaves the kept parts of these events, which have not expired after all.
    pub fn keep_aside(&mut self, event_ids: &[EventId]) {
        self.unstage.retain(|staged| !event_ids.contains(&staged.event_id));
        self.parts_ended.retain(|(_, state_id)| !event_ids.contains(state_id));
    }

    /// Whether it removes anything that is kept aside.
    pub fn removes(&self) -> bool {
        !self.unstage.is_empty() || !self.parts_ended.is_empty()
    }

    /// Leaves all kept parts: it is not known for certain who needs them.
    pub fn keep_all_aside(&mut self) {
        self.unstage.clear();
        self.parts_ended.clear();
    }

    pub(super) fn releases(&self, event_id: &EventId) -> bool {
        self.release_ids.contains(event_id)
    }
}

const UNDECIDED: &str = "its repository to be readable and writable again: the log of this server has the reason";
