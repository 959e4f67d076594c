//! Counters of this process, for the metrics of the admin address.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Counts `N` things apart. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Meter<const N: usize>(Arc<[AtomicU64; N]>);

impl<const N: usize> Default for Meter<N> {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicU64::default())))
    }
}

impl<const N: usize> Meter<N> {
    /// Adds to the one at `place`; a `place` out of range is not counted.
    pub(crate) fn add(&self, place: usize, count: u64) {
        if let Some(counter) = self.0.get(place) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns all counts since the start.
    pub(crate) fn counts(&self) -> [u64; N] {
        std::array::from_fn(|place| self.0[place].load(Ordering::Relaxed))
    }
}

/// How long something took, by bounds. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    /// By the first bound that it is within; the last ones are beyond all.
    within: Meter<{ DURATION_BOUNDS.len() + 1 }>,
    micros: Meter<1>,
}

impl Durations {
    /// Counts one.
    pub(crate) fn add(&self, took: Duration) {
        let secs = took.as_secs_f64();
        self.within
            .add(DURATION_BOUNDS.iter().take_while(|bound| secs > **bound).count(), 1);
        self.micros.add(0, took.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// Returns how many were within each bound (and of what took less), how many there were, and their sum in seconds.
    pub(crate) fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let counts = self.within.counts();
        let mut sum = 0;
        let within = DURATION_BOUNDS.iter().zip(counts).map(|(bound, count)| {
            sum += count;
            (*bound, sum)
        });
        let within = within.collect();
        let [micros] = self.micros.counts();
        (within, counts.iter().sum(), micros as f64 / 1e6)
    }
}

/// In seconds: from a loopback answer to the patience of a person.
const DURATION_BOUNDS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_by_all_bounds_that_they_are_within() {
        let durations = Durations::default();
        for millis in [10, 70, 90_000] {
            durations.add(Duration::from_millis(millis));
        }

        let (within, count, secs) = durations.read();

        assert_eq!(within[..3], [(0.01, 1), (0.05, 1), (0.1, 2)]);
        assert_eq!((within.last(), count), (Some(&(60.0, 2)), 3));
        assert!((secs - 90.08).abs() < 1e-9, "{secs}");
        Meter::<1>::default().add(1, 1);
    }
}
