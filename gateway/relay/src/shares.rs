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

#[derive(Debug)]
pub(super) struct AddressShares {
    limits: RelayLimits,
    by_address: Mutex<HashMap<IpAddr, Weak<AddressShare>>>,
    parsed_bytes: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) struct AddressShare {
    /// Each has a page of events in memory.
    pub(super) requests: Arc<Semaphore>,
    open_bytes: Arc<Semaphore>,
    open_filters: Arc<Semaphore>,
    parsed_bytes: Arc<Semaphore>,
}

/// The right to the memory of a message that is parsed, until it is judged.
#[derive(Debug)]
pub(super) struct ParsedRoom {
    _permits: [OwnedSemaphorePermit; 2],
}

/// What the subscriptions of one connection may occupy.
#[derive(Debug)]
pub(super) struct ConnectionShare {
    pub(super) of_address: Arc<AddressShare>,
    open_bytes: Arc<Semaphore>,
    parsed_bytes_in_all: Arc<Semaphore>,
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
    #[error("too many combinations of authors, kinds and tags: a request may have {0}, split it")]
    Combinations(usize),
}

impl AddressShares {
    pub(super) fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            by_address: Mutex::default(),
            parsed_bytes: Arc::new(Semaphore::new(limits.parsed_bytes_max as usize)),
        }
    }

    /// Returns the share of a new connection; one without an address shares with no other.
    pub(super) fn of(&self, address: Option<IpAddr>) -> ConnectionShare {
        ConnectionShare {
            of_address: self.of_address(address),
            open_bytes: Arc::new(Semaphore::new(self.limits.open_bytes_max as usize)),
            parsed_bytes_in_all: Arc::clone(&self.parsed_bytes),
            limits: self.limits,
        }
    }

    fn of_address(&self, address: Option<IpAddr>) -> Arc<AddressShare> {
        let new = || {
            Arc::new(AddressShare {
                requests: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)),
                open_bytes: Arc::new(Semaphore::new(self.limits.open_bytes_per_address_max as usize)),
                open_filters: Arc::new(Semaphore::new(self.limits.open_filters_per_address_max as usize)),
                parsed_bytes: Arc::new(Semaphore::new(self.limits.parsed_bytes_per_address_max as usize)),
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
    /// Waits until there is room for a message that takes so many bytes; one larger than all waits for all. `None`: the
    /// relay has ended.
    pub(super) async fn room_for_parsed(&self, bytes: usize) -> Option<ParsedRoom> {
        let most = self
            .limits
            .parsed_bytes_per_address_max
            .min(self.limits.parsed_bytes_max);
        let bytes = u32::try_from(bytes).map_or(most, |bytes| bytes.min(most));
        let take = |from: &Arc<Semaphore>| Arc::clone(from).acquire_many_owned(bytes);
        let of_address = take(&self.of_address.parsed_bytes).await.ok()?;
        let in_all = take(&self.parsed_bytes_in_all).await.ok()?;
        Some(ParsedRoom {
            _permits: [of_address, in_all],
        })
    }

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
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn connections_of_one_address_share_and_others_do_not() {
        let shares = AddressShares::new(RelayLimits::default());
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
    fn messages_of_one_address_wait_for_each_other_and_leave_room_for_others() {
        let shares = AddressShares::new(RelayLimits {
            parsed_bytes_per_address_max: 100,
            parsed_bytes_max: 150,
            ..RelayLimits::default()
        });
        let of = |last: u8| shares.of(Some([203, 0, 113, last].into()));
        let [one, same, other, third] = [of(1), of(1), of(2), of(3)];
        let room = |share: &ConnectionShare, bytes| share.room_for_parsed(bytes).now_or_never().flatten();

        let large = room(&one, 1000).unwrap();
        assert!(room(&same, 1).is_none());
        let small = room(&other, 50).unwrap();
        assert!(room(&third, 1).is_none());
        drop(large);
        let again = room(&same, 60);
        assert!(again.is_some() && room(&third, 40).is_some());
        drop((again, small));
        assert!(room(&other, 100).is_some());
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
