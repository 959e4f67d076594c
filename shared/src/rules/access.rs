//! Whose repositories an operator hosts: lists of owners, repositories and identifiers. Pure; the files are read
//! elsewhere.

use std::collections::BTreeSet;
use std::str::FromStr;

use nostr::key::PublicKey;

use crate::nip34::Coordinate;
use crate::nip34::Identifier;

/// An operator's lists. The default hosts all repositories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// The only repositories that are hosted, if there is such a list.
    pub allowed: Option<AccessList>,
    /// Repositories that are not hosted, even if they are allowed.
    pub denied: AccessList,
    /// Authors whose events do not count.
    pub denied_authors: AccessList,
}

/// A list: one key, `key/identifier` or identifier a line, keys as [`key_of`] reads them; `#` begins a comment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessList {
    owners: BTreeSet<PublicKey>,
    repositories: BTreeSet<Coordinate>,
    identifiers: BTreeSet<Identifier>,
}

/// What a line of a list names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedName {
    /// An author, with all repositories.
    Owner(PublicKey),
    /// One repository.
    Repository(Coordinate),
    /// The repositories of this name, of all owners.
    Identifier(Identifier),
}

/// A malformed line of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {text:?} {fault}")]
pub struct AccessListError {
    /// Which line, from 1.
    pub number: usize,
    /// Its text; only the beginning of a possible secret key.
    pub text: String,
    /// Its fault.
    fault: &'static str,
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

    /// Returns the lists as a text for people (NIP-11 `repo_acceptance_criteria`); empty if all repositories are
    /// hosted.
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

    /// Reads a list of authors, who can be named only by key.
    ///
    /// # Errors
    /// A line is no key.
    pub fn of_authors(text: &str) -> Result<Self, AccessListError> {
        let mut list = Self::default();
        for (number, line) in entries(text) {
            let owner =
                key_of(line).ok_or_else(|| error(number, line, "is not a public key (npub, nprofile or hex)"))?;
            list.owners.insert(owner);
        }
        Ok(list)
    }
}

impl FromStr for AccessList {
    type Err = AccessListError;

    fn from_str(text: &str) -> Result<Self, AccessListError> {
        let mut list = Self::default();
        for (_, name) in listed_names(text) {
            match name? {
                ListedName::Owner(owner) => drop(list.owners.insert(owner)),
                ListedName::Repository(repository) => drop(list.repositories.insert(repository)),
                ListedName::Identifier(identifier) => drop(list.identifiers.insert(identifier)),
            }
        }
        Ok(list)
    }
}

/// Returns what the lines of a list name, with their numbers from 1.
pub fn listed_names(text: &str) -> impl Iterator<Item = (usize, Result<ListedName, AccessListError>)> {
    entries(text).map(|(number, line)| {
        let expected = "is neither a key (npub, nprofile, hex) nor key/identifier nor an identifier";
        let name = name_of(line).ok_or_else(|| error(number, line, expected));
        (number, name)
    })
}

fn name_of(line: &str) -> Option<ListedName> {
    Some(match line.split_once('/') {
        Some((key, identifier)) => ListedName::Repository(Coordinate {
            owner: key_of(key)?,
            identifier: identifier.parse().ok()?,
        }),
        None if looks_like_key(line) => ListedName::Owner(key_of(line)?),
        None => ListedName::Identifier(line.parse().ok()?),
    })
}

/// Returns the lines of a list that name something, with their numbers from 1.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    let named = lines.map(|(place, line)| (place + 1, line.split('#').next().unwrap_or_default().trim()));
    named.filter(|(_, line)| !line.is_empty())
}

fn error(number: usize, line: &str, fault: &'static str) -> AccessListError {
    let is_secret = line.to_ascii_lowercase().contains("nsec1");
    let (text, fault) = match is_secret {
        true => ("nsec1…", "is a secret key: anyone who has read this file has it"),
        false => (line, fault),
    };
    AccessListError {
        number,
        text: text.to_owned(),
        fault,
    }
}

/// Whether a person who wrote this meant a key: it would be an odd identifier.
fn looks_like_key(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex || KEY_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

/// What keys of people and names of other things begin with (NIP-19, NIP-21).
const KEY_BEGINNINGS: [&str; 7] = ["npub1", "nprofile1", "nostr:", "nsec1", "note1", "nevent1", "naddr1"];

/// Reads a public key as people write it: an npub, an nprofile or hex, in any case, with `nostr:` before it or not.
pub fn key_of(text: &str) -> Option<PublicKey> {
    PublicKey::parse(&text.to_ascii_lowercase()).ok()
}

#[cfg(test)]
mod tests {
    use nostr::nips::nip19::Nip19Profile;
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
                denied_authors: AccessList::of_authors(&denied_authors).unwrap(),
            };
            assert_eq!(access.permits(&ours), permitted, "{story}");
        }
    }

    /// A key in hex was taken for an identifier, and nobody was denied.
    #[test]
    fn a_key_is_a_key_however_it_is_written() {
        let npub = pubkey(1).to_bech32().unwrap();
        let profile = Nip19Profile::new(pubkey(1), []).to_bech32().unwrap();
        for key in [
            npub.clone(),
            npub.to_uppercase(),
            format!("nostr:{npub}"),
            format!("NOSTR:{npub}"),
            profile.clone(),
            format!("nostr:{profile}"),
            pubkey(1).to_hex(),
            pubkey(1).to_hex().to_uppercase(),
        ] {
            let text = format!("# a comment\n  {key}  # another\n");
            let authors = AccessList::of_authors(&text).unwrap();
            assert_eq!(authors.owners, [pubkey(1)].into(), "{key}");
            assert_eq!(text.parse::<AccessList>().unwrap(), authors, "{key}");
            let repository: AccessList = format!("{key}/r").parse().unwrap();
            assert_eq!(repository.repositories, [coordinate(1, "r")].into(), "{key}");
        }
        for text in ["r", "npub1nothing", "nostr:r", "nsec1abc", &"g".repeat(64), "a b"] {
            assert!(AccessList::of_authors(text).is_err(), "{text}");
        }
        let secret = AccessList::of_authors("nsec1abc").unwrap_err().to_string();
        assert!(
            secret.contains("secret key") && !secret.contains("nsec1abc"),
            "{secret}"
        );
        for text in ["nostr:r", "nsec1abc", "note1abc", "NPUB1abc"] {
            assert!(text.parse::<AccessList>().is_err(), "{text}");
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
