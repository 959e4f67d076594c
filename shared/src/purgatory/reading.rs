//! What is read from the purgatory: the facts about some identifiers, and which epoch it is.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::entry::Placeholder;
use crate::nip34::Identifier;

/// The number of the change that made an identifier dirty. Never used twice, so that a reconcile clears no other change
/// than the one it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirtyNumber(pub u64);

/// The purgatory's facts about some identifiers, read in one atomic step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// When it was read, unix seconds by the store's clock: the `now` of every decision made on it.
    pub now: u64,
    /// Which of the identifiers are dirty, and since which change.
    pub dirty: BTreeMap<Identifier, DirtyNumber>,
    /// Every entry indexed by one of the identifiers, each once, by event id.
    pub entries: Vec<Entry>,
    /// Every placeholder in a repository with one of the identifiers, sorted.
    pub placeholders: Vec<Placeholder>,
}

/// The time between two losses, or possible losses, of what the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its name; empty: the store has none, so it has lost everything, or is new.
    pub name: String,
    /// The server that answered: another one after a restart or a failover.
    pub server: String,
}

impl Epoch {
    /// Whether the store has lost everything.
    pub fn is_unknown(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether another server began it, which may have had more than this one.
    pub fn is_of_another_server(&self) -> bool {
        let begun_on = self.name.split(':').next();
        begun_on != Some(&self.server)
    }
}
