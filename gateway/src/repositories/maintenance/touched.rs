//! Which repositories have changed since somebody last looked whether their packs are to be maintained.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;

use shared::nip34::Coordinate;
use tokio::sync::Notify;

/// A queue of repositories, each in it once.
#[derive(Debug, Default)]
pub(crate) struct TouchedRepositories {
    waiting: Mutex<(VecDeque<Coordinate>, BTreeSet<Coordinate>)>,
    is_noted: Notify,
}

impl TouchedRepositories {
    /// Notes a repository. Where too many wait it is left to the daily re-check.
    pub(crate) fn note(&self, coordinate: &Coordinate) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.0.len() < WAITING_MAX && waiting.1.insert(coordinate.clone()) {
            waiting.0.push_back(coordinate.clone());
            self.is_noted.notify_one();
        }
    }

    /// Waits for the next one, and takes it.
    pub(crate) async fn next(&self) -> Coordinate {
        loop {
            if let Some(coordinate) = self.take() {
                return coordinate;
            }
            self.is_noted.notified().await;
        }
    }

    fn take(&self) -> Option<Coordinate> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let coordinate = waiting.0.pop_front()?;
        waiting.1.remove(&coordinate);
        Some(coordinate)
    }
}

/// 2 MB of names.
const WAITING_MAX: usize = 10_000;
