//! What was said to clients: every event with its answer, every push with its result, in the order of time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;
use wire::path::repository_path;

use crate::clients::nostr::now;
use crate::harness::repository::Repository;

/// A repository of the load.
#[derive(Debug)]
pub(super) struct Project {
    /// The repository, with its owner's keys.
    pub(super) repository: Repository,
    /// Whose states count beside the owner's.
    pub(super) others: Vec<PublicKey>,
    /// `/<npub>/<identifier>.git`
    pub(super) path: String,
}

impl Project {
    /// A new one.
    pub(super) fn new(repository: Repository, others: Vec<PublicKey>) -> Arc<Self> {
        let path = repository_path(&repository.coordinate());
        Arc::new(Self {
            repository,
            others,
            path,
        })
    }

    /// Returns whose states count.
    pub(super) fn authors(&self) -> Vec<String> {
        let owner = self.repository.owner.public_key();
        let authors = std::iter::once(&owner).chain(&self.others);
        authors.map(|key| key.to_hex()).collect()
    }
}

/// An event that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// The event.
    pub(super) event: Event,
    /// What it is about.
    pub(super) project: Arc<Project>,
    /// When it was sent first, unix seconds: its deadline is not before this and the time that events are held.
    pub(super) first_sent: u64,
    /// Whether somebody was told that it was taken.
    pub(super) answered_ok: bool,
    /// Whether a push of its git data was answered ok, and counts: not where its deadline could have passed by then.
    pub(super) pushed: bool,
    /// Whether its author has asked to delete it, answered or not.
    pub(super) deletion_sent: bool,
    /// Whether the request was answered OK.
    pub(super) deletion_ok: bool,
    /// When it was first seen served.
    pub(super) served_at: Option<u64>,
    /// Whether its end was seen: nothing more is expected of it while the load runs.
    pub(super) is_closed: bool,
    /// What happened to it, with unix seconds.
    pub(super) history: Vec<String>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub promise: Promise,
    /// Whose, if it is an event's.
    pub event_id: Option<EventId>,
    /// What was found instead.
    pub text: String,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// An event answered OK is served or held, or has expired, was superseded or deleted; that of a push answered ok
    /// can be queried unless the push says otherwise.
    NothingLost,
    /// What is served has its git data.
    NothingEarly,
    /// All work comes to its end: nothing stays dirty, complete but held, releasing or stuck.
    NothingStuck,
    /// Branches and tags are those of the governing state, and PRs that are served have their refs.
    RightRefs,
    /// What was deleted stays deleted.
    NothingUndeleted,
    /// No quarantine, staged commit or lock is left of whoever died.
    NothingLeft,
}

impl Promise {
    /// All of them, with what a broken one is called.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::NothingLost, "lost"),
        (Self::NothingEarly, "served early"),
        (Self::NothingStuck, "stuck"),
        (Self::RightRefs, "wrong refs"),
        (Self::NothingUndeleted, "undeleted"),
        (Self::NothingLeft, "left over"),
    ];
}

/// The ledger, shared by everybody who writes into it.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Books>);

/// What is written in it.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Events by id.
    pub(super) events: BTreeMap<EventId, Sent>,
    /// What went wrong.
    pub(super) violations: Vec<Violation>,
    /// Pushes answered ok.
    pub(super) pushes_ok: u64,
    /// Pushes refused, cut or unanswered.
    pub(super) pushes_failed: u64,
}

impl Ledger {
    /// Opens the books.
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that an event is about to be sent.
    pub(super) fn sending(&self, event: &Event, project: &Arc<Project>) {
        self.books().events.entry(event.id).or_insert_with(|| Sent {
            event: event.clone(),
            project: Arc::clone(project),
            first_sent: now(),
            answered_ok: false,
            pushed: false,
            deletion_sent: false,
            deletion_ok: false,
            served_at: None,
            is_closed: false,
            history: vec![format!("{} announced to be sent", now())],
        });
    }

    /// Writes down what happened to an event.
    pub(super) fn note(&self, event_id: &EventId, what: impl fmt::Display, change: impl FnOnce(&mut Sent)) {
        if let Some(sent) = self.books().events.get_mut(event_id) {
            sent.history.push(format!("{} {what}", now()));
            change(sent);
        }
    }

    /// Writes down that a promise was broken, once.
    pub(super) fn broken(&self, promise: Promise, event_id: Option<EventId>, text: String) {
        let mut books = self.books();
        let is_known = |known: &Violation| known.promise == promise && known.event_id == event_id;
        if event_id.is_none() || !books.violations.iter().any(is_known) {
            books.violations.push(Violation {
                promise,
                event_id,
                text,
            });
        }
    }

    /// Returns a copy of what is known about an event.
    pub(super) fn find(&self, event_id: &EventId) -> Option<Sent> {
        self.books().events.get(event_id).cloned()
    }

    /// Returns the ids of some events.
    pub(super) fn ids(&self, of: impl Fn(&Sent) -> bool) -> Vec<EventId> {
        let books = self.books();
        let some = books.events.values().filter(|sent| of(sent));
        some.map(|sent| sent.event.id).collect()
    }

    /// Returns all projects.
    pub(super) fn projects(&self) -> Vec<Arc<Project>> {
        let books = self.books();
        let projects = books.events.values().map(|sent| &sent.project);
        let by_path: BTreeMap<_, _> = projects.map(|project| (&project.path, project)).collect();
        by_path.into_values().cloned().collect()
    }
}
