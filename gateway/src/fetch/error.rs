//! Why a fetch was not answered.

use std::io;

use crate::fairness::least_rate::TooSlow;
use crate::git::error::GitError;
use crate::http::body::BodyError;
use wire::pkt_line::PktLineError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadPackError {
    #[error("malformed fetch request: {0}")]
    PktLine(#[from] PktLineError),
    #[error("malformed fetch request: {0}")]
    Malformed(&'static str),
    #[error("the server is busy with other fetches: try again later")]
    Busy,
    /// It has ended for another address: the client's address had the largest share.
    #[error("another address needed the room of this fetch")]
    GaveWay,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the request was not received: {0}")]
    TooSlow(#[from] TooSlow),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("git upload-pack failed")]
    Failed(#[source] io::Error),
}
