//! Why a reconcile did not come to its end.

use shared::load_facts::FactsError;
use shared::purgatory::PurgatoryError;

use crate::repositories::error::RepositoryError;

/// Why a reconcile did not finish: the rest remains to be done, and the coordinates stay dirty.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// There are no facts, so nothing was decided.
    #[error("cannot load the facts")]
    Facts(#[from] FactsError),
    /// The purgatory went away in the middle.
    #[error("cannot write to the purgatory")]
    Purgatory(#[from] PurgatoryError),
    /// Something on disk could not be read, changed or locked.
    #[error("cannot align the repositories")]
    Repository(#[from] RepositoryError),
}

impl ReconcileError {
    /// Whether others have the lock of a repository.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Repository(RepositoryError::Busy { .. }))
    }

    /// Whether the relay or Redis is the reason, and not the repositories.
    pub(crate) fn is_of_a_neighbour(&self) -> bool {
        match self {
            Self::Facts(error) => error.is_of_a_neighbour(),
            Self::Purgatory(_) => true,
            Self::Repository(_) => false,
        }
    }
}
