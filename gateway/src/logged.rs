//! Errors in log lines, and how often one that lasts is logged.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

/// Returns an error as the value of a field, so that the log also has its causes.
pub(crate) fn logged<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    error
}

/// What was logged of something that lasts, and is tried again meanwhile: each text at once, and then once a minute.
#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<BTreeMap<String, Instant>>);

impl Repeats {
    /// Whether a text is to be logged now; it counts as logged then.
    pub(crate) fn is_due(&self, text: String) -> bool {
        self.is_due_at(text, Instant::now())
    }

    /// Forgets what was logged: what comes next is new.
    pub(crate) fn end(&self) {
        self.0.lock().clear();
    }

    fn is_due_at(&self, text: String, now: Instant) -> bool {
        let mut logged = self.0.lock();
        logged.retain(|_, at| now.duration_since(*at) < LOGGED_EVERY);
        let is_due = !logged.contains_key(&text) && logged.len() < TEXTS_MAX;
        if is_due {
            logged.insert(text, now);
        }
        is_due
    }
}

const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// In a minute.
const TEXTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_logged_at_once_and_then_once_a_minute() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let is_due = |text: &str, secs| repeats.is_due_at(text.to_owned(), start + Duration::from_secs(secs));

        let due = [
            is_due("a", 0),
            is_due("a", 1),
            is_due("b", 2),
            is_due("a", 3),
            is_due("a", 60),
            is_due("b", 61),
            is_due("b", 62),
        ];

        assert_eq!(due, [true, false, true, false, true, false, true]);
        repeats.end();
        assert!(is_due("b", 63));
        assert_eq!(
            (0..99).filter(|text| is_due(&text.to_string(), 64)).count(),
            TEXTS_MAX - 1
        );
    }
}
