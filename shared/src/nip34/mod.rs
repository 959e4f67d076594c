//! The git events of nostr (NIP-34) as parsed values: announcement, state, PR. No I/O.

mod announcement;
mod coordinate;
mod identifier;
mod kinds;
mod pull_request;
mod roles;
mod state;

pub use announcement::Announcement;
pub use announcement::AnnouncementError;
pub use coordinate::Coordinate;
pub use coordinate::CoordinateError;
pub use identifier::Identifier;
pub use identifier::IdentifierError;
pub use kinds::ANNOUNCEMENT;
pub use kinds::COMMENT;
pub use kinds::DELETION;
pub use kinds::GRASP_LIST;
pub use kinds::ISSUE;
pub use kinds::PATCH;
pub use kinds::PULL_REQUEST;
pub use kinds::PULL_REQUEST_UPDATE;
pub use kinds::STATE;
pub use kinds::STATUS_FIRST;
pub use kinds::STATUS_LAST;
pub use kinds::VANISH;
pub use pull_request::PullRequest;
pub use pull_request::PullRequestError;
pub use roles::Roles;
pub use state::Declared;
pub use state::State;
pub use state::StateDefect;
pub use state::StateError;
