//! Slots for work that costs CPU and memory. A free slot goes to the address that has fewest, and of those with as few
//! to the one that got its last one longest ago. Where there is more than one slot, one address never has all of them,
//! so that its long work does not delay all others.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::address_group::address_group;
use shared::live::Live;
use tokio::sync::oneshot;

/// The slots of one kind of work. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    slots_max: Live<usize>,
    table: Arc<Mutex<SlotTable>>,
}

/// A slot; dropping it gives it to the next one.
#[must_use = "a slot that is dropped counts no more"]
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    payer: IpAddr,
    /// How many its payer had besides when it got this one, as far as that makes a difference.
    others: u8,
}

/// How much slots are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotLoad {
    /// How many there are.
    pub(crate) max: usize,
    /// How many are in use.
    pub(crate) used: usize,
    /// How many requests wait for one.
    pub(crate) waiting: usize,
    /// Of these two, those of the payer that has most slots.
    pub(crate) busiest_used: usize,
    pub(crate) busiest_waiting: usize,
    /// How many addresses have one.
    pub(crate) addresses: usize,
}

#[derive(Debug, Default)]
struct SlotTable {
    used: usize,
    used_by: HashMap<IpAddr, usize>,
    waiting: BTreeMap<u64, SlotRequest>,
    next_id: u64,
    /// How many slots were ever granted, and which of them was the last of each address that had one lately.
    granted: u64,
    last_granted: HashMap<IpAddr, u64>,
}

#[derive(Debug)]
struct SlotRequest {
    payer: IpAddr,
    granted: oneshot::Sender<()>,
}

/// A place in the queue, left when it is dropped; a slot that was granted meanwhile is given back.
struct QueuePlace<'s> {
    slots: &'s Slots,
    id: u64,
    payer: IpAddr,
    granted: oneshot::Receiver<()>,
    is_taken: bool,
}

impl Slots {
    pub(crate) fn new(slots_max: usize) -> Self {
        Self {
            slots_max: Live::new(slots_max),
            table: Arc::default(),
        }
    }

    /// Changes how many there are. Those in use stay.
    pub(crate) fn set_max(&self, slots_max: usize) {
        self.slots_max.set(slots_max);
        self.grant(&mut self.table.lock());
    }

    /// Waits for a slot, for work of a client at `address`.
    pub(crate) async fn acquire(&self, address: IpAddr) -> Slot {
        let mut place = self.queue(address_group(address));
        // An error cannot be: the sender stays in the table until it grants.
        drop((&mut place.granted).await);
        place.is_taken = true;
        let had = self.table.lock().used_by.get(&place.payer).copied();
        Slot {
            slots: self.clone(),
            payer: place.payer,
            others: had.map_or(0, |had| (had - 1).min(NICENESS_STEPS_MAX) as u8),
        }
    }

    fn queue(&self, payer: IpAddr) -> QueuePlace<'_> {
        let (sender, granted) = oneshot::channel();
        let mut table = self.table.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.waiting.insert(id, SlotRequest { payer, granted: sender });
        self.grant(&mut table);
        QueuePlace {
            slots: self,
            id,
            payer,
            granted,
            is_taken: false,
        }
    }

    /// Gives free slots to waiting requests, first to the address with fewest, then to the one whose last turn is
    /// longest ago, and in the order of arrival.
    fn grant(&self, table: &mut SlotTable) {
        let slots_max = self.slots_max.get();
        // At least a quarter is for others, where there is more than one.
        let per_payer_max = slots_max - slots_max.div_ceil(4).min(slots_max.saturating_sub(1));
        while table.used < slots_max {
            let used_by = |payer: IpAddr| table.used_by.get(&payer).copied().unwrap_or_default();
            let last_granted = |payer: IpAddr| table.last_granted.get(&payer).copied().unwrap_or_default();
            let next = table
                .waiting
                .iter()
                .map(|(id, waiting)| (used_by(waiting.payer), last_granted(waiting.payer), *id))
                .filter(|(used, _, _)| *used < per_payer_max)
                .min();
            let Some(waiting) = next.and_then(|(_, _, id)| table.waiting.remove(&id)) else {
                return;
            };
            table.count(waiting.payer);
            if waiting.granted.send(()).is_err() {
                table.release(waiting.payer);
            }
        }
    }

    fn give_back(&self, payer: IpAddr) {
        let mut table = self.table.lock();
        table.release(payer);
        self.grant(&mut table);
    }

    /// Returns how many are in use.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.table.lock().used
    }

    /// Returns their current use.
    pub(crate) fn load(&self) -> SlotLoad {
        let table = self.table.lock();
        let busiest = table.used_by.iter().max_by_key(|(_, used)| **used);
        let is_busiest = |request: &&SlotRequest| busiest.is_some_and(|(payer, _)| *payer == request.payer);
        SlotLoad {
            max: self.slots_max.get(),
            used: table.used,
            waiting: table.waiting.len(),
            busiest_used: busiest.map_or(0, |(_, used)| *used),
            busiest_waiting: table.waiting.values().filter(is_busiest).count(),
            addresses: table.used_by.len(),
        }
    }
}

impl Slot {
    /// Returns the niceness of a process that works in this slot. What one address runs at the same time shares the
    /// processor among itself, and delays others little: each more has a third of the time of the one before.
    pub(crate) fn niceness(&self) -> i32 {
        i32::from(self.others) * NICENESS_STEP
    }
}

/// Of `nice(1)`: Linux gives a process a third of the time of one that is less nice by so much.
const NICENESS_STEP: i32 = 5;
/// Beyond it all are equally nice, and before background work of git, which is nicest.
const NICENESS_STEPS_MAX: usize = 3;

impl SlotTable {
    fn count(&mut self, payer: IpAddr) {
        self.used += 1;
        *self.used_by.entry(payer).or_default() += 1;
        self.granted += 1;
        self.last_granted.insert(payer, self.granted);
        if self.last_granted.len() > REMEMBERED_MAX {
            let forgotten = self.granted - REMEMBERED_MAX as u64 / 2;
            self.last_granted.retain(|_, granted| *granted > forgotten);
        }
    }

    fn release(&mut self, payer: IpAddr) {
        self.used -= 1;
        if let Some(used) = self.used_by.get_mut(&payer) {
            *used -= 1;
            if *used == 0 {
                self.used_by.remove(&payer);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give_back(self.payer);
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let was_waiting = self.slots.table.lock().waiting.remove(&self.id).is_some();
        if !was_waiting {
            self.slots.give_back(self.payer);
        }
    }
}

/// Addresses of which it is remembered when they got a slot.
const REMEMBERED_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::select_all;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test]
    async fn one_address_never_has_all_slots() {
        let slots = Slots::new(4);
        let _held = [
            slots.acquire(address(1)).await,
            slots.acquire(address(1)).await,
            slots.acquire(address(1)).await,
        ];

        assert!(slots.acquire(address(1)).now_or_never().is_none());
        let others = slots.acquire(address(2)).now_or_never();

        assert!(others.is_some());
        assert!(slots.acquire(address(3)).now_or_never().is_none());
        assert!(Slots::new(1).acquire(address(1)).now_or_never().is_some());
        assert!(Slots::new(0).acquire(address(1)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_free_slot_goes_to_the_address_with_fewest() {
        let slots = Slots::new(2);
        let held = (slots.acquire(address(1)).await, slots.acquire(address(2)).await);
        let mut more = Box::pin(slots.acquire(address(1)));
        let mut gone = Box::pin(slots.acquire(address(3)));
        let mut first = Box::pin(slots.acquire(address(3)));
        for waiting in [&mut more, &mut gone, &mut first] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        drop(gone);

        drop(held.1);

        assert!(more.as_mut().now_or_never().is_none());
        let first = first.await;
        drop(held.0);
        drop((first, more.await));
        assert_eq!(slots.in_use(), 0);
        assert!(slots.table.lock().waiting.is_empty() && slots.table.lock().used_by.is_empty());
    }

    #[tokio::test]
    async fn the_only_slot_goes_to_the_address_whose_last_turn_is_longest_ago() {
        let slots = Slots::new(1);
        let mut held = slots.acquire(address(1)).await;
        let payers = [1, 1, 1, 2, 2, 3].map(address);
        let mut waiting: Vec<_> = payers.iter().map(|payer| Box::pin(slots.acquire(*payer))).collect();
        for waiting in &mut waiting {
            assert!(waiting.as_mut().now_or_never().is_none());
        }

        let mut turns = Vec::new();
        while !waiting.is_empty() {
            drop(held);
            let (slot, _, others) = select_all(waiting).await;
            turns.push(slot.payer);
            (held, waiting) = (slot, others);
        }

        assert_eq!(turns, [2, 3, 1, 2, 1, 1].map(address));
        drop(held);
        for number in 0..3 * REMEMBERED_MAX as u32 {
            drop(slots.acquire(IpAddr::V4(number.into())).await);
        }
        assert!(slots.table.lock().last_granted.len() <= REMEMBERED_MAX);
    }

    #[tokio::test]
    async fn a_slot_that_is_granted_to_who_has_gone_is_not_lost() {
        let slots = Slots::new(1);
        let held = slots.acquire(address(1)).await;
        let mut waiting = Box::pin(slots.acquire(address(2)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!(slots.in_use(), 1);

        drop(waiting);

        assert_eq!(slots.in_use(), 0);
    }

    #[tokio::test]
    async fn what_one_address_runs_besides_is_nicer_each_time() {
        let slots = Slots::new(8);
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(slots.acquire([192, 0, 2, 1].into()).await);
        }
        let other = slots.acquire([192, 0, 2, 2].into()).await;

        let nice: Vec<i32> = held.iter().map(Slot::niceness).collect();
        assert_eq!((nice, other.niceness()), (vec![0, 5, 10, 15, 15], 0));
        held.clear();
        assert_eq!(slots.acquire([192, 0, 2, 1].into()).await.niceness(), 0);
    }
}
