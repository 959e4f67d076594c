//! Who waits for a load: the addresses of all who have asked for it. The load takes a slot as soon as one of them may
//! have one, so that who asks for what a stranger has asked for before does not wait in that stranger's share.

use std::net::IpAddr;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shared::address_group::address_group;
use tokio::sync::watch;

use crate::fairness::slots::Slot;
use crate::fairness::slots::Slots;

#[derive(Debug)]
pub(crate) struct Askers(watch::Sender<Vec<IpAddr>>);

impl Askers {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self(watch::Sender::new(vec![address_group(address)]))
    }

    /// Adds somebody who waits for the same.
    pub(crate) fn add(&self, address: IpAddr) {
        let payer = address_group(address);
        self.0.send_if_modified(|payers| {
            let is_new = payers.len() < ASKERS_MAX && !payers.contains(&payer);
            if is_new {
                payers.push(payer);
            }
            is_new
        });
    }

    /// Waits for a slot in the share of any of them, also of those who come meanwhile.
    pub(crate) async fn acquire(&self, slots: &Slots) -> Slot {
        let mut payers = self.0.subscribe();
        let mut waiting = FuturesUnordered::new();
        loop {
            let new = payers.borrow_and_update()[waiting.len()..].to_vec();
            waiting.extend(new.into_iter().map(|payer| slots.acquire(payer)));
            tokio::select! {
                Some(slot) = waiting.next() => return slot,
                // The sender is here.
                _ = payers.changed() => {}
            }
        }
    }
}

/// Addresses in whose shares one load waits. A load is joined for a second, so that those who want somebody to wait in
/// their shares would have to ask for its repository from a thousand addresses in each second, before it does.
const ASKERS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test]
    async fn who_asks_for_the_same_waits_in_no_strangers_share() {
        let slots = Slots::new(4);
        let held = join_all((0..2).map(|_| slots.acquire(address(1)))).await;
        let askers = Askers::new(address(1));
        let mut waiting = Box::pin(askers.acquire(&slots));
        assert!(waiting.as_mut().now_or_never().is_none(), "the third is for others");

        askers.add(address(1));
        assert!(waiting.as_mut().now_or_never().is_none());
        askers.add(address(2));

        let slot = waiting
            .as_mut()
            .now_or_never()
            .expect("it has a slot in the share of the second");
        assert_eq!(slots.load().waiting, 0);
        drop((held, slot));
        assert_eq!(slots.load().used, 0);
    }

    #[tokio::test]
    async fn behind_many_strangers_with_slots_the_next_waits_in_his_own_share() {
        let slots = Slots::new(101);
        let held = join_all((0..100).map(|last| slots.acquire(address(last)))).await;
        let last = slots.acquire(address(250)).await;
        let askers = Askers::new(address(0));
        (1..100).for_each(|last| askers.add(address(last)));
        let mut waiting = Box::pin(askers.acquire(&slots));
        assert!(waiting.as_mut().now_or_never().is_none());

        askers.add(address(200));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut later = Box::pin(slots.acquire(address(251)));
        assert!(later.as_mut().now_or_never().is_none());
        drop(last);

        assert!(later.as_mut().now_or_never().is_none());
        assert!(waiting.as_mut().now_or_never().is_some());
        drop(held);
    }
}
