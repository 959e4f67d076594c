//! The slot of one git that answers a fetch. It is held while git works: a git that waits for its reader gives it back,
//! and one that has worked for long is halted while others with fewer slots wait for one. One slot is for those that
//! bring what a client lacks: they do not wait behind clones.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::fairness::shares::Shares;
use crate::fairness::slots::Slot;
use crate::fairness::slots::SlotLoad;
use crate::fairness::slots::SlotUse;
use crate::fairness::slots::Slots;
use crate::fetch::spool::FetchSpool;
use crate::process::LONG;
use crate::process::ProcessGroup;

#[derive(Debug, Clone)]
pub(super) struct FetchSlots {
    slots: Slots,
    /// How many git processes are halted.
    halted: Arc<AtomicUsize>,
}

/// What a fetch asks for, as far as it decides when it gets its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchKind {
    /// All that refs reach: work for git, and long.
    Clone,
    /// The new objects for a client that already has a part, or single objects.
    Incremental,
}

impl FetchSlots {
    /// Makes so many slots. All but one are for clones, if there is more than one.
    pub(super) fn new(slots_max: usize) -> Self {
        let slots = Self {
            slots: Slots::new(slots_max),
            halted: Arc::default(),
        };
        slots.set_max(slots_max);
        slots
    }

    /// Changes how many there are. Those in use stay.
    pub(super) fn set_max(&self, slots_max: usize) {
        self.slots
            .set_max_with_bulk(slots_max, slots_max.saturating_sub(1).max(1));
    }

    /// Waits for a slot for a fetch of a client at `address`.
    pub(super) async fn acquire(&self, kind: FetchKind, address: IpAddr) -> Slot {
        self.acquire_for(kind, false, address).await
    }

    async fn acquire_for(&self, kind: FetchKind, is_begun: bool, address: IpAddr) -> Slot {
        let is_bulk = kind == FetchKind::Clone;
        self.slots.acquire_for(SlotUse { is_bulk, is_begun }, address).await
    }

    /// Waits until others with fewer slots would get one that `address` has for such a fetch. Where as many git
    /// processes are halted as may be, only these count: none begins.
    async fn until_wanted(&self, kind: FetchKind, address: IpAddr) {
        let only_begun = || self.halted.load(Ordering::Relaxed) >= HALTED_MAX;
        let is_bulk = kind == FetchKind::Clone;
        self.slots.until_wanted(is_bulk, only_begun, address).await;
    }

    /// Gives back the slot of a git that is halted. It counts as halted until the returned value is dropped.
    fn halt(&self, given: Slot) -> Halted {
        self.halted.fetch_add(1, Ordering::Relaxed);
        drop(given);
        Halted(Arc::clone(&self.halted))
    }

    pub(super) fn load(&self) -> SlotLoad {
        self.slots.load()
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.slots.in_use()
    }
}

struct Halted(Arc<AtomicUsize>);

impl Drop for Halted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A slot that is given back while its git waits, or is halted because it has worked for long.
pub(super) struct YieldingSlot {
    slots: FetchSlots,
    kind: FetchKind,
    /// Those that wait.
    paused: Shares,
    reader: IpAddr,
    /// `None` while git waits or is halted.
    slot: Arc<Mutex<Option<Slot>>>,
    /// How long git has waited with this slot.
    waited: Duration,
}

impl YieldingSlot {
    pub(super) fn new(slots: FetchSlots, kind: FetchKind, slot: Slot, paused: Shares, reader: IpAddr) -> Self {
        Self {
            slots,
            kind,
            paused,
            reader,
            slot: Arc::new(Mutex::new(Some(slot))),
            waited: Duration::ZERO,
        }
    }

    /// Halts git whenever it has worked for long and others with fewer slots wait for one, until it gets a slot again.
    /// Never returns.
    pub(super) fn share(&self, mut git: ProcessGroup) -> impl Future<Output = Infallible> + Send + 'static {
        let (slots, slot) = (self.slots.clone(), Arc::clone(&self.slot));
        let (kind, reader) = (self.kind, self.reader);
        async move {
            loop {
                sleep(LONG).await;
                if slot.lock().is_none() {
                    continue;
                }
                slots.until_wanted(kind, reader).await;
                let Some(given) = slot.lock().take() else {
                    continue;
                };
                git.halt();
                let halted = slots.halt(given);
                let again = slots.acquire_for(kind, true, reader).await;
                drop(halted);
                *slot.lock() = Some(again);
                git.resume();
            }
        }
    }

    /// Adds bytes of git to an answer. While there is no room for them git waits: after a moment without its slot.
    ///
    /// # Errors
    /// Too many git processes wait, and no other address has more of them.
    pub(super) async fn add(&mut self, spool: &FetchSpool, bytes: &Bytes) -> io::Result<()> {
        while !spool.offer(bytes).await {
            let begun = Instant::now();
            // All waits count together: a reader that takes a little now and then does not keep the slot.
            let pauses_at = begun + PAUSE_AFTER.saturating_sub(self.waited);
            if timeout_at(pauses_at, spool.taken()).await.is_err() {
                self.waited = Duration::ZERO;
                // Halted, it has none.
                if let Some(slot) = self.take() {
                    drop(slot);
                    return self.pause(spool, bytes).await;
                }
            }
            self.waited += begun.elapsed();
        }
        Ok(())
    }

    fn take(&self) -> Option<Slot> {
        self.slot.lock().take()
    }

    async fn pause(&mut self, spool: &FetchSpool, bytes: &Bytes) -> io::Result<()> {
        let slot = self.slots.acquire_for(self.kind, true, self.reader);
        let slot = add_when_read(&self.paused, self.reader, spool, bytes, slot).await?;
        *self.slot.lock() = Some(slot);
        Ok(())
    }
}

/// Adds bytes to an answer for which there is no room before its reader has taken more, and does what comes `then`.
/// Meanwhile it is one of those that are `paused`.
///
/// # Errors
/// Too many wait so, and no other address has more of them.
pub(super) async fn add_when_read<T>(
    paused: &Shares,
    reader: IpAddr,
    spool: &FetchSpool,
    bytes: &Bytes,
    then: impl Future<Output = T>,
) -> io::Result<T> {
    let too_many = || io::Error::other("too many fetches wait for slow readers");
    let claim = paused.enter(reader).map_err(|_| too_many())?;
    let added = async {
        while !spool.offer(bytes).await {
            spool.taken().await;
        }
        then.await
    };
    tokio::select! {
        done = added => Ok(done),
        () = claim.ended() => Err(too_many()),
    }
}

/// Git processes that are halted at the same time, in memory. Beyond it they take turns, and none begins before one has
/// ended.
const HALTED_MAX: usize = 8;

/// By then, a reader on a fast line has taken everything in memory.
pub(super) const PAUSE_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Stdio;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::fairness::shares::ShareLimits;
    use crate::process::ChildLimits;
    use crate::process::ChildProcess;
    use crate::process::command;
    use crate::repositories::layout::Layout;

    /// Each wait had a second of its own: a reader that took a little in each of them kept the slot for hours.
    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_little_now_and_then_does_not_keep_the_slot() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let claims = || {
            Shares::new(ShareLimits {
                claims_max: 1,
                bytes_max: 0,
            })
        };
        let (slots, reader) = (FetchSlots::new(1), IpAddr::from([192, 0, 2, 1]));
        let slot = slots.acquire(FetchKind::Incremental, reader).await;
        let mut slow = YieldingSlot::new(slots.clone(), FetchKind::Incremental, slot, claims(), reader);
        let claim = Arc::new(claims().enter(reader).unwrap());
        let mut answer = FetchSpool::begin(layout, &claim, 0, None);
        let spool = Arc::clone(answer.spool());
        let writes = async {
            loop {
                slow.add(&spool, &Bytes::from(vec![1; 64 << 10])).await.unwrap();
            }
        };
        let reads = async {
            loop {
                sleep(PAUSE_AFTER / 4).await;
                answer.next().await.unwrap().unwrap();
            }
        };
        let others = slots.acquire(FetchKind::Incremental, IpAddr::from([192, 0, 2, 2]));

        tokio::select! {
            never = async { tokio::join!(writes, reads) } => unreachable!("{never:?}"),
            got = timeout(20 * PAUSE_AFTER, others) => drop(got.unwrap()),
        }
    }

    /// Two addresses had all slots for as long as their git processes worked.
    #[tokio::test]
    async fn long_work_is_halted_while_others_with_fewer_slots_wait() {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let paused = Shares::new(ShareLimits {
            claims_max: 1,
            bytes_max: 0,
        });
        let slots = FetchSlots::new(1);
        let slot = slots.acquire(FetchKind::Clone, address(1)).await;
        let long = YieldingSlot::new(slots.clone(), FetchKind::Clone, slot, paused, address(1));
        let mut command = command(Path::new("/bin/sleep"));
        command.arg("1000");
        let limits = ChildLimits::GIT_COMMAND;
        let git = ChildProcess::spawn(command, "sleep".to_owned(), Stdio::null(), limits).unwrap();
        let sharing = tokio::spawn(long.share(git.group()));
        let is_halted = async |expected: bool| {
            let waits = async {
                while git.is_halted() != expected {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(20), waits).await.expect("in time");
        };
        let _same = tokio::spawn({
            let slots = slots.clone();
            async move { slots.acquire(FetchKind::Clone, address(1)).await }
        });
        sleep(3 * LONG).await;
        is_halted(false).await;

        let other = slots.acquire(FetchKind::Clone, address(2)).await;

        is_halted(true).await;
        assert!(long.take().is_none());
        drop(other);
        is_halted(false).await;
        // It goes on before what has not begun.
        let has_slot = async {
            while long.slot.lock().is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), has_slot).await.expect("in time");
        let _other = slots.acquire(FetchKind::Clone, address(2)).await;
        is_halted(true).await;
        sharing.abort();
        is_halted(false).await;
    }

    #[tokio::test]
    async fn a_small_fetch_does_not_wait_behind_clones() {
        let slots = FetchSlots::new(2);
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let _clone = slots.acquire(FetchKind::Clone, address(1)).await;
        let mut next = Box::pin(slots.acquire(FetchKind::Clone, address(2)));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(slots.load().waiting, 1);

        let part = slots.acquire(FetchKind::Incremental, address(3)).now_or_never();

        assert!(part.is_some());
        assert!(next.now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_single_slot_is_for_everything() {
        let slots = FetchSlots::new(1);
        let reader = IpAddr::from([192, 0, 2, 1]);

        drop(slots.acquire(FetchKind::Clone, reader).await);

        assert!(slots.acquire(FetchKind::Incremental, reader).now_or_never().is_some());
    }
}
