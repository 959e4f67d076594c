//! Limits how many git commands run under the locks of repositories at once. git changes a ref in milliseconds, so a
//! holder of a lock waits for that. For a walk of objects nobody waits under a lock: it is tried again. The git of a
//! push runs in the slot of its check, and that of a fetch in its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::git::error::GitError;

#[derive(Debug, Clone)]
pub(crate) struct CommandPermits {
    count: usize,
    ref_changes: Arc<Semaphore>,
    walks: Arc<Semaphore>,
}

impl CommandPermits {
    /// Gives `count` permits of each kind.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count,
            ref_changes: Arc::new(Semaphore::new(count)),
            walks: Arc::new(Semaphore::new(count)),
        }
    }

    pub(crate) fn in_use(&self) -> usize {
        2 * self.count - self.ref_changes.available_permits() - self.walks.available_permits()
    }

    /// Waits for a permit to change refs, in the order of asking; dropping it gives it to the next one.
    ///
    /// # Errors
    /// [`GitError::Busy`] after `deadline`.
    pub(crate) async fn wait_to_change_refs(&self, deadline: Duration) -> Result<OwnedSemaphorePermit, GitError> {
        let permit = timeout(deadline, Arc::clone(&self.ref_changes).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| GitError::Busy {
            command: "update-ref".to_owned(),
            waited: deadline,
        })
    }

    /// Takes a permit to read objects under a lock, if one is free.
    ///
    /// # Errors
    /// [`GitError::Busy`].
    pub(crate) fn try_walk(&self, subcommand: &str) -> Result<OwnedSemaphorePermit, GitError> {
        let permit = Arc::clone(&self.walks).try_acquire_owned();
        permit.map_err(|_| GitError::Busy {
            command: subcommand.to_owned(),
            waited: Duration::ZERO,
        })
    }
}
