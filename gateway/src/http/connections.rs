//! How many connections each address has, so that one client cannot take them all.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use shared::address_group::address_group;

/// The connections of each address, or /64 of IPv6.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    per_address_max: usize,
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
    pub(crate) fn new(per_address_max: usize) -> Self {
        Self {
            per_address_max,
            counts: Arc::default(),
        }
    }

    /// Counts a connection from `peer`; `None`: its address has reached its limit.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let address = address_group(peer);
        let mut count = self.counts.entry(address).or_default();
        (*count < self.per_address_max).then(|| {
            *count += 1;
            ConnectionPermit {
                connections: self.clone(),
                address,
                number: *count,
            }
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
        assert!(connections.counts.is_empty());
    }
}
