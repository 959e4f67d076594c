//! The address of a repository: who announced it, under which identifier.

use std::fmt;
use std::str::FromStr;

use nostr::key::PublicKey;

use super::ANNOUNCEMENT;
use super::Identifier;
use crate::nip01::Address;
use crate::nip01::AddressError;

/// The coordinate of a repository announcement, `30617:<pubkey>:<identifier>` (NIP-01, NIP-34).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinate {
    /// Whose announcement it is.
    pub owner: PublicKey,
    /// The `d` tag of the announcement.
    pub identifier: Identifier,
}

impl Coordinate {
    /// Returns the coordinate of a repository of this owner.
    pub fn new(owner: PublicKey, identifier: &Identifier) -> Self {
        Self {
            owner,
            identifier: identifier.clone(),
        }
    }

    /// Returns the coordinate of another owner with the same identifier.
    pub fn of(&self, owner: PublicKey) -> Self {
        Self::new(owner, &self.identifier)
    }
}

impl FromStr for Coordinate {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address: Address = text.parse()?;
        let identifier = address.d.parse().ok().filter(|_| address.kind == ANNOUNCEMENT);
        Ok(Self {
            owner: address.author,
            identifier: identifier.ok_or(AddressError)?,
        })
    }
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ANNOUNCEMENT}:{}:{}", self.owner.to_hex(), self.identifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_with_colons_stay_whole() {
        let text = format!("30617:{}:a:b:c", "11".repeat(32));

        let coordinate: Coordinate = text.parse().unwrap();

        assert_eq!(coordinate.identifier.as_str(), "a:b:c");
        assert_eq!(coordinate.to_string(), text);
    }

    #[test]
    fn other_kinds_and_spellings_are_refused() {
        let key = "ab".repeat(32);
        for text in [
            format!("30618:{key}:x"),
            format!("30617:{}:x", key.to_uppercase()),
            format!("30617:{key}:"),
            format!("30617:{key}"),
            String::new(),
        ] {
            assert_eq!(text.parse::<Coordinate>(), Err(AddressError), "{text}");
        }
    }
}
