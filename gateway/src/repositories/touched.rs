//! Which repositories have changed since somebody last looked whether their packs are to be maintained.

use std::collections::BTreeSet;
use std::collections::VecDeque;

use parking_lot::Mutex;
use shared::nip34::Coordinate;
use tokio::sync::Notify;

/// A queue of repositories, each in it once.
#[derive(Debug, Default)]
pub(crate) struct TouchedRepositories {
    waiting: Mutex<Waiting>,
    is_noted: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Coordinate>,
    queued: BTreeSet<Coordinate>,
    /// Those whose maintenance failed: repeated pushes to one of them would otherwise delay all others.
    left_out: BTreeSet<Coordinate>,
}

impl TouchedRepositories {
    /// Notes a repository. If too many wait, or if its maintenance failed, it is left to the daily re-check.
    pub(crate) fn note(&self, coordinate: &Coordinate) {
        let mut waiting = self.waiting.lock();
        let is_meant = waiting.queue.len() < WAITING_MAX && !waiting.left_out.contains(coordinate);
        if is_meant && waiting.queued.insert(coordinate.clone()) {
            waiting.queue.push_back(coordinate.clone());
            self.is_noted.notify_one();
        }
    }

    /// As [`TouchedRepositories::note`], once a day for each repository.
    pub(crate) fn note_daily(&self, coordinate: &Coordinate) {
        self.waiting.lock().left_out.remove(coordinate);
        self.note(coordinate);
    }

    pub(crate) fn leave_out(&self, coordinate: &Coordinate) {
        let mut waiting = self.waiting.lock();
        if waiting.left_out.len() >= WAITING_MAX {
            waiting.left_out.clear();
        }
        waiting.left_out.insert(coordinate.clone());
    }

    pub(crate) async fn next(&self) -> Coordinate {
        loop {
            if let Some(coordinate) = self.take() {
                return coordinate;
            }
            self.is_noted.notified().await;
        }
    }

    fn take(&self) -> Option<Coordinate> {
        let mut waiting = self.waiting.lock();
        let coordinate = waiting.queue.pop_front()?;
        waiting.queued.remove(&coordinate);
        Some(coordinate)
    }
}

/// 2 MB of names.
const WAITING_MAX: usize = 10_000;
