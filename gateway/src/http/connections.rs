//! How many connections there are, in all and of each address, so that one client cannot take them all.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use shared::address_group::address_group;
use shared::live::Live;
use shared::live::Permits;
use tokio::sync::OwnedSemaphorePermit;

use crate::fairness::least_rate::LeastRate;
use crate::meter::Meter;

#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// In all; more wait in the listener's queue.
    pub(crate) connections_max: usize,
    pub(crate) per_address_max: usize,
    pub(crate) least_rate: LeastRate,
}

/// The connections, in all and of each address, or /64 of IPv6. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    limits: Live<ConnectionLimits>,
    permits: Permits,
    /// How many were refused.
    refused: Meter<1>,
    counts: Arc<DashMap<IpAddr, usize>>,
}

/// A permit for one connection; dropping it gives it back.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts no more"]
pub(crate) struct ConnectionPermit {
    connections: Connections,
    address: IpAddr,
    /// How many connections its address had when this one came, itself among them.
    pub(crate) number: usize,
}

impl Connections {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits: Live::new(limits),
            permits: Permits::new(limits.connections_max),
            refused: Meter::default(),
            counts: Arc::default(),
        }
    }

    /// Changes how many there may be. Those that are open stay.
    pub(crate) fn set_limits(&self, limits: ConnectionLimits) {
        self.limits.set(limits);
        self.permits.set_max(limits.connections_max);
    }

    /// Waits until there may be one more.
    pub(crate) async fn permit(&self) -> OwnedSemaphorePermit {
        self.permits.acquire().await
    }

    /// Whether more than half of them are in use.
    pub(crate) fn are_scarce(&self) -> bool {
        self.permits.free() < self.permits.max() / 2
    }

    /// Returns how many were refused because of their address.
    pub(crate) fn refused(&self) -> u64 {
        let [refused] = self.refused.counts();
        refused
    }

    pub(crate) fn least_rate(&self) -> LeastRate {
        self.limits.get().least_rate
    }

    /// Counts a connection from `peer`; `None`: its address has reached its limit.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let address = address_group(peer);
        let mut count = self.counts.entry(address).or_default();
        if *count >= self.limits.get().per_address_max {
            self.refused.add(0, 1);
            return None;
        }
        *count += 1;
        Some(ConnectionPermit {
            connections: self.clone(),
            address,
            number: *count,
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.counts.remove_if_mut(&self.address, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_permits_and_gets_them_back() {
        let connections = Connections::new(ConnectionLimits {
            connections_max: 100,
            per_address_max: 2,
            least_rate: LeastRate::DEFAULT,
        });
        let enter = |peer: &str| connections.enter(peer.parse().unwrap());

        let first = enter("192.0.2.1");
        let second = enter("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").is_none());
        assert_eq!(connections.refused(), 1);
        let networks = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(enter);
        assert!(networks.iter().all(Option::is_some));
        assert!(enter("2001:db8::3").is_none());

        drop(first);
        assert!(enter("192.0.2.1").is_some());
        drop((second, networks));
        assert!(connections.counts.is_empty());
    }
}
