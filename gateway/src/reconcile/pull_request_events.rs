//! Which repositories have the refs of which PRs: the deletion of a PR by its id, and a request to vanish, do not name
//! them. The PRs that they delete are doubted, and looked up.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;
use quick_cache::sync::Cache;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::rules::Installation;
use tokio::sync::Notify;

/// PRs that have refs here, the least used forgotten first. The daily re-check finds forgotten and unknown ones.
pub(crate) struct PullRequestEvents {
    known: Cache<EventId, KnownPullRequest>,
    doubted: Mutex<Doubted>,
    changed: Notify,
}

/// PRs that may have ended, by the repository that has their refs.
pub(crate) type Doubted = BTreeMap<Coordinate, BTreeSet<EventId>>;

/// Who offers a PR, and where its refs are.
#[derive(Debug, Clone)]
struct KnownPullRequest {
    author: PublicKey,
    coordinates: BTreeSet<Coordinate>,
}

impl PullRequestEvents {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            known: Cache::new(EVENTS_MAX),
            doubted: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Remembers that a repository has the ref of a PR.
    pub(crate) fn note(&self, event_id: EventId, author: PublicKey, coordinate: &Coordinate) {
        let known = self.known.get(&event_id);
        let mut coordinates = known.map(|known| known.coordinates).unwrap_or_default();
        if coordinates.insert(coordinate.clone()) {
            self.known.insert(event_id, KnownPullRequest { author, coordinates });
        }
    }

    /// Remembers the refs that a plan has set.
    pub(super) fn note_installed(&self, installations: &[Installation]) {
        for installed in installations {
            self.note(installed.event_id, installed.author, &installed.coordinate);
        }
    }

    /// Doubts the PRs that an event deletes, if it is a deletion or a request to vanish.
    pub(crate) fn doubt_deleted(&self, event: &Event) {
        match event.kind.as_u16() {
            nip34::VANISH => self.doubt_those_of(|author| *author == event.pubkey),
            nip34::DELETION => {
                for tag in event.tags.iter() {
                    if let [name, id, ..] = tag.as_slice()
                        && name == "e"
                        && let Ok(event_id) = EventId::from_hex(id)
                        && let Some(known) = self.known.get(&event_id)
                        && known.author == event.pubkey
                    {
                        self.doubt(event_id, known);
                    }
                }
            }
            _ => {}
        }
    }

    /// Doubts the PRs of some authors.
    pub(crate) fn doubt_those_of(&self, is_meant: impl Fn(&PublicKey) -> bool) {
        let meant = self.known.iter().filter(|(_, known)| is_meant(&known.author));
        meant.for_each(|(event_id, known)| self.doubt(event_id, known));
    }

    /// Takes the doubted PRs, as soon as there are any.
    pub(crate) async fn take_doubted(&self) -> Doubted {
        loop {
            let changed = self.changed.notified();
            let doubted = std::mem::take(&mut *self.doubted());
            if !doubted.is_empty() {
                return doubted;
            }
            changed.await;
        }
    }

    /// Doubts again those that could not be searched.
    pub(crate) fn put_back(&self, coordinate: Coordinate, event_ids: BTreeSet<EventId>) {
        self.doubted().entry(coordinate).or_default().extend(event_ids);
        self.changed.notify_one();
    }

    fn doubt(&self, event_id: EventId, known: KnownPullRequest) {
        let mut doubted = self.doubted();
        if doubted.values().map(BTreeSet::len).sum::<usize>() >= DOUBTED_MAX {
            tracing::warn!("many PRs were deleted at once: the daily re-check removes the refs of some");
            return;
        }
        for coordinate in known.coordinates {
            doubted.entry(coordinate).or_default().insert(event_id);
        }
        self.changed.notify_one();
    }

    fn doubted(&self) -> MutexGuard<'_, Doubted> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// PRs remembered, some 300 bytes each.
const EVENTS_MAX: usize = 100_000;

/// PRs doubted at once.
const DOUBTED_MAX: usize = 10_000;
