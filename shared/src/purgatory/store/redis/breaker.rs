//! Whether Redis is used at all: not while it fails or is slow, so that nothing waits for it. Only decides;
//! `connection.rs` measures and asks.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Opens at a failure, or when several answers in a row are slow; a probe closes it again.
pub(super) struct Breaker {
    slow: Duration,
    is_open: AtomicBool,
    slowness: Mutex<Slowness>,
}

#[derive(Default)]
struct Slowness {
    in_a_row: u32,
    /// When the last of them came.
    last_at: Option<Instant>,
}

impl Breaker {
    /// Makes a closed one. Answers that take longer than `slow` are slow.
    pub(super) fn new(slow: Duration) -> Self {
        Self {
            slow,
            is_open: AtomicBool::new(false),
            slowness: Mutex::default(),
        }
    }

    /// Whether Redis is not to be asked.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether an answer that took this long is slow.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        took > self.slow
    }

    /// Notes an answer, and returns whether that opened it. Calls that wait at the same time wait for the same flush,
    /// so only a call made after a slow answer counts as another one.
    pub(super) fn note_answer(&self, asked_at: Instant, answered_at: Instant) -> bool {
        let mut slowness = self.slowness.lock();
        if !self.is_slow(answered_at - asked_at) {
            *slowness = Slowness::default();
            return false;
        }
        if slowness.last_at.is_some_and(|last_at| asked_at < last_at) {
            return false;
        }
        slowness.in_a_row += 1;
        slowness.last_at = Some(answered_at);
        slowness.in_a_row >= SLOW_IN_A_ROW && self.note_failure()
    }

    /// Notes a failure, and returns whether that opened it.
    pub(super) fn note_failure(&self) -> bool {
        !self.is_open.swap(true, Ordering::Relaxed)
    }

    /// Lets Redis be asked again.
    pub(super) fn close(&self) {
        *self.slowness.lock() = Slowness::default();
        self.is_open.store(false, Ordering::Relaxed);
    }
}

/// More than one: a single late flush of Redis to its disk refuses no event.
const SLOW_IN_A_ROW: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(50);

    /// Answers that come one after the other. Returns whether the last one opened the breaker.
    struct Answers<'a>(&'a Breaker, Instant);

    impl Answers<'_> {
        fn next(&mut self, took: Duration) -> bool {
            let asked_at = self.1;
            self.1 += took;
            self.0.note_answer(asked_at, self.1)
        }
    }

    #[test]
    fn a_failure_opens_it_at_once_and_is_reported_once() {
        let breaker = Breaker::new(SLOW);
        assert!(!breaker.is_open());

        assert!(breaker.note_failure());

        assert!(breaker.is_open());
        assert!(!breaker.note_failure());
        breaker.close();
        assert!(!breaker.is_open());
        assert!(breaker.note_failure());
    }

    #[test]
    fn only_slow_answers_in_a_row_open_it() {
        let breaker = Breaker::new(SLOW);
        let mut answers = Answers(&breaker, Instant::now());
        for _ in 0..3 {
            for _ in 1..SLOW_IN_A_ROW {
                assert!(!answers.next(2 * SLOW));
            }
            assert!(!answers.next(SLOW), "not slower than allowed");
        }

        for _ in 1..SLOW_IN_A_ROW {
            assert!(!answers.next(2 * SLOW));
        }
        assert!(answers.next(2 * SLOW));

        assert!(breaker.is_open());
        assert!(!answers.next(2 * SLOW), "it is open already");
    }

    /// One late flush delays every call made meanwhile.
    #[test]
    fn many_that_waited_together_count_as_one() {
        let breaker = Breaker::new(SLOW);
        let begin = Instant::now();
        for count in 0..10 * SLOW_IN_A_ROW {
            let asked_at = begin + Duration::from_millis(u64::from(count));
            assert!(!breaker.note_answer(asked_at, begin + 10 * SLOW));
        }

        assert!(!breaker.is_open());
    }

    #[test]
    fn it_closes_with_a_new_count() {
        let breaker = Breaker::new(SLOW);
        let mut answers = Answers(&breaker, Instant::now());
        for _ in 0..SLOW_IN_A_ROW {
            answers.next(2 * SLOW);
        }

        breaker.close();

        assert!(!answers.next(2 * SLOW));
        assert!(!breaker.is_open());
    }
}
