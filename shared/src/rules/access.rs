//! Whose repositories an operator hosts: lists of owners, repositories and identifiers. Pure; the files are read
//! elsewhere.

use std::collections::BTreeSet;
use std::str::FromStr;

use nostr::key::PublicKey;
use nostr::nips::nip19::FromBech32;

use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// An operator's lists. The default hosts everybody's repositories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// The only repositories that are hosted, if there is such a list.
    pub allowed: Option<AccessList>,
    /// Repositories that are not hosted, even if they are allowed.
    pub denied: AccessList,
    /// Authors whose events do not count.
    pub denied_authors: AccessList,
}

/// A list: one `npub`, `npub/identifier` or identifier a line; `#` begins a comment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessList {
    owners: BTreeSet<PublicKey>,
    repositories: BTreeSet<Coordinate>,
    identifiers: BTreeSet<Identifier>,
}

/// A malformed line of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {text:?} is neither an npub nor npub/identifier nor an identifier")]
pub struct AccessListError {
    /// Which line, from 1.
    pub number: usize,
    /// Its text.
    pub text: String,
}

impl Access {
    /// Whether the operator hosts a repository.
    pub fn permits(&self, coordinate: &Coordinate) -> bool {
        !self.denied.names(coordinate)
            && !self.denies_author(&coordinate.owner)
            && self.allowed.as_ref().is_none_or(|allowed| allowed.names(coordinate))
    }

    /// Whether the events of an author do not count.
    pub fn denies_author(&self, author: &PublicKey) -> bool {
        self.denied_authors.owners.contains(author)
    }

    /// Returns the lists as a text for people (NIP-11 `repo_acceptance_criteria`); empty if everybody's repositories
    /// are hosted.
    pub fn criteria(&self) -> &'static str {
        let denies = self.denied != AccessList::default() || self.denied_authors != AccessList::default();
        match (self.allowed.is_some(), denies) {
            (false, false) => "",
            (true, _) => "; only repositories that the operator has listed",
            (false, true) => "; except repositories and authors that the operator has excluded",
        }
    }
}

impl AccessList {
    fn names(&self, coordinate: &Coordinate) -> bool {
        self.owners.contains(&coordinate.owner)
            || self.repositories.contains(coordinate)
            || self.identifiers.contains(&coordinate.identifier)
    }
}

impl FromStr for AccessList {
    type Err = AccessListError;

    fn from_str(text: &str) -> Result<Self, AccessListError> {
        let mut list = Self::default();
        for (place, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let error = || AccessListError {
                number: place + 1,
                text: line.to_owned(),
            };
            match line.split_once('/') {
                _ if line.is_empty() => {}
                Some((npub, identifier)) => drop(list.repositories.insert(Coordinate {
                    owner: PublicKey::from_bech32(npub).map_err(|_| error())?,
                    identifier: identifier.parse().map_err(|_| error())?,
                })),
                None if line.starts_with("npub1") => {
                    list.owners.insert(PublicKey::from_bech32(line).map_err(|_| error())?);
                }
                None => drop(list.identifiers.insert(line.parse().map_err(|_| error())?)),
            }
        }
        Ok(list)
    }
}

/// Reads a public key as people write it: an npub, an nprofile or hex, in any case, with `nostr:` before it or not.
pub fn key_of(text: &str) -> Option<PublicKey> {
    PublicKey::parse(&text.to_ascii_lowercase()).ok()
}

#[cfg(test)]
mod tests {
    use nostr::nips::nip19::ToBech32;

    use super::*;
    use crate::rules::facts::tests::coordinate;
    use crate::rules::facts::tests::pubkey;

    #[test]
    fn lists() {
        let npub = |n| pubkey(n).to_bech32().unwrap();
        let list = |text: String| text.parse::<AccessList>().unwrap();
        let ours = coordinate(1, "r");
        for (story, allowed, denied, denied_authors, permitted) in [
            ("no lists", None, String::new(), String::new(), true),
            (
                "the owner is allowed",
                Some(npub(1)),
                String::new(),
                String::new(),
                true,
            ),
            ("another is", Some(npub(2)), String::new(), String::new(), false),
            (
                "the repository is",
                Some(format!("# ours\n{}/r # yes", npub(1))),
                String::new(),
                String::new(),
                true,
            ),
            (
                "another of the owner's is",
                Some(format!("{}/x", npub(1))),
                String::new(),
                String::new(),
                false,
            ),
            (
                "the identifier is",
                Some("r".to_owned()),
                String::new(),
                String::new(),
                true,
            ),
            ("a denial beats it", Some(npub(1)), "r".to_owned(), String::new(), false),
            (
                "nobody is allowed",
                Some(String::new()),
                String::new(),
                String::new(),
                false,
            ),
            ("the owner is denied", None, npub(1), String::new(), false),
            (
                "the repository is denied",
                None,
                format!("{}/r", npub(1)),
                String::new(),
                false,
            ),
            ("the author is denied", None, String::new(), npub(1), false),
        ] {
            let access = Access {
                allowed: allowed.map(list),
                denied: list(denied),
                denied_authors: list(denied_authors),
            };
            assert_eq!(access.permits(&ours), permitted, "{story}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = "ok\nnpub1nothing\n".parse::<AccessList>().unwrap_err();

        assert_eq!((error.number, error.text.as_str()), (2, "npub1nothing"));
        assert!("npub1x/y".parse::<AccessList>().is_err());
        assert!("a/../b".parse::<AccessList>().is_err());
    }
}
