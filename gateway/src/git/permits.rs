//! Limits how many git commands run under the locks of repositories at once. git changes a ref in milliseconds, so a
//! holder of a lock waits for that. For a walk of objects nobody waits under a lock: it is tried again. The git of a
//! push runs in the slot of its check, and that of a fetch in its own.

use std::time::Duration;

use shared::live::Permits;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::git::error::GitError;

#[derive(Debug, Clone)]
pub(crate) struct CommandPermits {
    ref_changes: Permits,
    walks: Permits,
}

impl CommandPermits {
    /// Gives `count` permits of each kind.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            ref_changes: Permits::new(count),
            walks: Permits::new(count),
        }
    }

    pub(crate) fn set_max(&self, count: usize) {
        self.ref_changes.set_max(count);
        self.walks.set_max(count);
    }

    pub(crate) fn in_use(&self) -> usize {
        let in_use = |permits: &Permits| permits.max().saturating_sub(permits.free());
        in_use(&self.ref_changes) + in_use(&self.walks)
    }

    /// Waits for a permit to change refs, in the order of asking; dropping it gives it to the next one.
    ///
    /// # Errors
    /// [`GitError::Busy`] after `deadline`.
    pub(crate) async fn wait_to_change_refs(&self, deadline: Duration) -> Result<OwnedSemaphorePermit, GitError> {
        let permit = timeout(deadline, self.ref_changes.acquire()).await;
        permit.map_err(|_| GitError::Busy {
            command: "update-ref".to_owned(),
            waited: deadline,
        })
    }

    /// Takes a permit to read objects under a lock, if one is free.
    ///
    /// # Errors
    /// [`GitError::Busy`].
    pub(crate) fn try_walk(&self, subcommand: &str) -> Result<OwnedSemaphorePermit, GitError> {
        self.walks.acquire_now().ok_or_else(|| GitError::Busy {
            command: subcommand.to_owned(),
            waited: Duration::ZERO,
        })
    }
}
