//! Repositories about which there is more than is read for an answer.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::nip34::Coordinate;

/// What was found to be too large a moment ago, by the coordinates of an event. To find it out again takes as long, and
/// whoever waits for the relay's only writer waits too: so it is looked at again only after many times as long.
#[derive(Debug, Clone, Default)]
pub struct TooLarge(Arc<Mutex<HashMap<BTreeSet<Coordinate>, Instant>>>);

impl TooLarge {
    /// Notes what was found out, and how long that took.
    pub(crate) fn note(&self, coordinates: &BTreeSet<Coordinate>, took: Duration) {
        let mut found = self.0.lock();
        if found.len() >= NOTED_MAX {
            found.retain(|_, until| *until > Instant::now());
        }
        if found.len() < NOTED_MAX {
            let pause = took.saturating_mul(PAUSE_FACTOR).min(PAUSE_MAX);
            found.insert(coordinates.clone(), Instant::now() + pause);
        }
    }

    /// Whether it was found to be too large a moment ago.
    pub(crate) fn is_known(&self, coordinates: &BTreeSet<Coordinate>) -> bool {
        let found = self.0.lock();
        found.get(coordinates).is_some_and(|until| *until > Instant::now())
    }
}

/// One part in so many of the writer's time goes into finding out about one repository.
const PAUSE_FACTOR: u32 = 50;
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Repositories that are known: each took long.
const NOTED_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::coordinate;

    #[test]
    fn what_was_too_large_is_known_for_many_times_as_long_as_it_took() {
        let (found, other) = (TooLarge::default(), [coordinate(2, "r")].into());
        let large = BTreeSet::from([coordinate(1, "r")]);

        found.note(&large, Duration::MAX);
        assert!(found.is_known(&large) && !found.is_known(&other));
        let until = *found.0.lock().get(&large).unwrap();
        assert!(until <= Instant::now() + PAUSE_MAX);

        found.note(&large, Duration::ZERO);
        assert!(!found.is_known(&large));
    }

    #[test]
    fn so_many_are_known_and_no_more() {
        let found = TooLarge::default();
        let of = |number: usize| BTreeSet::from([coordinate(1, &number.to_string())]);

        (0..=NOTED_MAX).for_each(|number| found.note(&of(number), Duration::MAX));

        assert!(found.is_known(&of(0)) && !found.is_known(&of(NOTED_MAX)));
    }
}
