//! The least rate of a transfer: a client that sends or takes more slowly is not waited for. Only the time that is
//! spent on waiting for the client counts.

use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout;

/// How slow a client may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeastRate {
    /// Bytes a second.
    pub(crate) bytes_per_sec: u64,
    /// How long a client may fall behind that rate: at its start, and again as far as it was faster.
    pub(crate) grace: Duration,
}

/// For how long one client is still waited for.
#[derive(Debug)]
pub(crate) struct Patience {
    rate: LeastRate,
    left: Duration,
}

/// A client was slower than the least rate. The text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slower than {} bytes a second for {} s", rate.bytes_per_sec, rate.grace.as_secs())]
pub(crate) struct TooSlow {
    rate: LeastRate,
}

impl LeastRate {
    /// Slower lines than this take a day for what servers keep; git may prepare a pack for a minute before it sends.
    pub(crate) const DEFAULT: Self = Self {
        bytes_per_sec: 4 << 10,
        grace: Duration::from_secs(120),
    };

    /// Begins a transfer.
    pub(crate) fn begin(self) -> Patience {
        Patience {
            rate: self,
            left: self.grace,
        }
    }
}

impl Patience {
    /// Waits for the client to send or to take some bytes.
    ///
    /// # Errors
    /// [`TooSlow`] once it has been waited for longer than the bytes that it moved allow.
    pub(crate) async fn wait<T>(&mut self, transfer: impl Future<Output = T>) -> Result<T, TooSlow> {
        let began = Instant::now();
        let transferred = timeout(self.left, transfer).await;
        self.left = self.left.saturating_sub(began.elapsed());
        transferred.map_err(|_| TooSlow { rate: self.rate })
    }

    /// Counts bytes that the client has moved. It saves no more than the grace: a fast start does not pay for hours of
    /// silence.
    pub(crate) fn moved(&mut self, bytes: usize) {
        let worth = bytes as u64 * 1_000_000 / self.rate.bytes_per_sec.max(1);
        self.left = self
            .left
            .saturating_add(Duration::from_micros(worth))
            .min(self.rate.grace);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tokio::time::sleep;

    use super::*;

    fn begin() -> Patience {
        let rate = LeastRate {
            bytes_per_sec: 100,
            grace: Duration::from_secs(10),
        };
        rate.begin()
    }

    async fn move_after(patience: &mut Patience, secs: u64, bytes: usize) -> bool {
        let waited = patience.wait(sleep(Duration::from_secs(secs))).await;
        patience.moved(bytes);
        waited.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_to_the_rate_may_take_any_time() {
        let mut patience = begin();
        for _ in 0..1000 {
            assert!(move_after(&mut patience, 5, 500).await);
            // Not the client's time.
            advance(Duration::from_secs(1000)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slower_ends_with_the_grace() {
        let mut patience = begin();
        let mut count = 0;
        while move_after(&mut patience, 2, 100).await {
            count += 1;
        }
        assert_eq!(count, 9);
        let silent = begin().wait(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(silent.to_string(), "slower than 100 bytes a second for 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_start_pays_for_the_grace_and_no_more() {
        let mut patience = begin();
        assert!(move_after(&mut patience, 0, 1_000_000).await);
        assert!(!move_after(&mut patience, 11, 1).await);
    }
}
