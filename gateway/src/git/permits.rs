//! Limits how many short git commands (update-ref, rev-list, pack-objects) run at once. Each runs under the lock of an
//! identifier, so there is at most one for each push that is being finished and for each reconcile.

use std::time::Duration;

use shared::live::Permits;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

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

    /// Waits for a permit, in the order of asking; dropping it gives it to the next one.
    ///
    /// # Errors
    /// [`GitError::Busy`] after `deadline`.
    pub(crate) async fn wait(&self, subcommand: &str, deadline: Duration) -> Result<OwnedSemaphorePermit, GitError> {
        let permit = timeout(deadline, self.0.acquire()).await;
        permit.map_err(|_| GitError::Busy {
            command: subcommand.to_owned(),
            waited: deadline,
        })
    }
}
