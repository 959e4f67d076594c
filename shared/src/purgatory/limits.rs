//! The limits of the purgatory.

/// A limit of the purgatory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of one event.
    EventBytes,
    /// Entries held by one author.
    EntriesPerAuthor,
    /// Bytes of the events held by one author.
    BytesPerAuthor,
    /// Entries held from one source.
    EntriesPerSource,
    /// Bytes of the events held from one source.
    BytesPerSource,
    /// Entries of one repository. Those of an author who has few of them are held anyway.
    EntriesPerRepository,
    /// Entries of one author for one repository.
    EntriesPerShare,
    /// Related events that wait behind the same event.
    EntriesBehind,
    /// Entries held in all.
    Entries,
    /// Bytes of the events held in all.
    Bytes,
}

#[cfg(feature = "io")]
pub use crate::options::held_limits::Limits;
