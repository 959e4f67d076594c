//! The limits of the purgatory.

/// A limit of the purgatory that is reached. The text is for the author of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// Bytes of one event.
    #[error("this event is too large to wait for git data")]
    EventBytes,
    /// Entries held by one author.
    #[error("too many events of this author wait for git data")]
    EntriesPerAuthor,
    /// Bytes of the events held by one author.
    #[error("too many bytes of events of this author wait for git data")]
    BytesPerAuthor,
    /// Entries held from one source.
    #[error("too many events from this address wait for git data")]
    EntriesPerSource,
    /// Bytes of the events held from one source.
    #[error("too many bytes of events from this address wait for git data")]
    BytesPerSource,
    /// Announcements from one source of repositories that are not served here, in a day.
    #[error("too many new repositories have been announced from this address")]
    NewRepositoriesPerSource,
    /// Entries of one repository. Those of an author who has few of them are held anyway.
    #[error("too many events for this repository wait for git data")]
    EntriesPerRepository,
    /// Entries of one author for one repository.
    #[error("too many events of this author for this repository wait for git data")]
    EntriesPerShare,
    /// Related events that wait behind the same event.
    #[error("too many events wait behind the one that this event refers to")]
    EntriesBehind,
    /// Entries held in all.
    #[error("too many events wait for git data")]
    Entries,
    /// Bytes of the events held in all.
    #[error("too many bytes of events wait for git data")]
    Bytes,
}

impl Limit {
    /// Returns what its author can do, for the same text.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self == Self::NewRepositoriesPerSource {
            true => "announce others in the course of the next day",
            false => "try again when some of them have been released or have expired",
        }
    }
}

#[cfg(feature = "io")]
pub use crate::options::held_limits::Limits;
