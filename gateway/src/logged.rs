//! Errors in log lines.

use std::error::Error;

/// Returns an error as the value of a field, so that the log also has its causes.
pub(crate) fn logged<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    error
}
