//! Why a command of the operator failed.

use std::error::Error;

use shared::purgatory::PurgatoryError;

use crate::redis_mends::mend_of;

/// A failed command, for the operator who reads it on the terminal; the program does not distinguish failures.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub(crate) struct CommandError {
    failure: String,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl CommandError {
    /// A failure that explains itself.
    pub(crate) fn new(failure: impl Into<String>) -> Self {
        Self {
            failure: failure.into(),
            cause: None,
        }
    }

    /// Returns what makes a failure of its cause.
    pub(crate) fn because<E>(failure: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let failure = failure.into();
        move |cause| Self {
            failure,
            cause: Some(cause.into()),
        }
    }
}

impl From<PurgatoryError> for CommandError {
    /// Adds the correction.
    fn from(error: PurgatoryError) -> Self {
        let mend = mend_of(&causes(&error));
        Self::because(format!("cannot use the purgatory: {mend}"))(error)
    }
}

/// Writes an error with those of its causes that it does not repeat.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
