//! Repositories about which there is more than is read for an answer.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::load_facts::FactLoader;
use crate::load_facts::FactsError;
use crate::load_facts::FactsScope;
use crate::nip34::Coordinate;

/// How much there is about repositories of events that were too large a moment ago. To measure it again takes as long,
/// and the relay's only writer waits meanwhile: so it is measured again only after many times as long.
#[derive(Debug, Clone, Default)]
pub struct TooLarge(Arc<Mutex<HashMap<Coordinate, KnownBytes>>>);

#[derive(Debug, Clone, Copy)]
struct KnownBytes {
    bytes: usize,
    until: Instant,
}

impl TooLarge {
    /// Finds out how much there is about each repository of an event that is too large, until it is too much together:
    /// other events may name some of them and others. The first attempt has begun at `began`.
    ///
    /// # Errors
    /// See [`FactsError`].
    pub(crate) async fn find(
        &self,
        loader: &FactLoader,
        scope: &FactsScope,
        bytes_max: usize,
        began: Instant,
    ) -> Result<(), FactsError> {
        let mut left = bytes_max;
        for coordinate in &scope.coordinates {
            let alone = FactsScope {
                coordinates: [coordinate.clone()].into(),
                ..scope.clone()
            };
            let bytes = match scope.coordinates.len() {
                1 => usize::MAX,
                _ => match loader.bytes_within(left, &alone).await {
                    Err(error) if error.is_too_large() => usize::MAX,
                    bytes => bytes?,
                },
            };
            self.note(coordinate, bytes, began.elapsed());
            let Some(rest) = left.checked_sub(bytes) else { break };
            left = rest;
        }
        Ok(())
    }

    /// Notes how much there is about a repository, and how long it took to find out.
    fn note(&self, coordinate: &Coordinate, bytes: usize, took: Duration) {
        let mut found = self.0.lock();
        if found.len() >= NOTED_MAX {
            found.retain(|_, found| found.until > Instant::now());
        }
        if found.len() < NOTED_MAX {
            let pause = took.saturating_mul(PAUSE_FACTOR).min(PAUSE_MAX);
            let until = Instant::now() + pause;
            found.insert(coordinate.clone(), KnownBytes { bytes, until });
        }
    }

    /// Returns how much is known to be about these repositories.
    pub(crate) fn bytes_of(&self, coordinates: &BTreeSet<Coordinate>) -> usize {
        let (found, now) = (self.0.lock(), Instant::now());
        let known = coordinates.iter().filter_map(|coordinate| found.get(coordinate));
        let known = known.filter(|found| found.until > now).map(|found| found.bytes);
        known.fold(0, usize::saturating_add)
    }
}

/// How many times as long as a measurement took its result is used, so that measuring takes at most 1/50 of the
/// writer's time.
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
        let found = TooLarge::default();
        let [large, other] = [coordinate(1, "r"), coordinate(2, "r")];
        let bytes_of = |coordinates: &[&Coordinate]| found.bytes_of(&coordinates.iter().copied().cloned().collect());

        found.note(&large, 9, Duration::MAX);
        assert_eq!(
            [bytes_of(&[&large]), bytes_of(&[&other]), bytes_of(&[&large, &other])],
            [9, 0, 9]
        );
        let until = found.0.lock().get(&large).unwrap().until;
        assert!(until <= Instant::now() + PAUSE_MAX);
        found.note(&other, usize::MAX, Duration::MAX);
        assert_eq!(bytes_of(&[&large, &other]), usize::MAX);

        found.note(&large, 9, Duration::ZERO);
        assert_eq!(bytes_of(&[&large]), 0);
    }

    #[test]
    fn so_many_are_known_and_no_more() {
        let found = TooLarge::default();
        let of = |number: usize| coordinate(1, &number.to_string());

        (0..=NOTED_MAX).for_each(|number| found.note(&of(number), 1, Duration::MAX));

        assert_eq!(
            [0, NOTED_MAX].map(|number| found.bytes_of(&[of(number)].into())),
            [1, 0]
        );
    }
}
