//! Why a fetch was not answered.

use std::io;

use crate::fairness::least_rate::TooSlow;
use crate::git::error::GitError;
use crate::http::body::BodyError;
use wire::pkt_line::PktLineError;

/// Why a fetch was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadPackError {
    /// The request is not made of pkt-lines.
    #[error("malformed fetch request: {0}")]
    PktLine(#[from] PktLineError),
    /// git would not answer this request.
    #[error("malformed fetch request: {0}")]
    Malformed(&'static str),
    /// Too many fetches at once: try later.
    #[error("the server is busy with other fetches: try again later")]
    Busy,
    /// It has ended for another address: the client's address had the largest share.
    #[error("another address needed the room of this fetch")]
    GaveWay,
    /// The request was not received in whole.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The request came too slowly.
    #[error("the request was not received: {0}")]
    TooSlow(#[from] TooSlow),
    /// git could not be run.
    #[error(transparent)]
    Git(#[from] GitError),
    /// git ended without an answer.
    #[error("git upload-pack failed")]
    Failed(#[source] io::Error),
}
