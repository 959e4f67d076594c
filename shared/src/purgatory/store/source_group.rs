//! How sources of events are grouped for the limits per source.

use std::net::IpAddr;

use crate::address_group::address_group;

/// Returns the group of `source` (`IP4 203.0.113.7`, as the relay names it): an IPv4 address, the /64 of an IPv6
/// address, since one customer has at least that, or the text itself (a URL that is streamed or synced from, or empty).
pub(crate) fn source_group(source: &str) -> String {
    let address = source.split_once(' ').and_then(|(_, address)| address.parse().ok());
    address.map_or_else(|| source.to_owned(), address_source)
}

/// Returns the group of what comes from `address`.
pub(super) fn address_source(address: IpAddr) -> String {
    match address_group(address) {
        IpAddr::V4(address) => format!("IP4 {address}"),
        IpAddr::V6(address) => format!("IP6 {address}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_counts_by_address_network_or_text() {
        let cases = [
            ("IP4 203.0.113.7", "IP4 203.0.113.7"),
            ("IP6 2001:db8:1:2:3:4:5:6", "IP6 2001:db8:1:2::/64"),
            ("IP6 2001:db8:1:2::9", "IP6 2001:db8:1:2::/64"),
            ("IP6 ::ffff:203.0.113.7", "IP4 203.0.113.7"),
            ("Stream wss://relay.example/", "Stream wss://relay.example/"),
            ("", ""),
            ("IP4 nowhere", "IP4 nowhere"),
        ];
        for (source, group) in cases {
            assert_eq!(source_group(source), group, "{source}");
        }
    }
}
