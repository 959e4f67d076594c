//! The git events of nostr (NIP-34) as parsed values: announcement, state, PR; and the kinds of events that concern them.
//! No I/O.

mod announcement;
mod coordinate;
mod identifier;
mod pull_request;
mod roles;
mod state;

pub use announcement::Announcement;
pub use coordinate::Coordinate;
pub use identifier::Identifier;
pub use pull_request::PullRequest;
pub use roles::Roles;
pub use state::Declared;
pub use state::State;

/// What is wrong with an event of NIP-34 or with a name in it, in words for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Defect(String);

impl From<String> for Defect {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Defect {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Kind of a repository announcement (NIP-34).
pub const ANNOUNCEMENT: u16 = 30617;
/// Kind of a repository state (NIP-34).
pub const STATE: u16 = 30618;
/// Kind of a PR (NIP-34).
pub const PULL_REQUEST: u16 = 1618;
/// Kind of a PR update (NIP-34).
pub const PULL_REQUEST_UPDATE: u16 = 1619;
/// Kind of a patch (NIP-34).
pub const PATCH: u16 = 1617;
/// Kind of an issue (NIP-34).
pub const ISSUE: u16 = 1621;
/// First of the kinds of a status: open, applied, closed, draft (NIP-34).
pub const STATUS_FIRST: u16 = 1630;
/// Last of the kinds of a status.
pub const STATUS_LAST: u16 = 1633;
/// Kind of a user's list of GRASP servers (NIP-34).
pub const GRASP_LIST: u16 = 10317;
/// Kind of a deletion request (NIP-09).
pub const DELETION: u16 = 5;
/// Kind of a request to vanish (NIP-62).
pub const VANISH: u16 = 62;
/// Kind of a comment (NIP-22).
pub const COMMENT: u16 = 1111;
