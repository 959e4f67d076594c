//! Refusals, in the log and in the purgatory: one line for each, as long as they are few. A flood of them does not fill
//! the disk, and the lines of one source hide those of no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::purgatory::NotedRefusal;
use crate::purgatory::Purgatory;
use crate::purgatory::source_group;

/// Decides which refusals are logged. Clones count together.
#[derive(Clone)]
pub struct RefusalLog {
    counts: Arc<Mutex<Counts>>,
    purgatory: Purgatory,
}

/// The lines logged in one span of time.
#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    lines: u32,
    by_source: BTreeMap<String, u32>,
    left_out: u64,
}

/// Whether a refusal is logged.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Log,
    /// It is, and the next of this source in this span are not.
    LogLast,
    LeaveOut,
}

impl RefusalLog {
    /// Makes the log of a program that has this purgatory.
    pub fn new(purgatory: Purgatory) -> Self {
        let counts = Arc::default();
        Self { counts, purgatory }
    }

    /// Records a logged refusal where an operator finds it later. No caller waits for that, and the log has it if the
    /// purgatory does not answer. Must be called inside a tokio runtime.
    pub fn note(&self, refusal: NotedRefusal) {
        let purgatory = self.purgatory.clone();
        tokio::spawn(async move {
            if let Err(error) = purgatory.note_refusal(&refusal).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a refusal is only in the log");
            }
        });
    }

    /// Whether to log one more refusal of `source` (`IP4 203.0.113.7`). Notes in the log when lines are left out, and
    /// afterwards how many were.
    pub fn permits(&self, source: &str) -> bool {
        let (source, now) = (source_group(source), Instant::now());
        let (turn, left_out) = {
            let mut counts = self.counts.lock();
            let left_out = counts.begin(now);
            (counts.count(&source), left_out)
        };
        if left_out > 0 {
            tracing::info!(left_out, "refusals were left out of the log");
        }
        if turn == Turn::LogLast {
            tracing::info!(
                source = excerpt(&source),
                span_secs = SPAN.as_secs(),
                "many refusals: further ones are left out of the log"
            );
        }
        turn != Turn::LeaveOut
    }
}

impl Counts {
    /// Begins a new span if the last one is over, and returns how many refusals that left out.
    fn begin(&mut self, now: Instant) -> u64 {
        if self.since.is_some_and(|since| now.duration_since(since) < SPAN) {
            return 0;
        }
        let last = std::mem::take(self);
        self.since = Some(now);
        last.left_out
    }

    fn count(&mut self, source: &str) -> Turn {
        let of_source = self.by_source.get(source).copied().unwrap_or_default();
        if of_source >= LINES_PER_SOURCE || self.lines >= LINES_MAX {
            self.left_out += 1;
            return Turn::LeaveOut;
        }
        self.lines += 1;
        self.by_source.insert(source.to_owned(), of_source + 1);
        match of_source + 1 == LINES_PER_SOURCE || self.lines == LINES_MAX {
            true => Turn::LogLast,
            false => Turn::Log,
        }
    }
}

/// The start of `text`, as long as one line of the log should be.
pub fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// For so long lines are counted together.
const SPAN: Duration = Duration::from_secs(60);

/// Lines of one source in a span: more than a person who tries something makes.
const LINES_PER_SOURCE: u32 = 20;

/// Lines of all sources in a span; the same number of sources is remembered.
const LINES_MAX: u32 = 600;

/// Longest text of a client in one field of a line.
const TEXT_BYTES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_hides_nobody_elses() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        assert_eq!(counts.begin(start), 0);

        for _ in 1..LINES_PER_SOURCE {
            assert_eq!(counts.count("IP4 203.0.113.7"), Turn::Log);
        }
        assert_eq!(counts.count("IP4 203.0.113.7"), Turn::LogLast);
        for _ in 0..1_000 {
            assert_eq!(counts.count("IP4 203.0.113.7"), Turn::LeaveOut);
        }
        assert_eq!(counts.count("IP4 203.0.113.8"), Turn::Log);

        assert_eq!(counts.begin(start + SPAN / 2), 0);
        assert_eq!(counts.begin(start + SPAN), 1_000);
        assert_eq!(counts.count("IP4 203.0.113.7"), Turn::Log);
    }

    #[test]
    fn all_sources_together_have_a_bound() {
        let mut counts = Counts::default();
        let logged = (0..10_000).filter(|source| counts.count(&source.to_string()) != Turn::LeaveOut);

        assert_eq!(logged.count(), LINES_MAX as usize);
        assert_eq!(counts.by_source.len(), LINES_MAX as usize);
    }
}
