//! PRs whose refs could not be set: each waits for a while until that is tried again, longer each time.
//!
//! An attempt marks the repository dirty, which has all of its PRs reconciled: without a pause, one that keeps failing
//! would have itself tried again at once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use nostr::event::EventId;
use parking_lot::Mutex;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::rules::Installation;
use tokio::time::Instant;

/// The PRs of this gateway's attempts, each in one repository.
#[derive(Debug, Default)]
pub(crate) struct PausedPullRequests(Mutex<BTreeMap<(Coordinate, EventId), Pause>>);

#[derive(Debug)]
struct Pause {
    ends_at: Instant,
    length: Duration,
    /// Whether it is over and the PR is to be tried again.
    is_over: bool,
}

impl PausedPullRequests {
    /// Begins the pause after a failed attempt: twice as long as the one before, within `lengths`.
    pub(crate) fn begin(&self, coordinate: &Coordinate, event_id: EventId, lengths: RangeInclusive<Duration>) {
        let mut pauses = self.0.lock();
        let key = (coordinate.clone(), event_id);
        let last = pauses.get(&key).map(|pause| pause.length * 2);
        if last.is_none() && pauses.len() >= PAUSES_MAX {
            return;
        }
        let length = last.unwrap_or_default().clamp(*lengths.start(), *lengths.end());
        let pause = Pause {
            ends_at: Instant::now() + length,
            length,
            is_over: false,
        };
        pauses.insert(key, pause);
    }

    /// Ends the pauses of PRs whose refs were set.
    pub(super) fn end(&self, installed: &[Installation]) {
        let mut pauses = self.0.lock();
        for installation in installed {
            pauses.remove(&(installation.coordinate.clone(), installation.event_id));
        }
    }

    /// Lets the PRs of a repository be tried at once that `is_meant`: what they lacked may have come.
    pub(crate) fn skip(&self, coordinate: &Coordinate, is_meant: impl Fn(&EventId) -> bool) {
        let is_skipped = |(at, event_id): &(Coordinate, EventId)| at == coordinate && is_meant(event_id);
        self.0.lock().retain(|key, _| !is_skipped(key));
    }

    /// Returns those of a reconcile's PRs that are not to be tried now.
    pub(super) fn among(&self, scope: &FactsScope) -> BTreeSet<(Coordinate, EventId)> {
        let pauses = self.0.lock();
        let is_meant = |(_, event_id): &(Coordinate, EventId)| scope.pull_request_ids.contains(event_id);
        let now = Instant::now();
        let paused = pauses.iter().filter(|(_, pause)| pause.ends_at > now);
        paused.map(|(key, _)| key.clone()).filter(is_meant).collect()
    }

    /// Returns PRs whose pauses have ended and that are to be tried again, by repository: some of these.
    pub(crate) fn over(&self) -> BTreeMap<Coordinate, BTreeSet<EventId>> {
        let now = Instant::now();
        let mut pauses = self.0.lock();
        // How long the last one was is remembered for as long again: it was tried meanwhile.
        pauses.retain(|_, pause| !pause.is_over || pause.ends_at + pause.length + FORGOTTEN_AFTER > now);
        let mut over = BTreeMap::<_, BTreeSet<EventId>>::new();
        for ((coordinate, event_id), pause) in pauses.iter() {
            if over.len() < OVER_AT_ONCE && !pause.is_over && pause.ends_at <= now {
                over.entry(coordinate.clone()).or_default().insert(*event_id);
            }
        }
        over
    }

    /// Notes that these PRs are asked for, unless another pause has begun meanwhile.
    pub(crate) fn note_asked_for(&self, coordinate: &Coordinate, event_ids: &BTreeSet<EventId>) {
        let mut pauses = self.0.lock();
        for event_id in event_ids {
            if let Some(pause) = pauses.get_mut(&(coordinate.clone(), *event_id)) {
                pause.is_over = pause.ends_at <= Instant::now();
            }
        }
    }
}

/// In addition to the length of the pause itself: it takes a moment to be tried.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Repositories whose PRs are asked for in one step: other work waits meanwhile.
const OVER_AT_ONCE: usize = 16;

/// Pauses at a time. Beyond it a PR is tried again as soon as its repository is.
const PAUSES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_doubles_until_it_is_ended() {
        let coordinate: Coordinate = format!("30617:{}:r", "11".repeat(32)).parse().unwrap();
        let event_id = EventId::from_byte_array([1; 32]);
        let ids = BTreeSet::from([event_id]);
        let scope = FactsScope {
            pull_request_ids: ids.clone(),
            ..FactsScope::default()
        };
        let paused = PausedPullRequests::default();
        let lengths = Duration::from_secs(1)..=Duration::from_secs(5);
        for secs in [1, 2, 4, 5, 5] {
            paused.begin(&coordinate, event_id, lengths.clone());
            assert!(paused.over().is_empty());
            assert!(paused.among(&FactsScope::default()).is_empty());
            tokio::time::advance(Duration::from_secs(secs) - Duration::from_millis(1)).await;
            assert_eq!(paused.among(&scope).len(), 1, "{secs}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(paused.among(&scope).is_empty(), "{secs}");
            assert_eq!(paused.over(), [(coordinate.clone(), ids.clone())].into());
            paused.note_asked_for(&coordinate, &ids);
            assert!(paused.over().is_empty());
        }

        paused.begin(&coordinate, event_id, lengths.clone());
        paused.skip(&coordinate, |id| *id == event_id);
        assert!(paused.among(&scope).is_empty());
        paused.begin(&coordinate, event_id, lengths.clone());
        tokio::time::advance(*lengths.start()).await;
        assert_eq!(paused.over().len(), 1);
        paused.note_asked_for(&coordinate, &ids);
        tokio::time::advance(*lengths.start() + FORGOTTEN_AFTER).await;
        paused.over();
        assert!(paused.0.lock().is_empty());
    }
}
