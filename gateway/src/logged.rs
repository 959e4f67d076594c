//! Errors in log lines.

use std::error::Error;

/// Returns an error as the value of a field, by which the log has what has caused it too.
pub(crate) fn logged<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    error
}
