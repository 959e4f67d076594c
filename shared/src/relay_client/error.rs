//! Failures between us and the relay.

use tokio_tungstenite::tungstenite;

/// Why a relay's answer is not a fact. None of these says anything about the relay's stored events.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Nothing listens there, or the listener does not speak WebSocket.
    #[error("cannot connect to the relay")]
    Connect(#[source] Box<tungstenite::Error>),
    /// The relay did not answer in time.
    #[error("the relay did not answer in time")]
    Timeout,
    /// The connection ended before the answer did.
    #[error("the relay closed the connection")]
    Disconnected,
    /// The relay ended the query (`CLOSED`), with this message.
    #[error("the relay refused the query: {0}")]
    Closed(String),
    /// The relay sent this `NOTICE` while the query ran. It may be about this query.
    #[error("the relay sent a notice: {0}")]
    Notice(String),
    /// The relay sent more events than it was asked for.
    #[error("the relay sent more than the {events_max} events asked for")]
    Overrun {
        /// How many it was asked for.
        events_max: usize,
    },
    /// More events than fit a page were made in one second, so that paging by time cannot get past it.
    #[error("more than {page_size} events match in the second {created_at}")]
    Stalled {
        /// The relay's limit.
        page_size: usize,
        /// The second.
        created_at: u64,
    },
    /// More events match than the caller can take.
    #[error("more than {events_max} events match")]
    TooMany {
        /// How many it can take.
        events_max: usize,
    },
    /// The events that match have more bytes than are read at once.
    #[error("more than {bytes_max} bytes of events match")]
    TooLarge {
        /// How many are.
        bytes_max: usize,
    },
    /// The message is longer than the relay reads; strfry would drop it without an answer.
    #[error("a message of {bytes} bytes is over the relay's limit of {bytes_max}")]
    MessageTooLong {
        /// How long it is.
        bytes: usize,
        /// How long the relay states it may be.
        bytes_max: usize,
    },
    /// The information document could not be read, for this reason.
    #[error("cannot read the relay's information document: {0}")]
    Information(&'static str),
}

impl RelayError {
    /// Whether more matches than is read at once: less of it can be asked for.
    pub fn is_too_much(&self) -> bool {
        matches!(
            self,
            Self::TooMany { .. } | Self::TooLarge { .. } | Self::Stalled { .. }
        )
    }

    /// Whether the same query may succeed later: the fault is the relay's, not the query's.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Timeout
            | Self::Disconnected
            | Self::Closed(_)
            | Self::Notice(_)
            | Self::Information(_) => true,
            Self::Overrun { .. }
            | Self::Stalled { .. }
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::MessageTooLong { .. } => false,
        }
    }
}
