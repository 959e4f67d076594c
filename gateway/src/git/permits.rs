//! Limits how many short git commands (update-ref, rev-list, pack-objects) run at once. Each runs under the lock of an
//! identifier, so there is at most one for each push that is being finished and for each reconcile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::git::error::GitError;

#[derive(Debug, Clone)]
pub(crate) struct CommandPermits {
    count: usize,
    free: Arc<Semaphore>,
}

/// A permit for one git command; dropping it gives it to the next one.
#[must_use = "a permit that is dropped counts no more"]
#[derive(Debug)]
pub(crate) struct CommandPermit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl CommandPermits {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count,
            free: Arc::new(Semaphore::new(count)),
        }
    }

    pub(crate) fn in_use(&self) -> usize {
        self.count - self.free.available_permits()
    }

    /// Waits for a permit, in the order of asking.
    ///
    /// # Errors
    /// [`GitError::Busy`] after `deadline`.
    pub(crate) async fn wait(&self, subcommand: &str, deadline: Duration) -> Result<CommandPermit, GitError> {
        match timeout(deadline, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(CommandPermit(permit)),
            Ok(Err(_)) | Err(_) => Err(GitError::Busy {
                command: subcommand.to_owned(),
                waited: deadline,
            }),
        }
    }
}
