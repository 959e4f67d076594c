//! Why something on disk could not be read or changed: for the log, and for the few who tell one reason from another.

use std::time::Duration;

use nostr::event::EventId;
use shared::git::Oid;
use shared::nip34::Coordinate;

use crate::git::error::GitError;
use crate::repositories::layout::FileError;
use crate::repositories::objects::ReadError;
use crate::repositories::pack::IngestError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("the lock of the repository was not free within {} s", waited.as_secs_f32())]
    Busy { waited: Duration },
    #[error("the repository does not exist")]
    NoRepository,
    #[error("a ref has changed meanwhile: {message}")]
    Stale { message: String },
    /// Another process holds a lock on the refs for longer than that is waited for.
    #[error("a ref is locked: {message}")]
    Locked { message: String },
    /// What git would not have either: a missing object, a branch that is no commit, a name inside another.
    #[error("the refs cannot be changed so: {message}")]
    Refused { message: String },
    /// A commit or tag needs objects that are not where it comes from, nor where it goes.
    #[error("the objects are incomplete: {message}")]
    Incomplete { message: String },
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Nothing is read under a lock for it.
    #[error("what commit {commit_oid} of event {event_id} needs is not sorted yet")]
    Unsorted { event_id: EventId, commit_oid: Oid },
    #[error("nothing is staged for event {event_id} at {commit_oid}")]
    NotStaged { event_id: EventId, commit_oid: Oid },
    #[error("{coordinate} is not covered by the lock that is held")]
    NotLocked { coordinate: Coordinate },
    #[error("changes of {coordinate} that were interrupted cannot be finished")]
    Unfinished { coordinate: Coordinate },
}
