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

/// The meaning of a request path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/`: the relay, its information document, the landing page.
    Root,
    /// `/<npub>/<identifier>.git` and the paths below it.
    Repository {
        /// The repository.
        coordinate: Coordinate,
        /// What of it.
        endpoint: Endpoint,
    },
    /// Another spelling of a readable path.
    Elsewhere {
        /// Path and query of its canonical spelling; of the request, it contains only the repository and the service.
        location: String,
    },
    /// Nothing that could exist here.
    Nothing,
}

/// What of a repository a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Its page.
    Page,
    /// The feed of its releases.
    Releases,
    /// `info/refs?service=…`: the refs, advertised for a service.
    InfoRefs(GitService),
    /// `info/refs` for anything else, the files of the "dumb" protocol among it.
    UnknownService,
    /// The service itself, a POST.
    Service(GitService),
    /// What git-lfs asks for, whatever it is.
    LargeFiles,
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
    /// Returns the name in URLs and content types.
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
    ///
    /// People omit `.git`, end a URL with a slash (some clients then ask for `…git//info/refs`), or scan the key from a
    /// QR code in upper case. Reads are redirected to the canonical spelling, which git uses from then on. A POST is
    /// answered without a redirect: not every client posts to the redirected URL, or posts twice.
    pub fn parse(path: &str, query: &str) -> Self {
        if path == "/" || path.is_empty() {
            return Self::Root;
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let [npub, repository, rest @ ..] = segments.as_slice() else {
            return Self::Nothing;
        };
        let endpoint = match rest {
            [] => Some(Endpoint::Page),
            [RELEASES] => Some(Endpoint::Releases),
            ["info", "refs"] => Some(service_in(query).map_or(Endpoint::UnknownService, Endpoint::InfoRefs)),
            ["info", "lfs", ..] => Some(Endpoint::LargeFiles),
            [service] => GitService::parse(service).map(Endpoint::Service),
            _ => None,
        };
        let (Some((coordinate, spelling)), Some(endpoint)) = (coordinate(npub, repository), endpoint) else {
            return Self::Nothing;
        };
        // Unnecessary escapes are left as they are: a proxy may write them again, and would be redirected in a circle.
        let has_empty_segments = path.split('/').skip(1).any(str::is_empty);
        let location = match spelling {
            Spelling::Canonical if !has_empty_segments => None,
            Spelling::Canonical | Spelling::Other => endpoint.location_in(&coordinate),
        };
        match location {
            Some(location) => Self::Elsewhere { location },
            None => Self::Repository { coordinate, endpoint },
        }
    }
}

impl Endpoint {
    /// Returns the path below a repository where it is read; `None`: it is posted to.
    fn location_in(self, coordinate: &Coordinate) -> Option<String> {
        let page = repository_path(coordinate);
        match self {
            Self::Page => Some(page),
            Self::Releases => Some(format!("{page}/{RELEASES}")),
            // git takes the part before this for the repository, if the rest is what it asked for (git `http.c`,
            // `update_url_from_redirect`).
            Self::InfoRefs(service) => Some(format!("{page}/info/refs?service={}", service.as_str())),
            Self::UnknownService => Some(format!("{page}/info/refs")),
            Self::Service(_) | Self::LargeFiles => None,
        }
    }
}

/// How a repository is written in a path.
enum Spelling {
    /// As [`repository_path`] writes it, but for escapes.
    Canonical,
    /// In any other way.
    Other,
}

/// Returns the path of a repository, `/<npub>/<identifier>.git`, encoded.
pub fn repository_path(coordinate: &Coordinate) -> String {
    format!("/{}/{}.git", npub(&coordinate.owner), coordinate.identifier.encoded())
}

/// Returns the path of the feed of a repository's releases, encoded.
pub fn releases_path(coordinate: &Coordinate) -> String {
    format!("{}/{RELEASES}", repository_path(coordinate))
}

/// Returns the one spelling of a public key that paths use.
pub fn npub(key: &PublicKey) -> String {
    let Ok(npub) = key.to_bech32();
    npub
}

/// No git asks for it.
const RELEASES: &str = "releases.atom";

fn coordinate(npub: &str, repository: &str) -> Option<(Coordinate, Spelling)> {
    let owner = PublicKey::from_bech32(npub).ok()?;
    let decoded = percent_decode(repository)?;
    let without_suffix = decoded.strip_suffix(".git");
    let identifier: Identifier = without_suffix.unwrap_or(&decoded).parse().ok()?;
    let spelling = match without_suffix {
        Some(_) if self::npub(&owner) == npub => Spelling::Canonical,
        Some(_) | None => Spelling::Other,
    };
    Some((Coordinate { owner, identifier }, spelling))
}

/// Returns the value of `service`, anywhere in the query.
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
            Target::Root | Target::Elsewhere { .. } | Target::Nothing => None,
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
            (".git", None),
        ] {
            assert_eq!(identifier_in(segment).as_deref(), identifier, "{segment}");
        }
    }

    #[test]
    fn each_spelling_of_a_repository_leads_to_the_one() {
        let npub = npub(&Keys::generate().public_key());
        let upper = npub.to_uppercase();
        let refs = "/info/refs?service=git-upload-pack";
        for (path, query, location) in [
            (format!("/{npub}/r"), "", Some(format!("/{npub}/r.git"))),
            (format!("/{npub}/r.git/"), "x=//y", Some(format!("/{npub}/r.git"))),
            (format!("//{npub}/r.git"), "", Some(format!("/{npub}/r.git"))),
            (format!("/{upper}/r.git"), "", Some(format!("/{npub}/r.git"))),
            (format!("/{npub}/a%20b%3a"), "", Some(format!("/{npub}/a%20b%3A.git"))),
            (
                format!("/{npub}/r/info/refs"),
                "",
                Some(format!("/{npub}/r.git/info/refs")),
            ),
            (
                format!("/{npub}/r.git//info/refs"),
                "service=git-upload-pack",
                Some(format!("/{npub}/r.git{refs}")),
            ),
            (
                format!("/{upper}/r//info/refs/"),
                "a=https://elsewhere&service=git-upload-pack",
                Some(format!("/{npub}/r.git{refs}")),
            ),
            (format!("/{npub}/a%3ab.git"), "", None),
            (format!("/{npub}/a:b.git"), "", None),
            (format!("/{npub}/r//git-upload-pack"), "", None),
            (format!("/{npub}/r/info/lfs/objects/batch"), "", None),
        ] {
            match Target::parse(&path, query) {
                Target::Elsewhere { location: found } => assert_eq!(Some(found), location, "{path}"),
                Target::Repository { .. } => assert_eq!(None, location, "{path}"),
                target @ (Target::Root | Target::Nothing) => panic!("{path}: {target:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_npub_names_nothing() {
        let key = Keys::generate().public_key();
        let mixed = npub(&key).replacen('n', "N", 1);
        for path in [
            format!("/{}/r.git", key.to_hex()),
            "/npub1test/r.git".to_owned(),
            format!("/{mixed}/r.git"),
            format!("/{}", npub(&key)),
            format!("/{}//", npub(&key)),
            "//".to_owned(),
            "//elsewhere.example/r.git".to_owned(),
            format!("/{}/%2e%2e", npub(&key)),
        ] {
            assert_eq!(Target::parse(&path, ""), Target::Nothing, "{path}");
        }
    }

    #[test]
    fn endpoints() {
        let base = format!("/{}/r.git", npub(&Keys::generate().public_key()));
        for (rest, query, endpoint) in [
            ("", "", Some(Endpoint::Page)),
            ("/", "", None),
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
            ("/info/lfs/objects/batch", "", Some(Endpoint::LargeFiles)),
            ("/info/lfs", "", Some(Endpoint::LargeFiles)),
            ("/HEAD", "", None),
            ("/objects/info/packs", "", None),
        ] {
            let found = match Target::parse(&format!("{base}{rest}"), query) {
                Target::Repository { endpoint, .. } => Some(endpoint),
                Target::Root | Target::Elsewhere { .. } | Target::Nothing => None,
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
