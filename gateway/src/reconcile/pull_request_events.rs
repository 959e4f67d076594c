//! Which repositories have the refs of which PRs: the deletion of a PR by its id, and a request to vanish, do not name
//! them. The PRs that they delete are doubted, and looked up.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::key::PublicKey;
use parking_lot::Mutex;
use shared::nip01::tag_values;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::rules::Installation;
use tokio::sync::Notify;

use crate::reconcile::by_author::ByAuthor;

/// PRs that have refs here, and in which repositories. The daily re-check finds forgotten and unknown ones.
pub(crate) struct PullRequestEvents {
    known: ByAuthor<BTreeSet<Coordinate>>,
    doubted: Mutex<Doubted>,
    changed: Notify,
}

/// PRs that may have ended, by the repository that has their refs.
pub(crate) type Doubted = BTreeMap<Coordinate, BTreeSet<EventId>>;

impl PullRequestEvents {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            known: ByAuthor::new(EVENTS_MAX),
            doubted: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Remembers that a repository has the ref of a PR.
    pub(crate) fn note(&self, event_id: EventId, author: PublicKey, coordinate: &Coordinate) {
        self.known.note(&author, event_id, |known| {
            let mut coordinates = known.unwrap_or_default();
            coordinates.insert(coordinate.clone());
            coordinates
        });
    }

    /// Remembers the refs that a plan has set.
    pub(super) fn note_installed(&self, installations: &[Installation]) {
        for installed in installations {
            self.note(installed.event_id, installed.offer.author, &installed.coordinate);
        }
    }

    /// Doubts the PRs that an event deletes, if it is a deletion or a request to vanish.
    pub(crate) fn doubt_deleted(&self, event: &Event) {
        match event.kind.as_u16() {
            nip34::VANISH => self.doubt_those_by(&event.pubkey),
            nip34::DELETION => {
                for event_id in tag_values(event, "e").filter_map(|id| EventId::from_hex(id).ok()) {
                    if let Some(coordinates) = self.known.get(&event.pubkey, &event_id) {
                        self.doubt(event_id, coordinates);
                    }
                }
            }
            _ => {}
        }
    }

    /// Doubts the PRs of some authors.
    pub(crate) fn doubt_those_of(&self, is_meant: impl Fn(&PublicKey) -> bool) {
        let authors = self.known.authors().into_iter();
        authors.filter(is_meant).for_each(|author| self.doubt_those_by(&author));
    }

    fn doubt_those_by(&self, author: &PublicKey) {
        for (event_id, coordinates) in self.known.all_by(author) {
            self.doubt(event_id, coordinates);
        }
    }

    /// Takes the doubted PRs, as soon as there are any.
    pub(crate) async fn take_doubted(&self) -> Doubted {
        loop {
            let changed = self.changed.notified();
            let doubted = std::mem::take(&mut *self.doubted.lock());
            if !doubted.is_empty() {
                return doubted;
            }
            changed.await;
        }
    }

    /// Doubts again those that could not be searched.
    pub(crate) fn put_back(&self, coordinate: Coordinate, event_ids: BTreeSet<EventId>) {
        self.doubted.lock().entry(coordinate).or_default().extend(event_ids);
        self.changed.notify_one();
    }

    fn doubt(&self, event_id: EventId, coordinates: BTreeSet<Coordinate>) {
        let mut doubted = self.doubted.lock();
        if doubted.values().map(BTreeSet::len).sum::<usize>() >= DOUBTED_MAX {
            tracing::warn!("many PRs were deleted at once: the daily re-check removes the refs of some");
            return;
        }
        for coordinate in coordinates {
            doubted.entry(coordinate).or_default().insert(event_id);
        }
        self.changed.notify_one();
    }
}

/// PRs remembered, some 300 bytes each.
const EVENTS_MAX: u64 = 100_000;

/// PRs doubted at once.
const DOUBTED_MAX: usize = 10_000;
