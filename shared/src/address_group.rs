//! The group of addresses that limits on one client count together. Pure.

use std::net::IpAddr;
use std::net::Ipv6Addr;

/// Returns what `address` counts by: an IPv4 address (also one that is mapped to IPv6), or the first address of the /64
/// of an IPv6 address, since that is the least that one customer has.
pub fn address_group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}
