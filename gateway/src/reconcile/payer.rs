//! Who pays for the publication of an event.

use std::net::IpAddr;

use shared::address_group::address_group;
use shared::nip34::Coordinate;

/// Whose turn a publication takes where only one can be made at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PublicationPayer {
    /// The network of a client that has pushed.
    Network(IpAddr),
    /// The repository that was reconciled.
    Repository(Coordinate),
    /// Those who have offered PRs to the repository that was reconciled.
    Offering(Coordinate),
    /// All whose events are published again.
    Again,
    /// The operator.
    Operator,
}

impl PublicationPayer {
    /// A client at this address.
    pub(crate) fn client(address: IpAddr) -> Self {
        Self::Network(address_group(address))
    }
}
