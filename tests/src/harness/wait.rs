//! Waiting for conditions, with a deadline.

use std::time::Duration;
use std::time::Instant;

/// Waits until something holds.
///
/// # Panics
/// It does not hold within thirty seconds.
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    within(Duration::from_secs(30), what, holds).await;
}

/// Waits until something holds.
///
/// # Panics
/// It does not hold in time.
pub async fn within(time: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in {time:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
