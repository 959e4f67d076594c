//! Full ref names, valid by git's own rules and ours (`git-check-ref-format(1)`; docs/facts/git-http.md 3.1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use nostr::event::EventId;

use crate::nip01::is_lower_hex;

/// A full ref name such as `refs/heads/main`: valid for git, UTF-8, at least three components, of at most 250 bytes
/// each and 1,024 in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(Arc<str>);

/// The purpose of a ref name, which decides who may write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// `refs/heads/…`: a branch, governed by a state event.
    Branch,
    /// `refs/tags/…`: a tag, governed by a state event.
    Tag,
    /// `refs/nostr/<event-id>`: the commit of the PR event with that id (GRASP-01).
    PullRequest(EventId),
    /// `refs/nostr/…` with something else than an event id in lower-case hex.
    MalformedPullRequest,
    /// Anything else. No event governs it, so it cannot be pushed.
    Other,
}

/// Why a text is not a ref name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RefNameError(String);

impl RefName {
    /// Longest name. Leaves room for the path of the data directory below the 4096 bytes of `PATH_MAX`, and bounds the
    /// work for each of its directories.
    pub const BYTES_MAX: usize = 1024;

    /// Returns the full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns which rules the ref stands under.
    pub fn namespace(&self) -> Namespace {
        if self.0.starts_with("refs/heads/") {
            return Namespace::Branch;
        }
        if self.0.starts_with("refs/tags/") {
            return Namespace::Tag;
        }
        let Some(id) = self.0.strip_prefix("refs/nostr/") else {
            return Namespace::Other;
        };
        match EventId::from_hex(id) {
            Ok(event_id) if is_lower_hex(id, 64) => Namespace::PullRequest(event_id),
            Ok(_) | Err(_) => Namespace::MalformedPullRequest,
        }
    }

    /// Whether it is a branch or a tag: what states declare.
    pub fn is_branch_or_tag(&self) -> bool {
        matches!(self.namespace(), Namespace::Branch | Namespace::Tag)
    }

    /// Whether its object must be a commit: git allows no other branch, and a tag may name any object.
    pub fn must_be_commit(&self) -> bool {
        match self.namespace() {
            Namespace::Branch | Namespace::PullRequest(_) | Namespace::MalformedPullRequest | Namespace::Other => true,
            Namespace::Tag => false,
        }
    }

    /// Returns the PR event whose commit the ref holds; `None`: it is no such ref.
    pub fn pull_request_id(&self) -> Option<EventId> {
        match self.namespace() {
            Namespace::PullRequest(event_id) => Some(event_id),
            Namespace::Branch | Namespace::Tag | Namespace::MalformedPullRequest | Namespace::Other => None,
        }
    }

    /// Returns the name of the ref that holds the commit of the PR event `event_id` (GRASP-01).
    pub fn pull_request(event_id: &EventId) -> Self {
        Self(format!("refs/nostr/{event_id}").into())
    }

    /// Whether the two names cannot exist side by side, because one is a directory of the other.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let inside = |dir: &str, name: &str| name.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        inside(&self.0, &other.0) || inside(&other.0, &self.0)
    }
}

impl FromStr for RefName {
    type Err = RefNameError;

    fn from_str(text: &str) -> Result<Self, RefNameError> {
        let error = if text.len() > Self::BYTES_MAX {
            format!("the ref name has more than {} bytes", Self::BYTES_MAX)
        } else if !text.starts_with("refs/") || text.split('/').count() < 3 {
            "a ref name has the form refs/<kind>/<name>".to_owned()
        } else if text.split('/').any(|part| part.len() > COMPONENT_BYTES_MAX) {
            format!("a component of the ref name has more than {COMPONENT_BYTES_MAX} bytes")
        } else {
            match gix_validate::reference::name(text.into()) {
                Ok(_) => return Ok(Self(text.into())),
                Err(error) => format!("not a valid ref name: {error}"),
            }
        };
        Err(RefNameError(error))
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Longest component: the file name limit of the file systems that refs are stored on, 255, less the `.lock` that git
/// appends to write one.
const COMPONENT_BYTES_MAX: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_git_calls_funny_are_refused() {
        let names = [
            "HEAD",
            "refs/stash",
            "heads/main",
            "refs/heads/",
            "refs/heads/a..b",
            "refs/heads/a.lock",
            "refs/heads/a b",
            "refs/heads/a\nb",
            "refs/heads/@{1}",
            "refs//heads/main",
        ];

        let refused = names.iter().filter(|name| name.parse::<RefName>().is_err()).count();

        assert_eq!(refused, names.len());
    }

    #[test]
    fn a_component_longer_than_a_file_name_is_refused() {
        assert!(format!("refs/heads/{}", "x".repeat(250)).parse::<RefName>().is_ok());
        assert_eq!(
            format!("refs/heads/{}", "x".repeat(251)).parse::<RefName>(),
            Err(RefNameError(
                "a component of the ref name has more than 250 bytes".to_owned()
            ))
        );
    }

    #[test]
    fn a_name_longer_than_the_server_stores_is_refused() {
        let name = |len: usize| "refs/heads".to_owned() + &"/x".repeat((len - 10) / 2);

        assert_eq!(name(RefName::BYTES_MAX).len(), RefName::BYTES_MAX);
        assert!(name(RefName::BYTES_MAX).parse::<RefName>().is_ok());
        assert_eq!(
            name(RefName::BYTES_MAX + 2).parse::<RefName>(),
            Err(RefNameError("the ref name has more than 1024 bytes".to_owned()))
        );
    }

    #[test]
    fn only_lower_case_event_ids_name_a_pull_request() {
        let id = "ab".repeat(32);
        let namespace = |name: String| name.parse::<RefName>().unwrap().namespace();

        assert!(matches!(
            namespace(format!("refs/nostr/{id}")),
            Namespace::PullRequest(_)
        ));
        assert_eq!(
            namespace(format!("refs/nostr/{}", id.to_uppercase())),
            Namespace::MalformedPullRequest
        );
        assert_eq!(namespace("refs/nostr/123".to_owned()), Namespace::MalformedPullRequest);
        assert_eq!(namespace("refs/pull/1".to_owned()), Namespace::Other);
    }

    #[test]
    fn a_name_conflicts_with_its_directory_only() {
        let name = |text: &str| text.parse::<RefName>().unwrap();

        assert!(name("refs/heads/a").conflicts_with(&name("refs/heads/a/b")));
        assert!(name("refs/heads/a/b").conflicts_with(&name("refs/heads/a")));
        assert!(!name("refs/heads/a").conflicts_with(&name("refs/heads/ab")));
        assert!(!name("refs/heads/a").conflicts_with(&name("refs/heads/a")));
    }
}
