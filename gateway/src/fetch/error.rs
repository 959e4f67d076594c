//! Why a fetch was not answered.

use std::io;

use crate::fetch::ls_refs::LsRefsError;
use crate::git::error::GitError;
use crate::http::body::BodyError;
use crate::repositories::objects::ReadError;
use wire::pkt_line::PktLineError;

/// Why a fetch was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadPackError {
    /// The repository is not on disk.
    #[error("the repository does not exist")]
    NoRepository,
    /// The request is none of git's.
    #[error("malformed fetch request: {0}")]
    PktLine(#[from] PktLineError),
    /// The request is no `ls-refs` that git would answer.
    #[error("malformed fetch request: {0}")]
    LsRefs(#[from] LsRefsError),
    /// The request has an end before it says anything.
    #[error("malformed fetch request: it ends too early")]
    Truncated,
    /// Too many fetches at once: try later.
    #[error("the server is busy with other fetches: try again later")]
    Busy,
    /// The request was not received in whole.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The refs could not be read.
    #[error(transparent)]
    Refs(#[from] ReadError),
    /// git could not be run.
    #[error(transparent)]
    Git(#[from] GitError),
    /// git ended without an answer.
    #[error("git upload-pack failed")]
    Failed(#[source] io::Error),
}
