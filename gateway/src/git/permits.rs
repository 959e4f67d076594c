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

    /// Waits for a permit, in the order of asking; dropping it gives it to the next one.
    ///
    /// # Errors
    /// [`GitError::Busy`] after `deadline`.
    pub(crate) async fn wait(&self, subcommand: &str, deadline: Duration) -> Result<OwnedSemaphorePermit, GitError> {
        let permit = timeout(deadline, Arc::clone(&self.free).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| GitError::Busy {
            command: subcommand.to_owned(),
            waited: deadline,
        })
    }
}
