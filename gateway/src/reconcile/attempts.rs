//! What a reconcile remembers from one attempt to the next.

use std::collections::BTreeSet;

use nostr::event::EventId;
use shared::nip34::Coordinate;
use shared::rules::Installation;
use shared::rules::Plan;

/// The results of the attempts of a reconcile so far. What has failed is not planned again, and nothing else waits for
/// it.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Repositories that could not be changed.
    pub(super) broken: BTreeSet<Coordinate>,
    /// PRs whose ref could not be set in a repository.
    pub(super) uninstallable: BTreeSet<(Coordinate, EventId)>,
    /// Those of them that have to be prepared first, outside the lock.
    pub(super) unprepared: Vec<Installation>,
    /// Repositories that are left to the holders of their locks.
    pub(super) left: BTreeSet<Coordinate>,
    /// Whether more repositories were to be locked.
    pub(super) has_tried_to_lock: bool,
    /// Repositories that were brought to their states. A later plan does not name them any more.
    pub(super) aligned: BTreeSet<Coordinate>,
    /// The refs of PRs that were set, likewise.
    pub(super) installed: Vec<Installation>,
    /// Repositories into which parts of a state have moved.
    pub(super) moved_in: BTreeSet<Coordinate>,
}

/// A failed change on disk.
pub(super) enum Failed {
    /// A repository could not be brought to its state.
    Alignment(Coordinate),
    /// The ref of a PR could not be set in a repository.
    Installation(Coordinate, EventId),
    /// That has to be prepared first.
    Unprepared(Installation),
}

impl Attempts {
    /// Notes a failure.
    pub(super) fn note_failed(&mut self, failed: Failed) {
        match failed {
            Failed::Alignment(coordinate) => drop(self.broken.insert(coordinate)),
            Failed::Installation(coordinate, event_id) => drop(self.uninstallable.insert((coordinate, event_id))),
            Failed::Unprepared(installation) => {
                let key = (installation.coordinate.clone(), installation.event_id);
                self.uninstallable.insert(key);
                self.unprepared.push(installation);
            }
        }
    }

    /// Notes where parts have moved in by a plan; returns whether there are more such repositories than before.
    pub(super) fn note_moved_in(&mut self, plan: &Plan) -> bool {
        let count = self.moved_in.len();
        let with_parts = plan.alignments.iter().filter(|alignment| !alignment.parts.is_empty());
        self.moved_in
            .extend(with_parts.map(|alignment| alignment.coordinate.clone()));
        self.moved_in.len() > count
    }
}
