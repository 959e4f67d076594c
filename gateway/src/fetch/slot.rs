//! The slot of one git that answers a fetch. It is held while git works: a git that waits for its reader gives it back.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use tokio::time::Duration;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::fairness::shares::Shares;
use crate::fairness::slots::Slot;
use crate::fairness::slots::Slots;
use crate::fetch::spool::FetchSpool;

/// A slot that is given back while its git waits.
pub(super) struct FetchSlot {
    /// What it is one of.
    pub(super) slots: Slots,
    /// The places of gits that wait.
    pub(super) paused: Shares,
    /// Whose fetch it is.
    pub(super) reader: IpAddr,
    /// `None` while git waits.
    pub(super) slot: Option<Slot>,
}

impl FetchSlot {
    /// Adds bytes of git to an answer. While there is no room for them git waits: after a moment without its slot.
    ///
    /// # Errors
    /// Too many gits wait, and no other address has more of them.
    pub(super) async fn add(&mut self, spool: &FetchSpool, bytes: &Bytes) -> io::Result<()> {
        let pauses_at = Instant::now() + PAUSE_AFTER;
        while !spool.offer(bytes).await {
            if timeout_at(pauses_at, spool.taken()).await.is_err() {
                return self.pause(spool, bytes).await;
            }
        }
        Ok(())
    }

    async fn pause(&mut self, spool: &FetchSpool, bytes: &Bytes) -> io::Result<()> {
        let too_many = || io::Error::other("too many fetches wait for slow readers");
        let place = self.paused.enter(self.reader).map_err(|_| too_many())?;
        self.slot = None;
        let resumed = async {
            while !spool.offer(bytes).await {
                spool.taken().await;
            }
            self.slots.acquire(self.reader).await
        };
        let slot = tokio::select! {
            slot = resumed => slot,
            () = place.ended() => return Err(too_many()),
        };
        self.slot = Some(slot);
        Ok(())
    }
}

/// A reader on a fast line has taken what is in memory by then.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
