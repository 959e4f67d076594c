//! How long each operation of the honest user took, and what failed.

use std::time::Duration;

/// What an honest user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// Connects to the relay, sends a state and hears that it is held.
    Publish,
    /// Pushes what the state declares.
    Push,
    /// Clones the repository anew and finds what was pushed.
    Clone,
    /// Opens the page of the repository.
    Page,
    /// Hears of an issue by a subscription, from the moment when it is sent.
    Live,
}

impl Operation {
    /// All of them, in the order of the columns.
    pub(super) const ALL: [Self; 5] = [Self::Publish, Self::Push, Self::Clone, Self::Page, Self::Live];

    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Push => "push",
            Self::Clone => "clone",
            Self::Page => "page",
            Self::Live => "live",
        }
    }
}

/// What came of some rounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    took: Vec<(Operation, Duration)>,
    /// What failed, and why.
    pub(super) failures: Vec<(Operation, String)>,
}

impl Times {
    pub(super) fn took(&mut self, operation: Operation, time: Duration) {
        self.took.push((operation, time));
    }

    /// Returns the time that 95 of 100 did not exceed: of fewer than 20 the longest. `None`: none succeeded.
    pub(super) fn p95(&self, operation: Operation) -> Option<Duration> {
        let mut times: Vec<_> = self.took.iter().filter(|(done, _)| *done == operation).collect();
        times.sort_unstable();
        let rank = (times.len() * 95).div_ceil(100);
        Some(times.get(rank.checked_sub(1)?)?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_95th_of_100_is_reported_and_of_few_the_longest() {
        let mut times = Times::default();
        assert_eq!(times.p95(Operation::Page), None);
        for millis in (1..=100).rev() {
            times.took(Operation::Page, Duration::from_millis(millis));
        }
        times.took(Operation::Push, Duration::from_secs(7));
        times.took(Operation::Push, Duration::from_secs(5));

        assert_eq!(times.p95(Operation::Page), Some(Duration::from_millis(95)));
        assert_eq!(times.p95(Operation::Push), Some(Duration::from_secs(7)));
    }
}
