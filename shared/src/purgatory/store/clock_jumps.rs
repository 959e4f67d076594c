//! Jumps of the store's clock: Redis' host is set right, its machine was suspended, a replica whose clock differs takes
//! over. Time that did not pass ends nothing: a deadline that was jumped over is as far away as it was before.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use nostr::event::EventId;
use parking_lot::Mutex;

use crate::purgatory::entry::EntryStatus;
use crate::purgatory::reading::Reading;

/// The jumps that this process has noticed.
#[derive(Debug, Default)]
pub(super) struct ClockJumps {
    noticed: Mutex<Noticed>,
}

#[derive(Debug, Default)]
struct Noticed {
    /// What the store's clock showed last, and when that was.
    last: Option<(u64, Instant)>,
    jumps: Vec<Jump>,
}

/// From the expected to the actual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Jump {
    before: u64,
    after: u64,
}

/// Held events whose deadline was jumped over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spared {
    pub(super) event_ids: BTreeSet<EventId>,
    /// How far away the furthest of their deadlines is.
    pub(super) secs: u64,
}

impl ClockJumps {
    /// Puts off each deadline in `reading` that was jumped over, and returns the held events among them: in the store
    /// they are not put off yet, and another process does not know of the jump.
    pub(super) fn spare(&self, reading: &mut Reading) -> Spared {
        let mut noticed = self.noticed.lock();
        noticed.note(reading.now, Instant::now());
        let mut spared = Spared::default();
        for jump in &noticed.jumps {
            for entry in &mut reading.entries {
                let is_over = jump.put_off(&mut entry.deadline);
                if is_over && entry.status == EntryStatus::Held {
                    spared.event_ids.insert(entry.event.id);
                    spared.secs = spared.secs.max(entry.deadline.saturating_sub(reading.now));
                }
            }
            for placeholder in &mut reading.placeholders {
                jump.put_off(&mut placeholder.deadline);
            }
        }
        spared
    }
}

impl Noticed {
    fn note(&mut self, now: u64, at: Instant) {
        if let Some((last, then)) = self.last {
            let before = last.saturating_add(at.saturating_duration_since(then).as_secs());
            if now > before.saturating_add(LATE.as_secs()) {
                tracing::warn!(
                    secs = now - before,
                    "Redis' clock has jumped: deadlines are extended accordingly"
                );
                self.jumps.push(Jump { before, after: now });
                if self.jumps.len() > JUMPS_MAX {
                    self.jumps.remove(0);
                }
            }
        }
        self.last = Some((now, at));
    }
}

impl Jump {
    /// Extends a deadline by the length of the jump if it lies within it; returns whether it does.
    fn put_off(self, deadline: &mut u64) -> bool {
        let is_over = self.before < *deadline && *deadline <= self.after;
        if is_over {
            *deadline = deadline.saturating_add(self.after - self.before);
        }
        is_over
    }
}

/// How late an answer of the store may be, and how far clocks may drift apart between two of them.
const LATE: Duration = Duration::from_secs(30);

/// Jumps remembered. Deadlines within a jump are read, and so extended in the store, within minutes.
const JUMPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_what_passes_on_the_stores_clock_alone() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut noticed = Noticed::default();

        for (now, then) in [(1000, 0), (1029, 0), (4029, 3000), (4000, 3000), (4000, 3000)] {
            noticed.note(now, at(then));
        }
        assert_eq!(noticed.jumps, []);
        noticed.note(9000, at(3010));
        assert_eq!(
            noticed.jumps,
            [Jump {
                before: 4010,
                after: 9000
            }]
        );
        for number in 0..40 {
            noticed.note(10_000 * (number + 1), at(3010));
        }
        assert_eq!(noticed.jumps.len(), JUMPS_MAX);
    }

    #[test]
    fn only_what_was_jumped_over_is_put_off() {
        let jump = Jump {
            before: 100,
            after: 160,
        };
        for (deadline, put_off) in [(100, 100), (101, 161), (160, 220), (161, 161)] {
            let mut after = deadline;
            assert_eq!(jump.put_off(&mut after), deadline != put_off);
            assert_eq!(after, put_off);
        }
    }
}
