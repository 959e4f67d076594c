//! Limits how many git commands run under the locks of repositories at once. Nobody waits for one under a lock: what
//! finds no permit is tried again. The git of a push runs in the slot of its check, and that of a fetch in its own.

use shared::live::Permits;
use tokio::sync::OwnedSemaphorePermit;

use crate::git::error::GitError;

#[derive(Debug, Clone)]
pub(crate) struct CommandPermits(Permits);

impl CommandPermits {
    pub(crate) fn new(count: usize) -> Self {
        Self(Permits::new(count))
    }

    pub(crate) fn set_max(&self, count: usize) {
        self.0.set_max(count);
    }

    pub(crate) fn in_use(&self) -> usize {
        self.0.max().saturating_sub(self.0.free())
    }

    /// Takes a permit to run a git under a lock, if one is free.
    ///
    /// # Errors
    /// [`GitError::Busy`].
    pub(crate) fn try_take(&self, subcommand: &str) -> Result<OwnedSemaphorePermit, GitError> {
        self.0.acquire_now().ok_or_else(|| GitError::Busy {
            command: subcommand.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_that_finds_no_permit_is_refused_at_once() {
        let permits = CommandPermits::new(1);
        let taken = permits.try_take("rev-list").unwrap();

        let another = permits.try_take("pack-objects");

        assert!(matches!(another, Err(GitError::Busy { .. })), "{another:?}");
        assert_eq!(permits.in_use(), 1);
        drop(taken);
        assert_eq!(permits.in_use(), 0);
        assert!(permits.try_take("pack-objects").is_ok());
    }
}
