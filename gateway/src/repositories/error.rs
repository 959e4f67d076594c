//! Why something on disk could not be read or changed.

use std::io;

use shared::nip34::Coordinate;

use crate::repositories::copy::CopyError;
use crate::repositories::layout::LayoutError;
use crate::repositories::objects::ObjectError;
use crate::repositories::ref_transaction::ApplyError;
use crate::repositories::refs::RefReadError;
use crate::repositories::staging::AdmitError;

/// Why something on disk could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    /// Refs could not be read.
    #[error(transparent)]
    Refs(#[from] RefReadError),
    /// Objects could not be looked up.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// A directory could not be read or changed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Refs could not be changed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Objects could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A note in a repository could not be read or written.
    #[error("cannot read or write the note {name} of a repository")]
    Note {
        /// The note's file.
        name: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A repository could not be removed.
    #[error("cannot remove a repository")]
    Remove(#[source] io::Error),
    /// What was staged could not be moved in.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// The lock file of an identifier could not be locked.
    #[error("cannot lock the identifier")]
    Lock(#[source] io::Error),
    /// A change of a repository whose identifier is not among those locked.
    #[error("{coordinate} is not covered by the lock that is held")]
    NotLocked {
        /// The repository.
        coordinate: Coordinate,
    },
}
