//! How much of the relay's reading one address may occupy, whatever the number of its connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use shared::address_group::address_group;
use tokio::sync::Semaphore;

#[derive(Debug, Default)]
pub(super) struct ReadShares {
    by_address: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl ReadShares {
    /// Returns the share of an address, which its connections have together; a connection without one has its own.
    pub(super) fn of(&self, address: Option<IpAddr>) -> Arc<Semaphore> {
        let new = || Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
        let Some(address) = address else {
            return new();
        };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        by_address.retain(|_, share| share.strong_count() > 0);
        let share = by_address.entry(address_group(address)).or_default();
        share.upgrade().unwrap_or_else(|| {
            let made = new();
            *share = Arc::downgrade(&made);
            made
        })
    }
}

/// Requests of one address that are answered at the same time. Each has a page of events in memory.
const REQUESTS_AT_ONCE: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_address_share_and_others_do_not() {
        let shares = ReadShares::default();
        let of = |address: &str| shares.of(Some(address.parse().unwrap()));

        let first = of("2001:db8::1");
        let _permit = Arc::clone(&first).try_acquire_many_owned(2).unwrap();

        assert_eq!(of("2001:db8::ffff").available_permits(), 0);
        assert_eq!(of("2001:db8:0:1::1").available_permits(), 2);
        assert_eq!(shares.of(None).available_permits(), 2);
        drop(first);
        drop(_permit);
        assert_eq!(of("2001:db8::1").available_permits(), 2);
        assert_eq!(shares.by_address.lock().unwrap().len(), 1);
    }
}
