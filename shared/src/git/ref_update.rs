//! A change of one ref: one step of an alignment, or one command of a push as a client sent it (git
//! `gitprotocol-pack(5)`, "Reference Update Request").

use super::Oid;
use super::OidError;
use super::RefName;
use super::RefNameError;

/// A change of one ref. Expected and new value travel together (compare and swap).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The ref to change.
    pub name: RefName,
    /// The value the ref has before the change; `None`: the ref does not exist.
    pub old: Option<Oid>,
    /// The value the ref has after the change; `None`: the ref is deleted.
    pub new: Option<Oid>,
}

/// One command of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushCommand {
    /// The ref name as sent, for the report.
    pub name: String,
    /// The requested change, or why it is invalid; other commands of the push are not affected.
    pub update: Result<RefUpdate, CommandDefect>,
}

/// Why one command cannot be carried out, whatever the facts are. The text is for `ng`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandDefect {
    /// The name is not one of a ref.
    #[error("funny refname: {0}")]
    Name(#[from] RefNameError),
    /// An object id is malformed.
    #[error("bad object id: {0}")]
    Oid(#[from] OidError),
    /// The push has another command for the ref.
    #[error("the push has more than one command for this ref")]
    Duplicate,
    /// The push would create two refs of which one is a directory of the other.
    #[error("the push has two refs that cannot both exist")]
    DirectoryConflict,
    /// The push has too many refs of PRs before this one.
    #[error("a push has at most {max} refs of PRs, push the others separately")]
    TooManyPullRequests {
        /// The limit.
        max: usize,
    },
}
