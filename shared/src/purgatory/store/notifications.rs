//! Notifications that there is something to reconcile or to publish. Only hints: the work to do is in the store.

use tokio::sync::watch;

/// Notifies of dirty coordinates and of entries that are releasing or due. Notifications coalesce and may be late, lost
/// or spurious: poll as well.
#[derive(Debug)]
pub struct Notifications {
    /// Changes with every notification.
    count: watch::Receiver<u64>,
}

impl Notifications {
    pub(super) fn new(count: watch::Receiver<u64>) -> Self {
        Self { count }
    }

    /// Returns when something changed since the last call, or since this was made. Cancel safe.
    pub async fn next(&mut self) {
        if self.count.changed().await.is_err() {
            // The store is gone, and nothing will ever change again.
            std::future::pending::<()>().await;
        }
    }
}
