//! Why a push was not decided or not carried out, for the log, and what its pusher reads about it.

use shared::load_facts::FactsError;
use shared::purgatory::PlaceholderLimit;
use shared::purgatory::PurgatoryError;
use shared::relay_client::RelayError;

use crate::push::list_memory::GAVE_WAY;
use crate::push::outcome::PushOutcome;
use crate::reconcile::error::ReconcileError;
use crate::repositories::error::RepositoryError;

/// Why a push was not decided, or could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    #[error(transparent)]
    Reconcile(ReconcileError),
    #[error(transparent)]
    NoPlaceholder(PlaceholderLimit),
    #[error("the repository is no longer hosted on this server")]
    Gone,
    #[error("a different state event has arrived in the meantime, push again")]
    StateReplaced,
    #[error("{GAVE_WAY}")]
    GaveWay,
}

impl<E: Into<ReconcileError>> From<E> for PushError {
    fn from(error: E) -> Self {
        Self::Reconcile(error.into())
    }
}

impl PushError {
    /// Returns what the pusher reads; the causes are for the log.
    pub(super) fn to_pusher(&self) -> String {
        let text = match self {
            Self::Reconcile(ReconcileError::Purgatory(PurgatoryError::Full { .. })) => {
                "the purgatory (Redis) is full, push again later; this server's log has the reason"
            }
            Self::Reconcile(ReconcileError::Purgatory(_) | ReconcileError::Facts(FactsError::Purgatory(_))) => {
                "the purgatory (Redis) does not answer, push again later"
            }
            Self::Reconcile(ReconcileError::Facts(
                FactsError::TooLarge { .. } | FactsError::MemberUnread | FactsError::Relay(RelayError::TooLarge { .. }),
            )) => "the maintainers of this repository have published more events than this server reads for one push",
            Self::Reconcile(ReconcileError::Facts(FactsError::Relay(_) | FactsError::Replaced)) => {
                "the relay does not answer, push again later"
            }
            Self::Reconcile(ReconcileError::Facts(FactsError::Busy)) => {
                "too many repositories are being looked up, push again later"
            }
            Self::Reconcile(ReconcileError::Repository(RepositoryError::Busy { .. })) => {
                "the repository is busy with other work, push again later"
            }
            Self::Reconcile(ReconcileError::Repository(_)) => {
                "the repository cannot be read or changed right now, push again later; this server's log has the reason"
            }
            Self::NoPlaceholder(_) | Self::Gone | Self::StateReplaced | Self::GaveWay => return self.to_string(),
        };
        text.to_owned()
    }

    pub(super) fn outcome(&self) -> PushOutcome {
        match self {
            Self::GaveWay => PushOutcome::Limit,
            Self::Reconcile(_) | Self::NoPlaceholder(_) | Self::Gone | Self::StateReplaced => PushOutcome::Unavailable,
        }
    }
}
