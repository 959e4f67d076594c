//! How many connections each address has, so that one client cannot take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The connections of each address. IPv6 counts by its /64, which is what one customer has at least.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    per_address_max: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection that counts; dropping it gives the place back.
#[derive(Debug)]
#[must_use = "a place that is dropped does not count"]
pub(crate) struct ConnectionPermit {
    connections: Connections,
    address: IpAddr,
}

impl Connections {
    pub(crate) fn new(per_address_max: usize) -> Self {
        Self {
            per_address_max,
            counts: Arc::default(),
        }
    }

    /// Takes a place for a connection from `peer`; `None`: it has as many as it may.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let address = counted(peer);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit {
            connections: self.clone(),
            address,
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

fn counted(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_gets_them_back() {
        let connections = Connections::new(2);
        let enter = |peer: &str| connections.enter(peer.parse().unwrap());

        let first = enter("192.0.2.1");
        let second = enter("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").is_none());
        let networks = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(enter);
        assert!(networks.iter().all(Option::is_some));
        assert!(enter("2001:db8::3").is_none());

        drop(first);
        assert!(enter("192.0.2.1").is_some());
        drop((second, networks));
        assert!(connections.counts.lock().unwrap().is_empty());
    }
}
