//! What a command beside the server ends with.

use std::process::ExitCode;

/// The answer of a command and its exit status: a failure if the question is answered with no.
pub(crate) struct CommandAnswer {
    pub(crate) text: String,
    pub(crate) code: ExitCode,
}

impl From<String> for CommandAnswer {
    fn from(text: String) -> Self {
        Self {
            text,
            code: ExitCode::SUCCESS,
        }
    }
}
