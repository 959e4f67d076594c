//! The verdict about one command of a push, and the text for its pusher beside the ref.

use std::collections::BTreeMap;

use nostr::event::EventId;

use super::Facts;
use super::state_match::Match;
use super::state_match::is_in_place;
use crate::git::Namespace;
use crate::git::Oid;
use crate::git::PushCommand;
use crate::git::RefName;
use crate::git::RefUpdate;
use crate::nip34::Coordinate;
use crate::nip34::State;

/// What to do with one command of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The ref has the wanted value already: reported ok, nothing to do.
    InPlace,
    /// A branch or tag that the matching state declares so.
    Allow(RefUpdate),
    /// A branch or tag that a state declares so, with others that this push does not bring about: its objects are kept
    /// aside with the state, and the ref moves together with the others, which may be at once.
    Part(RefUpdate),
    /// A PR commit: its objects are staged until its event has arrived and its repository is served, which may be at
    /// once.
    Stage {
        /// The event that names the commit.
        event_id: EventId,
        /// The commit.
        commit_oid: Oid,
    },
    /// Refused; git prints the reason after the ref.
    Refuse {
        /// Why, for the pusher.
        reason: String,
    },
}

/// One command of a push and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commanded {
    /// The ref name as sent, for the report.
    pub name: String,
    /// What to do with it.
    pub verdict: Verdict,
}

impl Commanded {
    /// Refuses every command for one reason.
    pub fn refuse_all(commands: &[PushCommand], reason: &str) -> Vec<Self> {
        let refused = |command: &PushCommand| Self {
            name: command.name.clone(),
            verdict: refuse(reason),
        };
        commands.iter().map(refused).collect()
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.verdict, Verdict::Refuse { .. })
    }

    /// Whether it may change a branch or a tag, as a whole state or a part of one.
    pub(super) fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(_)) || self.is_part()
    }

    /// Whether it brings a branch or a tag to what a state declares. A part that just deletes changes nothing yet.
    pub(super) fn sets_declared(&self) -> bool {
        self.is_allowed() && (!self.is_part() || self.tip().is_some())
    }

    pub(super) fn is_part(&self) -> bool {
        matches!(self.verdict, Verdict::Part(_))
    }

    pub(super) fn is_staged(&self) -> bool {
        matches!(self.verdict, Verdict::Stage { .. })
    }

    /// Returns the object that the ref shall name; `None`: the command sets none.
    pub(super) fn tip(&self) -> Option<Oid> {
        match &self.verdict {
            Verdict::Allow(update) | Verdict::Part(update) => update.new,
            Verdict::Stage { commit_oid, .. } => Some(*commit_oid),
            Verdict::InPlace | Verdict::Refuse { .. } => None,
        }
    }

    /// Whether that object must be a commit.
    pub(super) fn must_be_commit(&self) -> bool {
        match &self.verdict {
            Verdict::Allow(update) | Verdict::Part(update) => update.name.must_be_commit(),
            Verdict::Stage { event_id, .. } => RefName::pull_request(event_id).must_be_commit(),
            Verdict::InPlace | Verdict::Refuse { .. } => false,
        }
    }
}

/// The repository that a push goes to.
#[derive(Debug, Clone, Copy)]
pub struct PushTarget<'a> {
    /// Its coordinate.
    pub coordinate: &'a Coordinate,
    /// Its refs; none, if there is nothing on disk (not yet, or not any more).
    pub refs: &'a BTreeMap<RefName, Oid>,
}

pub(super) fn refuse(reason: impl Into<String>) -> Verdict {
    Verdict::Refuse { reason: reason.into() }
}

/// Decides about one command by the state that the push matches.
pub(super) fn decide_update(facts: &Facts, target: PushTarget<'_>, update: &RefUpdate, matched: &Match<'_>) -> Verdict {
    match update.name.namespace() {
        Namespace::Branch | Namespace::Tag => decide_governed(target, update, matched),
        Namespace::PullRequest(event_id) => decide_pull_request(facts, target, update, event_id),
        Namespace::MalformedPullRequest => refuse("not an event id: refs/nostr/<64 lower-case hex digits>"),
        Namespace::Other => refuse("only refs/heads/, refs/tags/ and refs/nostr/<event-id> can be pushed"),
    }
}

fn decide_governed(target: PushTarget<'_>, update: &RefUpdate, matched: &Match<'_>) -> Verdict {
    if is_in_place(update, target.refs) {
        return Verdict::InPlace;
    }
    if target.refs.get(&update.name).copied() != update.old {
        return refuse("stale: the ref has changed since you fetched; fetch first");
    }
    match matched {
        Match::NotNeeded | Match::State(_) => Verdict::Allow(update.clone()),
        Match::Part(_) => Verdict::Part(update.clone()),
        Match::None { newest: None, .. } => refuse("no state event declares this"),
        Match::None {
            newest: Some(state), ..
        } => refuse(not_declared(update, state)),
    }
}

/// Returns why an update does not match a state, as git prints it after the ref.
fn not_declared(update: &RefUpdate, state: &State) -> String {
    let declared = match &state.declared {
        Ok(declared) => declared,
        Err(fault) => return format!("no push can fulfil the newest state event: {fault}"),
    };
    match (declared.refs.get(&update.name), update.new) {
        (Some(wanted), new) if Some(*wanted) != new => format!("the state event declares {} here", wanted.short()),
        (None, Some(_)) => "the state event does not declare this ref".to_owned(),
        (Some(_) | None, _) => "the state event also declares other refs, which this push does not set".to_owned(),
    }
}

fn decide_pull_request(facts: &Facts, target: PushTarget<'_>, update: &RefUpdate, event_id: EventId) -> Verdict {
    if is_in_place(update, target.refs) {
        return Verdict::InPlace;
    }
    match (update.new, facts.pull_request(&event_id)) {
        (None, Some(_)) => refuse("this is the commit of a PR event; it stays as long as the event"),
        (None, None) => refuse("cannot be deleted: it expires by itself if its PR event does not arrive"),
        (Some(new), Some(known)) if known.item.commit_oid != new => refuse(format!(
            "the PR event names commit {}, not {}",
            known.item.commit_oid.short(),
            new.short()
        )),
        (Some(_), Some(known)) if !facts.is_offered_to(&known.item, target.coordinate) => {
            refuse("the PR event is not offered to this repository")
        }
        // Staged in any case. A reconcile decides what moves in, and where; it finds staged objects even after a crash.
        (Some(commit_oid), Some(_) | None) => Verdict::Stage { event_id, commit_oid },
    }
}
