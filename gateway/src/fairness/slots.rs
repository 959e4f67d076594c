//! Slots for work that costs CPU, memory or the only connection to something. A free slot goes to the payer, an address
//! or an author, that has fewest, and of those with as few to the one that has waited longest, since it came or since
//! it gave its last slot back: those that wait are delayed by each other for one turn, and not by those who come later.
//! A payer gets one more only where more are free than it has: about half of all by itself, half of the rest beside one
//! that has these, and so on, so that the long work of few does not delay all others.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use nostr::key::PublicKey;
use parking_lot::Mutex;
use shared::address_group::address_group;
use tokio::sync::Notify;
use tokio::sync::oneshot;

/// The slots of one kind of work. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Slots<P: Payer = IpAddr>(Arc<SlotQueue<P>>);

/// Whose work it is: an address, or the author of events.
pub(crate) trait Payer: Eq + Hash + Copy {
    /// Returns whose slots count together with this one's.
    fn share(self) -> Self;
}

impl Payer for IpAddr {
    fn share(self) -> Self {
        address_group(self)
    }
}

impl Payer for PublicKey {
    fn share(self) -> Self {
        self
    }
}

/// For which work a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SlotUse {
    /// Work that may not have all slots.
    pub(crate) is_bulk: bool,
    /// It had a slot before, and continues before its payer's other work begins.
    pub(crate) is_begun: bool,
}

/// A slot; dropping it gives it to the next one.
#[must_use = "a slot that is dropped counts no more"]
#[derive(Debug)]
pub(crate) struct Slot<P: Payer = IpAddr> {
    slots: Slots<P>,
    payer: P,
    is_bulk: bool,
    /// How many slots its payer had already when it got this one, at most [`NICENESS_STEPS_MAX`].
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
    /// How many payers have one.
    pub(crate) payers: usize,
}

#[derive(Debug)]
struct SlotQueue<P> {
    table: Mutex<SlotTable<P>>,
    changed: Notify,
}

#[derive(Debug)]
struct SlotTable<P> {
    slots_max: usize,
    /// How many of them bulk work may have.
    bulk_max: usize,
    used: usize,
    used_by_bulk: usize,
    used_by: HashMap<P, usize>,
    waiting: BTreeMap<u64, SlotRequest<P>>,
    /// Counts requests and grants: the order of what happened.
    clock: u64,
}

#[derive(Debug)]
struct SlotRequest<P> {
    payer: P,
    slot_use: SlotUse,
    /// When it came, or when its payer gave a slot back last, if that is later.
    waits_since: u64,
    granted: oneshot::Sender<()>,
}

/// A place in the queue, left when it is dropped; a slot that was granted meanwhile is given back.
struct QueuePlace<'s, P: Payer> {
    slots: &'s Slots<P>,
    id: u64,
    payer: P,
    is_bulk: bool,
    granted: oneshot::Receiver<()>,
    is_taken: bool,
}

impl<P: Payer> Slots<P> {
    pub(crate) fn new(slots_max: usize) -> Self {
        let table = SlotTable {
            slots_max,
            bulk_max: slots_max,
            used: 0,
            used_by_bulk: 0,
            used_by: HashMap::new(),
            waiting: BTreeMap::new(),
            clock: 0,
        };
        Self(Arc::new(SlotQueue {
            table: Mutex::new(table),
            changed: Notify::new(),
        }))
    }

    /// Changes how many there are. Those in use beyond it are not taken from their payers.
    pub(crate) fn set_max(&self, slots_max: usize) {
        self.set_max_with_bulk(slots_max, slots_max);
    }

    /// The same, where bulk work may have only so many.
    pub(crate) fn set_max_with_bulk(&self, slots_max: usize, bulk_max: usize) {
        let mut table = self.0.table.lock();
        (table.slots_max, table.bulk_max) = (slots_max, bulk_max);
        table.grant();
        drop(table);
        self.0.changed.notify_waiters();
    }

    /// Waits for a slot.
    pub(crate) async fn acquire(&self, payer: P) -> Slot<P> {
        self.acquire_for(SlotUse::default(), payer).await
    }

    /// Waits for a slot for such work.
    pub(crate) async fn acquire_for(&self, slot_use: SlotUse, payer: P) -> Slot<P> {
        let payer = payer.share();
        let mut place = self.queue(slot_use, payer);
        // An error cannot be: the sender stays in the table until it grants.
        drop((&mut place.granted).await);
        place.is_taken = true;
        let had = self.0.table.lock().used_by.get(&payer).copied();
        Slot {
            slots: self.clone(),
            payer,
            is_bulk: slot_use.is_bulk,
            others: had.map_or(0, |had| (had - 1).min(NICENESS_STEPS_MAX) as u8),
        }
    }

    fn queue(&self, slot_use: SlotUse, payer: P) -> QueuePlace<'_, P> {
        let (sender, granted) = oneshot::channel();
        let mut table = self.0.table.lock();
        let id = table.tick();
        let own = table.waiting.values().filter(|request| request.payer == payer);
        let waits_since = match slot_use.is_begun {
            true => own.map(|request| request.waits_since).min().unwrap_or(id),
            false => id,
        };
        let request = SlotRequest {
            payer,
            slot_use,
            waits_since,
            granted: sender,
        };
        table.waiting.insert(id, request);
        table.grant();
        drop(table);
        self.0.changed.notify_waiters();
        QueuePlace {
            slots: self,
            id,
            payer,
            is_bulk: slot_use.is_bulk,
            granted,
            is_taken: false,
        }
    }

    fn give_back(&self, payer: P, is_bulk: bool) {
        let mut table = self.0.table.lock();
        table.release(payer, is_bulk);
        table.grant();
        drop(table);
        self.0.changed.notify_waiters();
    }

    /// Waits until somebody with fewer slots would get one that `payer` gives back; with `only_begun`, somebody whose
    /// work has begun.
    pub(crate) async fn until_wanted(&self, is_bulk: bool, only_begun: impl Fn() -> bool, payer: P) {
        let payer = payer.share();
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.0.table.lock().would_get_from(payer, is_bulk, only_begun()) {
                return;
            }
            changed.await;
        }
    }

    /// Returns how many are in use.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.0.table.lock().used
    }

    /// Returns their current use.
    pub(crate) fn load(&self) -> SlotLoad {
        let table = self.0.table.lock();
        let busiest = table.used_by.iter().max_by_key(|(_, used)| **used);
        let is_busiest = |request: &&SlotRequest<P>| busiest.is_some_and(|(payer, _)| *payer == request.payer);
        SlotLoad {
            max: table.slots_max,
            used: table.used,
            waiting: table.waiting.len(),
            busiest_used: busiest.map_or(0, |(_, used)| *used),
            busiest_waiting: table.waiting.values().filter(is_busiest).count(),
            payers: table.used_by.len(),
        }
    }
}

impl<P: Payer> Slot<P> {
    /// Returns the niceness of a process that works in this slot. What one payer runs at the same time shares the
    /// processor among itself, and delays others little: each more has a third of the time of the one before.
    pub(crate) fn niceness(&self) -> i32 {
        i32::from(self.others) * NICENESS_STEP
    }
}

/// Of `nice(1)`: Linux gives a process a third of the time of one that is less nice by so much.
const NICENESS_STEP: i32 = 5;
/// Beyond it all are equally nice, and before background work of git, which is nicest.
const NICENESS_STEPS_MAX: usize = 3;

impl<P: Payer> SlotTable<P> {
    fn grant(&mut self) {
        while self.used < self.slots_max
            && let Some(next) = self.next()
            && let Some(waiting) = self.waiting.remove(&next)
        {
            let is_bulk = waiting.slot_use.is_bulk;
            self.count(waiting.payer, is_bulk);
            if waiting.granted.send(()).is_err() {
                self.release(waiting.payer, is_bulk);
            }
        }
    }

    /// Returns which request is next, if its payer may have one more. Else no other may: their payers have as many.
    fn next(&self) -> Option<u64> {
        let rank = |(id, request): (&u64, &SlotRequest<P>)| {
            let used = self.used_by.get(&request.payer).copied().unwrap_or_default();
            (used, request.waits_since, !request.slot_use.is_begun, *id)
        };
        let is_possible =
            |(_, request): &(&u64, &SlotRequest<P>)| !request.slot_use.is_bulk || self.used_by_bulk < self.bulk_max;
        let (used, _, _, id) = self.waiting.iter().filter(is_possible).map(rank).min()?;
        (used < self.slots_max.saturating_sub(self.used)).then_some(id)
    }

    /// Whether somebody with fewer slots would get one that `payer` gives back.
    fn would_get_from(&self, payer: P, is_bulk: bool, only_begun: bool) -> bool {
        let used_by = |payer| self.used_by.get(&payer).copied().unwrap_or_default();
        let free = (self.slots_max + 1).saturating_sub(self.used);
        let used_by_bulk = self.used_by_bulk.saturating_sub(usize::from(is_bulk));
        let would_get = |request: &SlotRequest<P>| {
            let used = used_by(request.payer);
            let is_possible = !request.slot_use.is_bulk || used_by_bulk < self.bulk_max;
            let is_possible = is_possible && (request.slot_use.is_begun || !only_begun);
            is_possible && request.payer != payer && used < used_by(payer) && used < free
        };
        self.waiting.values().any(would_get)
    }

    fn count(&mut self, payer: P, is_bulk: bool) {
        self.used += 1;
        self.used_by_bulk += usize::from(is_bulk);
        *self.used_by.entry(payer).or_default() += 1;
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn release(&mut self, payer: P, is_bulk: bool) {
        self.used -= 1;
        self.used_by_bulk -= usize::from(is_bulk);
        let now = self.tick();
        for request in self.waiting.values_mut().filter(|request| request.payer == payer) {
            request.waits_since = now;
        }
        if let Some(used) = self.used_by.get_mut(&payer) {
            *used -= 1;
            if *used == 0 {
                self.used_by.remove(&payer);
            }
        }
    }
}

impl<P: Payer> Drop for Slot<P> {
    fn drop(&mut self) {
        self.slots.give_back(self.payer, self.is_bulk);
    }
}

impl<P: Payer> Drop for QueuePlace<'_, P> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let was_waiting = self.slots.0.table.lock().waiting.remove(&self.id).is_some();
        if !was_waiting {
            self.slots.give_back(self.payer, self.is_bulk);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::select_all;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    async fn until_wanted(slots: &Slots, is_bulk: bool, payer: IpAddr) {
        slots.until_wanted(is_bulk, || false, payer).await;
    }

    #[tokio::test]
    async fn one_more_is_for_who_has_fewer_than_are_free() {
        for (slots_max, shares) in [
            (0, [0, 0, 0]),
            (1, [1, 0, 0]),
            (2, [1, 1, 0]),
            (4, [2, 1, 1]),
            (9, [5, 2, 1]),
        ] {
            let slots = Slots::new(slots_max);
            let mut held = Vec::new();
            let mut had = [0; 3];
            for (payer, had) in had.iter_mut().enumerate() {
                while let Some(slot) = slots.acquire(address(payer as u8)).now_or_never() {
                    held.push(slot);
                    *had += 1;
                }
            }
            assert_eq!(had, shares, "{slots_max}");
        }
    }

    #[tokio::test]
    async fn bulk_work_has_only_a_part_and_begun_work_goes_on_first() {
        let slots = Slots::new(0);
        slots.set_max_with_bulk(3, 1);
        let [bulk, begun] = [false, true].map(|is_begun| SlotUse {
            is_bulk: true,
            is_begun,
        });
        let held = slots.acquire_for(bulk, address(1)).await;
        let mut new = Box::pin(slots.acquire_for(bulk, address(2)));
        let mut again = Box::pin(slots.acquire_for(begun, address(2)));
        assert!(new.as_mut().now_or_never().is_none());
        assert!(again.as_mut().now_or_never().is_none());
        assert!(until_wanted(&slots, true, address(1)).now_or_never().is_some());
        let begun_only = slots.until_wanted(true, || true, address(1));
        assert!(begun_only.now_or_never().is_some());
        let other = slots.acquire(address(3)).now_or_never().expect("it is no bulk work");
        assert!(until_wanted(&slots, false, address(3)).now_or_never().is_none());

        drop(held);

        assert!(new.as_mut().now_or_never().is_none());
        drop(again.now_or_never().expect("it has begun"));
        drop(new.now_or_never());
        // Without a slot: it asks all the same.
        let mut new = Box::pin(slots.acquire_for(bulk, address(2)));
        let held = new.as_mut().now_or_never();
        let mut third = Box::pin(slots.acquire_for(bulk, address(4)));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(slots.until_wanted(true, || true, address(2)).now_or_never().is_none());
        assert!(slots.until_wanted(true, || false, address(2)).now_or_never().is_some());
        drop((held, third));
        assert!(until_wanted(&slots, true, address(2)).now_or_never().is_none());
        drop(other);
        assert_eq!(slots.in_use(), 0);
    }

    #[tokio::test]
    async fn a_slot_is_wanted_by_who_has_fewer() {
        let slots = Slots::new(4);
        let _many = [slots.acquire(address(1)).await, slots.acquire(address(1)).await];
        let _one = slots.acquire(address(2)).await;
        let mut same = Box::pin(slots.acquire(address(1)));
        let mut second = Box::pin(slots.acquire(address(2)));
        assert!(same.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        // One is free, and for somebody else: the second would get it if another were.
        let mut wanted_of_one = Box::pin(until_wanted(&slots, false, address(2)));
        assert!(until_wanted(&slots, false, address(1)).now_or_never().is_some());
        assert!(wanted_of_one.as_mut().now_or_never().is_none());
        drop(second);
        let mut wanted_of_many = Box::pin(until_wanted(&slots, false, address(1)));
        assert!(wanted_of_many.as_mut().now_or_never().is_none());

        let _third = slots.acquire(address(3)).await;
        let mut fourth = Box::pin(slots.acquire(address(4)));
        assert!(fourth.as_mut().now_or_never().is_none());

        assert!(wanted_of_one.now_or_never().is_some());
        assert!(wanted_of_many.now_or_never().is_some());
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
        assert!(slots.0.table.lock().waiting.is_empty() && slots.0.table.lock().used_by.is_empty());
    }

    /// Returns who gets the only slot, in order, when `payers` come while the first of them has it.
    async fn turns(payers: &[u8]) -> Vec<IpAddr> {
        let slots = Slots::new(1);
        let mut held = slots.acquire(address(payers[0])).await;
        let waiting = payers[1..].iter().map(|payer| Box::pin(slots.acquire(address(*payer))));
        let mut waiting: Vec<_> = waiting.collect();
        for waiting in &mut waiting {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let mut turns = Vec::new();
        while !waiting.is_empty() {
            drop(held);
            (held, _, waiting) = select_all(waiting).await;
            turns.push(held.payer);
        }
        turns
    }

    #[tokio::test]
    async fn who_has_much_to_do_has_no_more_turns_than_others() {
        let turns = turns(&[1, 1, 1, 1, 2, 2, 3]).await;

        assert_eq!(turns, [2, 3, 1, 2, 1, 1].map(address));
    }

    #[tokio::test]
    async fn who_comes_later_does_not_delay_who_waits() {
        let slots = Slots::new(1);
        let held = slots.acquire(address(0)).await;
        let mut patient = Box::pin(slots.acquire(address(0)));
        let mut gives_up = Box::pin(slots.acquire(address(1)));
        let mut waits = Box::pin(slots.acquire(address(2)));
        for waiting in [&mut patient, &mut gives_up, &mut waits] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        drop((gives_up, held));

        let held = waits.await;
        let mut later: Vec<_> = (1..9).map(|last| Box::pin(slots.acquire(address(last)))).collect();
        for later in &mut later {
            assert!(later.as_mut().now_or_never().is_none());
        }
        drop(held);

        assert!(patient.as_mut().now_or_never().is_some());
        assert!(later[0].as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn more_slots_go_to_who_waits_and_fewer_are_taken_from_nobody() {
        let slots = Slots::new(2);
        let held = (slots.acquire(address(1)).await, slots.acquire(address(2)).await);
        let mut waiting = Box::pin(slots.acquire(address(3)));
        assert!(waiting.as_mut().now_or_never().is_none());

        slots.set_max(3);
        let third = waiting.as_mut().now_or_never().expect("one more is free");
        slots.set_max(1);

        assert_eq!((slots.load().used, slots.load().max), (3, 1));
        drop((held.0, third));
        assert!(
            slots.acquire(address(4)).now_or_never().is_none(),
            "one is in use still"
        );
        drop(held.1);
        assert!(slots.acquire(address(4)).now_or_never().is_some());
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
        let slots: Slots = Slots::new(10);
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
