//! The client's address behind reverse proxies: `X-Forwarded-For` and `X-Real-IP` are believed as far as a trusted
//! proxy wrote them, and no further. Pure.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;

use ipnet::IpNet;
use ipnet::Ipv6Net;
use shared::options::values::Expected;
use warp::http::HeaderMap;

/// The networks of proxies whose headers about their clients are trusted; none by default. IPv4 networks are
/// represented by the IPv6 networks that they are mapped to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TrustedProxies(Vec<Ipv6Net>);

impl TrustedProxies {
    /// Returns the client's address: `peer`, unless that is a trusted proxy that names another one.
    ///
    /// Each proxy appends the address of its client to `X-Forwarded-For`; entries to the left of that are that client's
    /// claims. So the list is read from its right end, up to the first address that is not a trusted proxy. `X-Real-IP`
    /// is a single address and counts only if there is no list.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trust(peer) {
            return peer;
        }
        let lists: Vec<_> = headers.get_all("x-forwarded-for").into_iter().collect();
        if lists.is_empty() {
            let named = headers.get_all("x-real-ip").into_iter().next_back();
            return named.and_then(|value| parse_hop(value.to_str().ok()?)).unwrap_or(peer);
        }
        let mut client = peer;
        for list in lists.into_iter().rev() {
            // A list that is not text ends like one whose last hop is garbage.
            for hop in list.to_str().unwrap_or_default().rsplit(',') {
                match parse_hop(hop) {
                    Some(address) if self.trust(address) => client = address,
                    Some(address) => return address,
                    // The trusted proxy to the right of it does not name its client.
                    None => return client,
                }
            }
        }
        client
    }

    /// Whether an address, in its canonical form, is in one of them.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        let mapped = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        self.0.iter().any(|network| network.contains(&mapped))
    }
}

impl FromStr for TrustedProxies {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let networks: Option<_> = text.split(',').map(|network| parse_network(network.trim())).collect();
        let expected = "addresses and networks without host bits, such as 127.0.0.1,10.0.0.0/8,fd00::/8";
        networks.map(Self).ok_or_else(|| Expected::new(expected.to_owned()))
    }
}

/// Reads a network, or an address for the network of one.
fn parse_network(text: &str) -> Option<Ipv6Net> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    // 10.1.2.3/8 may mean one address or sixteen million: trust is not guessed.
    if network != network.trunc() {
        return None;
    }
    match network {
        IpNet::V4(network) => Ipv6Net::new(network.addr().to_ipv6_mapped(), 96 + network.prefix_len()).ok(),
        IpNet::V6(network) => Some(network),
    }
}

/// Reads one hop: an address, in brackets or not, and perhaps with a port, as some proxies write it.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .ok()
        .or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use warp::http::HeaderName;
    use warp::http::HeaderValue;

    use super::*;

    /// Headers are written as `name: value` lines.
    fn client(trusted: &TrustedProxies, peer: &str, headers: &str) -> String {
        let headers = headers.lines().map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (name.parse::<HeaderName>().unwrap(), value)
        });
        trusted.client(peer.parse().unwrap(), &headers.collect()).to_string()
    }

    const PROXY: &str = "127.0.0.1";
    const CLIENT: &str = "9.9.9.9";

    /// Who the client is, by peer and headers, if `127.0.0.1, 10.0.0.0/8,fd00::/8` is trusted.
    const CLIENTS: &[(&str, &str, &str)] = &[
        (PROXY, "", PROXY),
        // A stranger's word.
        ("8.8.8.8", "x-forwarded-for: 1.1.1.1\nx-real-ip: 1.1.1.1", "8.8.8.8"),
        ("2001:db8::1", "x-forwarded-for: 1.1.1.1", "2001:db8::1"),
        // One proxy, and several.
        (PROXY, "x-forwarded-for: 9.9.9.9", CLIENT),
        ("fd00::1", "x-forwarded-for: 2001:db8::7", "2001:db8::7"),
        (PROXY, "x-forwarded-for: 9.9.9.9, 10.1.1.1,fd12::1", CLIENT),
        (PROXY, "x-forwarded-for: 9.9.9.9\nx-forwarded-for: 10.1.1.1", CLIENT),
        (PROXY, "x-forwarded-for: 10.2.2.2, 10.1.1.1", "10.2.2.2"),
        // The values that the client itself sent are on the left.
        (PROXY, "x-forwarded-for: 1.1.1.1, 10.0.0.1, 9.9.9.9", CLIENT),
        (PROXY, "x-forwarded-for: 1.1.1.1\nx-forwarded-for: 9.9.9.9", CLIENT),
        (PROXY, "x-forwarded-for: <script>, 9.9.9.9", CLIENT),
        // No addresses.
        (PROXY, "x-forwarded-for: unknown", PROXY),
        (PROXY, "x-forwarded-for: localhost", PROXY),
        (PROXY, "x-forwarded-for: 9.9.9.9, ?, 10.1.1.1", "10.1.1.1"),
        (PROXY, "x-forwarded-for: ", PROXY),
        (PROXY, "x-forwarded-for: 9.9.9.9, \u{e9}", PROXY),
        // Ports, brackets, and IPv4 as IPv6.
        (PROXY, "x-forwarded-for: 9.9.9.9:1234, [fd00::2]:443", CLIENT),
        (PROXY, "x-forwarded-for: [2001:db8::7]", "2001:db8::7"),
        (PROXY, "x-forwarded-for: ::ffff:9.9.9.9, ::ffff:10.1.1.1", CLIENT),
        ("::ffff:10.1.1.1", "x-forwarded-for: 9.9.9.9", CLIENT),
        ("::ffff:8.8.8.8", "x-forwarded-for: 1.1.1.1", "8.8.8.8"),
        // One word, which counts only without a list.
        (PROXY, "x-real-ip: 9.9.9.9", CLIENT),
        (PROXY, "x-real-ip: 1.1.1.1\nx-real-ip: 9.9.9.9", CLIENT),
        (PROXY, "x-real-ip: me", PROXY),
        (PROXY, "x-real-ip: 1.1.1.1\nx-forwarded-for: 9.9.9.9", CLIENT),
        (PROXY, "x-real-ip: 1.1.1.1\nx-forwarded-for: ?", PROXY),
    ];

    #[test]
    fn the_client_is_whom_the_first_trusted_proxy_names() {
        let trusted = "127.0.0.1, 10.0.0.0/8,fd00::/8".parse().unwrap();
        for (peer, headers, expected) in CLIENTS {
            assert_eq!(client(&trusted, peer, headers), *expected, "{peer} with {headers}");
        }
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        assert_eq!(
            client(&TrustedProxies::default(), PROXY, "x-forwarded-for: 1.1.1.1"),
            PROXY
        );
    }

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        for (networks, address, trusted) in [
            ("10.0.0.0/9", "10.127.255.255", true),
            ("10.0.0.0/9", "10.128.0.0", false),
            ("10.1.1.1", "10.1.1.1", true),
            ("10.1.1.1", "10.1.1.0", false),
            ("::ffff:10.0.0.0/104", "10.1.1.1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "8.8.8.8", true),
            ("::1, 10.0.0.0/8", "::1", true),
        ] {
            let networks: TrustedProxies = networks.parse().unwrap();
            assert_eq!(
                networks.trust(address.parse().unwrap()),
                trusted,
                "{address} in {networks:?}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            ",",
            "127.0.0.1,",
            "localhost",
            "10.0.0.0/33",
            "::1/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.1.2.3/8",
            "fd00::1/8",
            "10.0.0/8",
            "1.2.3.4/0",
        ] {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
        }
    }
}
