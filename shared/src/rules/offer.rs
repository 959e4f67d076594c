//! Who pays for a PR in a repository: its author, and the address that it came from.

use std::net::IpAddr;

use nostr::key::PublicKey;

use crate::address_group::address_group;

/// A PR that a repository has, or had until lately: for whose shares its ref and its bytes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullRequestOffer {
    /// Who signed it.
    pub author: PublicKey,
    /// The bytes of packs that came with it, unless its author is a maintainer.
    pub bytes: u64,
    /// Where it came from; `None`: that is unknown, and counts as one source.
    pub source: Option<SourceTag>,
}

/// Stands for an address (a /64 of IPv6) or another source where shares are counted for as long as a ref exists: 16
/// bits of a hash, which tell sources apart, and fit so many addresses that they name none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceTag(pub u16);

impl SourceTag {
    /// Returns that of a client.
    pub fn of_address(address: IpAddr) -> Self {
        Self::of_text(&address_group(address).to_string())
    }

    /// Returns that of [`Entry::source`](crate::purgatory::Entry::source); `None`: it is empty.
    pub fn of_source(source: &str) -> Option<Self> {
        let address = source.split_once(' ').and_then(|(_, address)| address.parse().ok());
        let tag = || address.map_or_else(|| Self::of_text(source), Self::of_address);
        (!source.is_empty()).then(tag)
    }

    /// FNV-1a of 64 bits, folded: nobody gains by a collision but a share of somebody else's.
    fn of_text(text: &str) -> Self {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
        Self(u16::from_be_bytes([a ^ c ^ e ^ g, b ^ d ^ f ^ h]))
    }
}

/// Whether a payer who would have `its` may have as much, where `left` would then be left to everybody: at most `part`
/// of `whole` of both together. So the payer with most is the first to find no room, and others find some longer.
pub fn is_within_share(its: u64, left: u64, (part, whole): (u64, u64)) -> bool {
    let [its, left, part, whole] = [its, left, part, whole].map(u128::from);
    its * whole <= (its + left) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_one_tag_whichever_program_names_it() {
        let tag = |address: &str| SourceTag::of_address(address.parse().unwrap());

        assert_eq!(SourceTag::of_source("IP4 203.0.113.7"), Some(tag("203.0.113.7")));
        assert_eq!(SourceTag::of_source("IP6 ::ffff:203.0.113.7"), Some(tag("203.0.113.7")));
        assert_eq!(
            SourceTag::of_source("IP6 2001:db8:1:2:3::4"),
            Some(tag("2001:db8:1:2::9"))
        );
        assert_ne!(tag("203.0.113.7"), tag("203.0.113.8"));
        let stream = SourceTag::of_source("Stream wss://relay.example/");
        assert_ne!(stream, SourceTag::of_source("Stream wss://other.example/"));
        assert_eq!(SourceTag::of_source(""), None);
    }

    /// Ten keys with a tenth each took all of a repository's refs.
    #[test]
    fn payers_who_take_all_they_may_leave_room_to_the_next() {
        let (mut left, mut payers) = (5_000_u64, 0);
        while left > 100 {
            let mut its = 0;
            while is_within_share(its + 1, left - 1, (1, 4)) {
                (its, left) = (its + 1, left - 1);
            }
            assert!(its > 0, "{left}");
            payers += 1;
        }
        assert!((13..16).contains(&payers), "{payers}");
    }
}
