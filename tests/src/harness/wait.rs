//! Waiting for conditions, with a deadline.

use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::net::ToSocketAddrs;

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

/// Whether somebody listens at an address. Not whether it can be connected to: where nobody listens, the system may
/// give a connection the very port that it goes to, and connect it with itself.
pub async fn is_listened_at(address: impl ToSocketAddrs) -> bool {
    match TcpStream::connect(address).await {
        Ok(connection) => connection.local_addr().ok() != connection.peer_addr().ok(),
        Err(_) => false,
    }
}
