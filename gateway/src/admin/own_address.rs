//! Whether an address that the operator names as another server's is this server's own.

use std::net::SocketAddr;
use std::net::UdpSocket;

use shared::relay_client::RelayUrl;

/// Whether `relay` is where this server listens. A name that cannot be found now may be the relay's later.
pub(crate) async fn is_own(relay: &RelayUrl, listens_on: SocketAddr) -> bool {
    let Ok(mut addresses) = tokio::net::lookup_host(relay.authority()).await else {
        return false;
    };
    addresses.any(|address| reaches(address, listens_on, is_local))
}

/// Whether a connection to `address` arrives at a listener on `listens_on`; the caller knows which addresses are this
/// host's.
fn reaches(address: SocketAddr, listens_on: SocketAddr, is_local: impl Fn(SocketAddr) -> bool) -> bool {
    let (to, on) = (address.ip().to_canonical(), listens_on.ip().to_canonical());
    address.port() == listens_on.port()
        && (to == on || on.is_unspecified() && (to.is_unspecified() || is_local(address)))
}

/// Only an address of this host can be bound here.
fn is_local(address: SocketAddr) -> bool {
    UdpSocket::bind((address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_by_its_address_or_by_all_of_its_host() {
        let is_ours = |address: SocketAddr| address.ip().to_string() != "203.0.113.9";
        for (to, on, expected) in [
            ("127.0.0.1:7334", "127.0.0.1:7334", true),
            ("127.0.0.1:7777", "127.0.0.1:7334", false),
            ("127.0.0.2:7334", "127.0.0.1:7334", false),
            ("127.0.0.1:7334", "0.0.0.0:7334", true),
            ("10.0.0.5:7334", "[::]:7334", true),
            ("203.0.113.9:7334", "0.0.0.0:7334", false),
            ("[::ffff:127.0.0.1]:7334", "127.0.0.1:7334", true),
            ("[::1]:7334", "127.0.0.1:7334", false),
        ] {
            let (address, listener) = (to.parse().unwrap(), on.parse().unwrap());
            assert_eq!(reaches(address, listener, is_ours), expected, "{to} {on}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_host_is_found() {
        let own = |url: &str| {
            let url: RelayUrl = url.parse().unwrap();
            async move { is_own(&url, "127.0.0.1:7334".parse().unwrap()).await }
        };
        assert!(own("ws://localhost:7334").await);
        assert!(!own("ws://localhost:7777").await);
        assert!(!own("ws://no-such-host.invalid:7334").await);
    }
}
