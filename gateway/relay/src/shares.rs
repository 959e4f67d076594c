//! How much of the relay one address may occupy, whatever the number of its connections: requests that are answered,
//! and open subscriptions.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Weak;

use parking_lot::Mutex;
use shared::address_group::address_group;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use crate::limits::RelayLimits;

#[derive(Debug, Default)]
pub(super) struct AddressShares {
    limits: RelayLimits,
    by_address: Mutex<HashMap<IpAddr, Weak<AddressShare>>>,
}

#[derive(Debug)]
pub(super) struct AddressShare {
    /// Each has a page of events in memory.
    pub(super) requests: Semaphore,
    open_bytes: Arc<Semaphore>,
    open_filters: Arc<Semaphore>,
}

/// What the subscriptions of one connection may occupy.
#[derive(Debug)]
pub(super) struct ConnectionShare {
    pub(super) of_address: Arc<AddressShare>,
    open_bytes: Arc<Semaphore>,
    limits: RelayLimits,
}

/// The right to what an open subscription occupies.
#[derive(Debug)]
pub(super) struct Occupied {
    _permits: [OwnedSemaphorePermit; 3],
}

/// What is to be opened is too much; the texts are for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooManyFilters {
    #[error("too many filters: the subscriptions of a connection may take {0} bytes")]
    BytesOfConnection(u32),
    #[error("too many filters: the subscriptions of all connections of your address may take {0} bytes")]
    BytesOfAddress(u32),
    #[error("too many filters: all connections of your address may have {0} open")]
    OfAddress(u32),
}

impl AddressShares {
    pub(super) fn new(limits: RelayLimits) -> Self {
        let by_address = Mutex::default();
        Self { limits, by_address }
    }

    /// Returns the share of a new connection; one without an address shares with no other.
    pub(super) fn of(&self, address: Option<IpAddr>) -> ConnectionShare {
        ConnectionShare {
            of_address: self.of_address(address),
            open_bytes: Arc::new(Semaphore::new(self.limits.open_bytes_max as usize)),
            limits: self.limits,
        }
    }

    fn of_address(&self, address: Option<IpAddr>) -> Arc<AddressShare> {
        let new = || {
            Arc::new(AddressShare {
                requests: Semaphore::new(REQUESTS_AT_ONCE),
                open_bytes: Arc::new(Semaphore::new(self.limits.open_bytes_per_address_max as usize)),
                open_filters: Arc::new(Semaphore::new(self.limits.open_filters_per_address_max as usize)),
            })
        };
        let Some(address) = address else {
            return new();
        };
        let mut by_address = self.by_address.lock();
        by_address.retain(|_, share| share.strong_count() > 0);
        let share = by_address.entry(address_group(address)).or_default();
        share.upgrade().unwrap_or_else(|| {
            let made = new();
            *share = Arc::downgrade(&made);
            made
        })
    }
}

impl ConnectionShare {
    /// Takes what a subscription of that size occupies, without waiting.
    pub(super) fn occupy(&self, bytes: usize, filters: usize) -> Result<Occupied, TooManyFilters> {
        let RelayLimits {
            open_bytes_max,
            open_bytes_per_address_max,
            open_filters_per_address_max,
            ..
        } = self.limits;
        let of_address = &self.of_address;
        let take = |from: &Arc<Semaphore>, many: usize, otherwise| {
            let many = u32::try_from(many).map_err(|_| otherwise)?;
            Arc::clone(from).try_acquire_many_owned(many).map_err(|_| otherwise)
        };
        let connection = TooManyFilters::BytesOfConnection(open_bytes_max);
        let address = TooManyFilters::BytesOfAddress(open_bytes_per_address_max);
        let address_filters = TooManyFilters::OfAddress(open_filters_per_address_max);
        Ok(Occupied {
            _permits: [
                take(&self.open_bytes, bytes, connection)?,
                take(&of_address.open_bytes, bytes, address)?,
                take(&of_address.open_filters, filters, address_filters)?,
            ],
        })
    }
}

/// Requests of one address that are answered at the same time.
const REQUESTS_AT_ONCE: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_address_share_and_others_do_not() {
        let shares = AddressShares::default();
        let of = |address: &str| shares.of(Some(address.parse().unwrap()));

        let first = of("2001:db8::1");
        let permit = first.of_address.requests.try_acquire_many(2).unwrap();

        let requests = |share: ConnectionShare| share.of_address.requests.available_permits();
        assert_eq!(requests(of("2001:db8::ffff")), 0);
        assert_eq!(requests(of("2001:db8:0:1::1")), 2);
        assert_eq!(requests(shares.of(None)), 2);
        drop(permit);
        drop(first);
        assert_eq!(requests(of("2001:db8::1")), 2);
        assert_eq!(shares.by_address.lock().len(), 1);
    }

    #[test]
    fn what_is_open_has_a_bound_for_each_connection_and_each_address_until_it_ends() {
        let shares = AddressShares::new(RelayLimits {
            open_bytes_max: 100,
            open_bytes_per_address_max: 150,
            open_filters_per_address_max: 4,
            ..RelayLimits::default()
        });
        let [one, same, other] = [1, 1, 2].map(|last| shares.of(Some([203, 0, 113, last].into())));

        let open = one.occupy(100, 1).unwrap();
        assert_eq!(one.occupy(1, 1).unwrap_err(), TooManyFilters::BytesOfConnection(100));
        assert_eq!(same.occupy(51, 1).unwrap_err(), TooManyFilters::BytesOfAddress(150));
        assert_eq!(same.occupy(50, 4).unwrap_err(), TooManyFilters::OfAddress(4));
        // What was refused occupies nothing.
        let more = same.occupy(50, 3).unwrap();
        drop(other.occupy(100, 4).unwrap());
        drop(open);
        drop(more);
        assert!(same.occupy(100, 4).is_ok());
        assert_eq!(
            same.occupy(usize::MAX, 0).unwrap_err(),
            TooManyFilters::BytesOfConnection(100)
        );
    }
}
