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
    /// Entries held with one identifier.
    EntriesPerIdentifier,
    /// Entries held in all.
    Entries,
    /// Bytes of the events held in all.
    Bytes,
}

/// The limits of the purgatory. Bytes are those of the events as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one event.
    pub event_bytes_max: u64,
    /// Most entries of one author, releasing ones not counted.
    pub entries_per_author_max: u64,
    /// Most bytes of the entries of one author, releasing ones not counted.
    pub bytes_per_author_max: u64,
    /// Most entries from one source, releasing ones not counted: an IPv4 address, a /64 of IPv6, or another relay.
    pub entries_per_source_max: u64,
    /// Most bytes of the entries from one source, releasing ones not counted.
    pub bytes_per_source_max: u64,
    /// Most entries with one identifier, in any status: each reconcile reads them all.
    pub entries_per_identifier_max: u64,
    /// Most entries in all, releasing ones not counted.
    pub entries_max: u64,
    /// Most bytes of the entries in all, releasing ones not counted.
    pub bytes_max: u64,
    /// Most placeholders in all.
    pub placeholders_max: u64,
}

impl Limits {
    /// Room for a busy public server, some hundreds of megabytes of Redis at worst.
    pub const DEFAULT: Self = Self {
        event_bytes_max: 512 << 10,
        entries_per_author_max: 1_000,
        bytes_per_author_max: 16 << 20,
        entries_per_source_max: 10_000,
        bytes_per_source_max: 64 << 20,
        entries_per_identifier_max: 2_000,
        entries_max: 100_000,
        bytes_max: 256 << 20,
        placeholders_max: 10_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
