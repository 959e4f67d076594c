//! Why a push was not decided or not carried out, for the log, and what its pusher reads about it.

use shared::load_facts::FactsError;
use shared::purgatory::PurgatoryError;

use crate::reconcile::error::ReconcileError;
use crate::repositories::error::RepositoryError;

/// Why nothing could be decided about a push.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    #[error("no facts to decide on")]
    Facts(#[from] FactsError),
    #[error("cannot read the repository")]
    Repository(#[from] RepositoryError),
}

impl PushError {
    /// Returns what the pusher reads; the causes are for the log.
    pub(super) fn to_pusher(&self) -> &'static str {
        match self {
            Self::Facts(error) => without_facts(error),
            Self::Repository(_) => "the repository cannot be read now, push again later",
        }
    }
}

fn without_facts(error: &FactsError) -> &'static str {
    match error {
        FactsError::Purgatory(_) => "the purgatory (Redis) does not answer, push again later",
        FactsError::Relay(_) => "the relay does not answer, push again later",
    }
}

/// Why a push that was allowed could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    #[error(transparent)]
    Push(#[from] PushError),
    #[error("the purgatory does not answer")]
    Purgatory(#[from] PurgatoryError),
    #[error("cannot store what was pushed")]
    Repository(#[from] RepositoryError),
    #[error("cannot load the facts under the lock")]
    Load(#[source] ReconcileError),
    #[error("too many commits wait for their PR events, push again later")]
    PlaceholdersFull,
    #[error("the repository is no longer hosted here")]
    Gone,
}

impl CommitError {
    /// Returns what the pusher reads; the causes are for the log.
    pub(super) fn to_pusher(&self) -> String {
        match self {
            Self::Push(error) => error.to_pusher().to_owned(),
            Self::Load(ReconcileError::Facts(error)) => without_facts(error).to_owned(),
            Self::Purgatory(PurgatoryError::Full { .. }) => {
                "the purgatory (Redis) is full, push again later; the operator finds the reason in the log".to_owned()
            }
            Self::Purgatory(_) | Self::Load(ReconcileError::Purgatory(_)) => {
                "the purgatory (Redis) does not answer, push again later".to_owned()
            }
            Self::Repository(_) | Self::Load(ReconcileError::Repository(_)) => {
                "the push could not be stored here, push again later; the operator finds the reason in the log"
                    .to_owned()
            }
            Self::PlaceholdersFull | Self::Gone => self.to_string(),
        }
    }
}
