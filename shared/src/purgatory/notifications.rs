//! The hint that there is something to look at. Never more than a hint: what is to be done stands in the store.

use tokio::sync::watch;

/// Wakes whoever works on dirty identifiers and releasing entries. Wakings that nobody waited for melt into one; one
/// may come late, be lost, or mean nothing, so look from time to time without it.
#[derive(Debug)]
pub struct Notifications {
    /// Changes with every waking.
    wakings: watch::Receiver<u64>,
}

impl Notifications {
    pub(super) fn new(wakings: watch::Receiver<u64>) -> Self {
        Self { wakings }
    }

    /// Returns when something became dirty or releasing since the last call, or since this was made. Can be dropped at
    /// any time: nothing is lost.
    pub async fn next(&mut self) {
        if self.wakings.changed().await.is_err() {
            // The store is gone, and nothing will ever wake again.
            std::future::pending::<()>().await;
        }
    }
}
