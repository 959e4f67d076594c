//! An operator's view of the purgatory: its content and its size.

use nostr::event::EventId;

use super::entry::Placeholder;

/// Which part of the purgatory is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InventoryIndex {
    /// Held and sleeping events, and placeholders.
    Waiting,
    /// Releasing and stuck events.
    Releasing,
}

/// A page of what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryPage {
    /// Events; the same may be in another page, too.
    pub event_ids: Vec<EventId>,
    /// Commits that were pushed before their events.
    pub placeholders: Vec<Placeholder>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<String>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InventoryCounts {
    /// When it was counted, unix seconds by the store's clock.
    pub now: u64,
    /// Events that are held or asleep.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Events that are releasing or stuck.
    pub releasing: u64,
    /// Commits that were pushed before their events.
    pub placeholders: u64,
    /// Repositories that a gateway must reconcile.
    pub dirty: u64,
}
