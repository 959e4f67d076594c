//! The slot of one git that answers a fetch. It is held while git works: a git that waits for its reader gives it back,
//! and so does one that has worked for long, if others wait for a slot. One slot is for those that bring what a client
//! lacks: they do not wait behind clones.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Duration;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::fairness::shares::Shares;
use crate::fairness::slots::Slot;
use crate::fairness::slots::SlotLoad;
use crate::fairness::slots::Slots;
use crate::fetch::spool::FetchSpool;
use crate::process::LONG;

#[derive(Debug, Clone)]
pub(super) struct FetchSlots {
    all: Slots,
    /// How many of them clones may have.
    clones: Slots,
}

/// What a fetch asks for, as far as it decides when it gets its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FetchKind {
    /// All that refs reach: work for git, and long.
    Clone,
    /// The new objects for a client that already has a part, or single objects.
    Part,
}

/// The slot of one fetch. Dropped, the next one gets it.
#[must_use = "a slot that is dropped is free"]
pub(super) struct FetchSlot {
    _among_clones: Option<Slot>,
    among_all: Slot,
}

impl FetchSlot {
    /// As that of its slot among all.
    pub(super) fn niceness(&self) -> i32 {
        self.among_all.niceness()
    }
}

impl FetchSlots {
    /// Makes so many slots. All but one are for clones, if there is more than one.
    pub(super) fn new(slots_max: usize) -> Self {
        Self {
            all: Slots::new(slots_max),
            clones: Slots::new(of_clones(slots_max)),
        }
    }

    /// Changes how many there are. Those in use stay.
    pub(super) fn set_max(&self, slots_max: usize) {
        self.all.set_max(slots_max);
        self.clones.set_max(of_clones(slots_max));
    }

    /// Waits for a slot for a fetch of a client at `address`.
    pub(super) async fn acquire(&self, kind: FetchKind, address: IpAddr) -> FetchSlot {
        let among_clones = match kind {
            FetchKind::Clone => Some(self.clones.acquire(address).await),
            FetchKind::Part => None,
        };
        FetchSlot {
            _among_clones: among_clones,
            among_all: self.all.acquire(address).await,
        }
    }

    /// Waits until others would get a slot for such a fetch that is given back by `address`.
    async fn is_wanted(&self, kind: FetchKind, address: IpAddr) {
        let among_clones = async {
            match kind {
                FetchKind::Clone => self.clones.is_wanted(address).await,
                FetchKind::Part => pending().await,
            }
        };
        tokio::select! {
            () = self.all.is_wanted(address) => {}
            () = among_clones => {}
        }
    }

    pub(super) fn load(&self) -> SlotLoad {
        let (load, clones) = (self.all.load(), self.clones.load());
        SlotLoad {
            waiting: load.waiting + clones.waiting,
            busiest_waiting: load.busiest_waiting + clones.busiest_waiting,
            ..load
        }
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.all.in_use()
    }
}

fn of_clones(slots_max: usize) -> usize {
    slots_max.saturating_sub(1).max(1)
}

/// A slot that is given back while its git waits, or when it has worked for long.
pub(super) struct YieldingSlot {
    slots: FetchSlots,
    kind: FetchKind,
    /// Those that wait.
    paused: Shares,
    /// Those that have worked for long, and gave their slots to others.
    long: Shares,
    reader: IpAddr,
    held: Arc<Mutex<HeldSlot>>,
    /// How long git has waited with this slot.
    waited: Duration,
}

enum HeldSlot {
    Own {
        _slot: FetchSlot,
    },
    /// Given back while git waits for its reader.
    Paused,
    /// Given back for good.
    GivenUp,
}

impl YieldingSlot {
    pub(super) fn new(
        slots: FetchSlots,
        kind: FetchKind,
        slot: FetchSlot,
        [paused, long]: [Shares; 2],
        reader: IpAddr,
    ) -> Self {
        Self {
            slots,
            kind,
            paused,
            long,
            reader,
            held: Arc::new(Mutex::new(HeldSlot::Own { _slot: slot })),
            waited: Duration::ZERO,
        }
    }

    /// Gives the slot up when git has worked for long and others with fewer want it; it is nicer than short ones by
    /// then. Returns when it has to end: others need its place among those that did, too.
    pub(super) fn given_up_when_long(&self) -> impl Future<Output = io::Error> + Send + 'static {
        let (slots, long, held) = (self.slots.clone(), self.long.clone(), Arc::clone(&self.held));
        let (kind, reader) = (self.kind, self.reader);
        async move {
            loop {
                sleep(LONG).await;
                slots.is_wanted(kind, reader).await;
                if !matches!(*held.lock(), HeldSlot::Own { .. }) {
                    continue;
                }
                match long.enter(reader) {
                    Ok(claim) => {
                        *held.lock() = HeldSlot::GivenUp;
                        claim.ended().await;
                        return too_many();
                    }
                    Err(_) if long.claims_of(reader) >= LONG_KEPT => return too_many(),
                    Err(_) => {}
                }
            }
        }
    }

    /// Adds bytes of git to an answer. While there is no room for them git waits: after a moment without its slot.
    ///
    /// # Errors
    /// Too many gits wait, and no other address has more of them.
    pub(super) async fn add(&mut self, spool: &FetchSpool, bytes: &Bytes) -> io::Result<()> {
        while !spool.offer(bytes).await {
            let begun = Instant::now();
            // All waits count together: a reader that takes a little now and then does not keep the slot.
            let pauses_at = begun + PAUSE_AFTER.saturating_sub(self.waited);
            if timeout_at(pauses_at, spool.taken()).await.is_err() {
                self.waited = Duration::ZERO;
                return self.pause(spool, bytes).await;
            }
            self.waited += begun.elapsed();
        }
        Ok(())
    }

    async fn pause(&mut self, spool: &FetchSpool, bytes: &Bytes) -> io::Result<()> {
        if !self.give_back() {
            while !spool.offer(bytes).await {
                spool.taken().await;
            }
            return Ok(());
        }
        let slot = self.slots.acquire(self.kind, self.reader);
        let slot = add_when_read(&self.paused, self.reader, spool, bytes, slot).await?;
        *self.held.lock() = HeldSlot::Own { _slot: slot };
        Ok(())
    }

    /// Gives the slot back until git goes on; false: it has given it up.
    fn give_back(&self) -> bool {
        let mut held = self.held.lock();
        let had = matches!(*held, HeldSlot::Own { .. });
        if had {
            *held = HeldSlot::Paused;
        }
        had
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

fn too_many() -> io::Error {
    io::Error::other("too many fetches of this address take long, or wait for slow readers")
}

/// An address with so many long fetches loses one more where there is no place for it and others wait.
const LONG_KEPT: usize = 2;

/// By then, a reader on a fast line has taken everything in memory.
pub(super) const PAUSE_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::fairness::shares::ShareLimits;
    use crate::repositories::layout::Layout;

    /// Each wait had a second of its own: whoever took a little in each of them kept the slot for hours.
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
        let slot = slots.acquire(FetchKind::Part, reader).await;
        let mut slow = YieldingSlot::new(slots.clone(), FetchKind::Part, slot, [claims(), claims()], reader);
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
        let others = slots.acquire(FetchKind::Part, IpAddr::from([192, 0, 2, 2]));

        tokio::select! {
            never = async { tokio::join!(writes, reads) } => unreachable!("{never:?}"),
            got = tokio::time::timeout(20 * PAUSE_AFTER, others) => drop(got.unwrap()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_work_gives_its_slot_to_who_waits() {
        let places = Shares::new(ShareLimits {
            claims_max: 2,
            bytes_max: 0,
        });
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let slots = FetchSlots::new(1);
        let begin = async |last| {
            let slot = slots.acquire(FetchKind::Clone, address(last)).await;
            let shares = [places.clone(), places.clone()];
            YieldingSlot::new(slots.clone(), FetchKind::Clone, slot, shares, address(last))
        };
        let first = begin(1).await;
        let mut given_up = Box::pin(first.given_up_when_long());
        let mut same = Box::pin(begin(1));
        let a_while = async || sleep(6 * LONG).await;

        tokio::select! {
            _ = &mut given_up => unreachable!(),
            _ = &mut same => unreachable!("nobody else waits"),
            () = a_while() => drop(same),
        }
        let second = tokio::select! {
            _ = &mut given_up => unreachable!("it goes on without a slot"),
            second = begin(2) => second,
        };
        assert!(!first.give_back());
        let also = places.enter(address(1)).unwrap();
        // No place is left, and who has the slot has none of them: one of whom has two ends.
        let mut kept = Box::pin(second.given_up_when_long());
        let third = tokio::select! {
            _ = &mut kept => unreachable!("it goes on without a slot"),
            third = begin(3) => third,
        };
        also.ended().await;
        // Each has one, and the third none.
        let mut keeps_slot = Box::pin(third.given_up_when_long());
        let mut fourth = Box::pin(begin(4));
        tokio::select! {
            _ = &mut given_up => unreachable!(),
            _ = &mut kept => unreachable!(),
            _ = &mut keeps_slot => unreachable!("nobody has more"),
            _ = &mut fourth => unreachable!("no slot is free"),
            () = a_while() => {}
        }
        drop((given_up, kept, keeps_slot, fourth, third));
        // Of an address that has all places, it ends.
        let _both = [1, 1].map(|last| places.enter(address(last)).unwrap());
        let more = begin(1).await;
        let mut ends = Box::pin(more.given_up_when_long());
        let mut fourth = Box::pin(begin(4));
        tokio::select! {
            error = &mut ends => assert!(error.to_string().contains("take long")),
            _ = &mut fourth => unreachable!("no slot is free"),
            () = a_while() => unreachable!("it keeps the slot"),
        }
    }

    #[tokio::test]
    async fn a_small_fetch_does_not_wait_behind_clones() {
        let slots = FetchSlots::new(2);
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let _clone = slots.acquire(FetchKind::Clone, address(1)).await;
        let mut next = Box::pin(slots.acquire(FetchKind::Clone, address(2)));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(slots.load().waiting, 1);

        let part = slots.acquire(FetchKind::Part, address(3)).now_or_never();

        assert!(part.is_some());
        assert!(next.now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_single_slot_is_for_everything() {
        let slots = FetchSlots::new(1);
        let reader = IpAddr::from([192, 0, 2, 1]);

        drop(slots.acquire(FetchKind::Clone, reader).await);

        assert!(slots.acquire(FetchKind::Part, reader).now_or_never().is_some());
    }
}
