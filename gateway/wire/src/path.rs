//! Which repository and which service of it a URL names (GRASP-01, "Git Smart HTTP Service"; docs/facts/git-http.md 6).
//!
//! Split before decoding, decoded once: `%2F` never becomes a separator, and `%252F` never a `/`. Pure.

use std::borrow::Cow;

use nostr::key::PublicKey;
use nostr::nips::nip19::FromBech32;
use nostr::nips::nip19::ToBech32;
use percent_encoding::percent_decode_str;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;

/// What a request path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/`: the relay, its information document, the landing page.
    Root,
    /// `/<npub>/<identifier>.git` and what is below it.
    Repository {
        /// The repository.
        coordinate: Coordinate,
        /// What of it.
        endpoint: Endpoint,
    },
    /// Nothing that could exist here.
    Nothing,
}

/// What of a repository a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Its page.
    Page,
    /// `info/refs?service=…`: the refs, advertised for a service.
    InfoRefs(GitService),
    /// `info/refs` for anything else, the files of the "dumb" protocol among it.
    UnknownService,
    /// The service itself, a POST.
    Service(GitService),
}

/// The two services of git's smart HTTP protocol (`gitprotocol-http(5)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitService {
    /// Fetching.
    UploadPack,
    /// Pushing.
    ReceivePack,
}

impl GitService {
    /// Returns the name that stands in URLs and content types.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack]
            .into_iter()
            .find(|service| service.as_str() == text)
    }
}

impl Target {
    /// Reads the path and the query of a request, both as they came.
    pub fn parse(path: &str, query: &str) -> Self {
        if path == "/" || path.is_empty() {
            return Self::Root;
        }
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (npub, repository, rest) = match segments.as_slice() {
            [npub, repository, rest @ ..] => (*npub, *repository, rest),
            _ => return Self::Nothing,
        };
        let endpoint = match rest {
            [] | [""] => Some(Endpoint::Page),
            ["info", "refs"] => Some(service_in(query).map_or(Endpoint::UnknownService, Endpoint::InfoRefs)),
            [service] => GitService::parse(service).map(Endpoint::Service),
            _ => None,
        };
        match (coordinate(npub, repository), endpoint) {
            (Some(coordinate), Some(endpoint)) => Self::Repository { coordinate, endpoint },
            _ => Self::Nothing,
        }
    }
}

/// Returns the path of a repository, `/<npub>/<identifier>.git`, encoded.
pub fn repository_path(coordinate: &Coordinate) -> String {
    format!("/{}/{}.git", npub(&coordinate.owner), coordinate.identifier.encoded())
}

/// Returns the one spelling of a public key that paths use.
pub fn npub(key: &PublicKey) -> String {
    let Ok(npub) = key.to_bech32();
    npub
}

fn coordinate(npub: &str, repository: &str) -> Option<Coordinate> {
    let owner = PublicKey::from_bech32(npub).ok()?;
    // Only the canonical spelling, so that one repository has one URL.
    if self::npub(&owner) != npub {
        return None;
    }
    let decoded = percent_decode(repository)?;
    let identifier: Identifier = decoded.strip_suffix(".git")?.parse().ok()?;
    Some(Coordinate { owner, identifier })
}

/// Returns the value of `service`, wherever it stands in the query.
fn service_in(query: &str) -> Option<GitService> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("service="))
        .and_then(GitService::parse)
}

/// Decodes `%XX` once; `None` if it is malformed or not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let starts_with_hex = |rest: &str| {
        let digits = rest.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    // The decoder leaves a malformed escape as it is.
    if !text.split('%').skip(1).all(starts_with_hex) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use nostr::key::Keys;
    use proptest::prelude::*;

    use super::*;

    fn identifier_in(path_segment: &str) -> Option<String> {
        let npub = npub(&Keys::generate().public_key());
        match Target::parse(&format!("/{npub}/{path_segment}"), "") {
            Target::Repository { coordinate, .. } => Some(coordinate.identifier.to_string()),
            Target::Root | Target::Nothing => None,
        }
    }

    #[test]
    fn identifiers_are_decoded_once_and_after_splitting() {
        for (segment, identifier) in [
            ("r.git", Some("r")),
            ("r.git.git", Some("r.git")),
            ("my%20repo%F0%9F%A6%80.git", Some("my repo🦀")),
            ("a%3Ab.git", Some("a:b")),
            ("a%252Fb.git", Some("a%2Fb")),
            ("a%2Fb.git", None),
            ("%2E%2E.git", None),
            ("..git", None),
            ("a%5Cb.git", None),
            ("a%00b.git", None),
            ("a%zz.git", None),
            ("a%2", None),
            ("a%%41.git", None),
            ("a%+1.git", None),
            ("a%4é.git", None),
            ("%ff.git", None),
            ("r", None),
            (".git", None),
        ] {
            assert_eq!(identifier_in(segment).as_deref(), identifier, "{segment}");
        }
    }

    #[test]
    fn only_the_canonical_npub_names_a_repository() {
        let key = Keys::generate().public_key();
        for owner in [npub(&key).to_uppercase(), key.to_hex(), "npub1test".to_owned()] {
            assert_eq!(
                Target::parse(&format!("/{owner}/r.git"), ""),
                Target::Nothing,
                "{owner}"
            );
        }
    }

    #[test]
    fn endpoints() {
        let base = format!("/{}/r.git", npub(&Keys::generate().public_key()));
        for (rest, query, endpoint) in [
            ("", "", Some(Endpoint::Page)),
            ("/", "", Some(Endpoint::Page)),
            (
                "/info/refs",
                "service=git-upload-pack",
                Some(Endpoint::InfoRefs(GitService::UploadPack)),
            ),
            (
                "/info/refs",
                "x=1&service=git-receive-pack",
                Some(Endpoint::InfoRefs(GitService::ReceivePack)),
            ),
            ("/info/refs", "", Some(Endpoint::UnknownService)),
            ("/info/refs", "service=git-upload-packs", Some(Endpoint::UnknownService)),
            ("/info/refs", "xservice=git-upload-pack", Some(Endpoint::UnknownService)),
            ("/info/refs/", "service=git-upload-pack", None),
            ("/git-upload-pack", "", Some(Endpoint::Service(GitService::UploadPack))),
            (
                "/git-receive-pack",
                "",
                Some(Endpoint::Service(GitService::ReceivePack)),
            ),
            ("/HEAD", "", None),
            ("/objects/info/packs", "", None),
        ] {
            let found = match Target::parse(&format!("{base}{rest}"), query) {
                Target::Repository { endpoint, .. } => Some(endpoint),
                Target::Root | Target::Nothing => None,
            };
            assert_eq!(found, endpoint, "{rest}?{query}");
        }
    }

    proptest! {
        #[test]
        fn every_repository_is_found_by_its_path(text in "\\PC{1,40}") {
            let Ok(identifier) = text.parse() else { return Ok(()) };
            let coordinate = Coordinate { owner: Keys::generate().public_key(), identifier };
            let found = Target::parse(&repository_path(&coordinate), "");
            prop_assert_eq!(found, Target::Repository { coordinate, endpoint: Endpoint::Page });
        }

        #[test]
        fn no_path_panics(path in "\\PC{0,80}", query in "\\PC{0,40}") {
            Target::parse(&path, &query);
        }
    }
}
