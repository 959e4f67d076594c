//! Where an event stands between its author and its readers, and whether a repository is hosted by one.

use crate::purgatory::EntryStatus;

/// The status of an event between its author and its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStatus {
    /// The relay has it.
    Served,
    /// Complete and on its way into the relay, or stuck there: counts as served.
    Releasing,
    /// Waits in the purgatory for its data.
    Held,
    /// An expired announcement that an authorised state may still wake.
    Asleep,
}

impl EventStatus {
    /// Whether the event counts as served.
    pub fn counts_as_served(self) -> bool {
        match self {
            Self::Served | Self::Releasing => true,
            Self::Held | Self::Asleep => false,
        }
    }
}

impl From<EntryStatus> for EventStatus {
    fn from(status: EntryStatus) -> Self {
        match status {
            EntryStatus::Held => Self::Held,
            EntryStatus::Asleep => Self::Asleep,
            EntryStatus::Releasing | EntryStatus::Stuck => Self::Releasing,
        }
    }
}

/// Whether this server hosts a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosting {
    /// No announcement that counts names this server.
    Absent,
    /// The announcement waits in the purgatory: the repository can be pushed to, and reads as empty.
    Waiting,
    /// The announcement is served.
    Announced,
}
