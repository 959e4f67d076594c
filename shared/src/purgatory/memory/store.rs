//! The purgatory in this process's memory: the same atomic steps as in Redis, and gone with the process.
//!
//! One lock over everything makes a step atomic, and is never held while waiting. What each step does is documented in
//! `redis/scripts/`, file by file.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use dashmap::DashMap;
use nostr::event::EventId;
use tokio::sync::watch;

use super::transaction::Indices;
use super::transaction::Record;
use super::transaction::Transaction;
use crate::purgatory::limits::Limits;
use crate::purgatory::notifications::Notifications;

/// Where the store in memory reads the time, unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The purgatory in memory. Clones are the same one.
#[derive(Clone)]
pub(in crate::purgatory) struct MemoryStore(Arc<Memory>);

struct Memory {
    records: DashMap<EventId, Record>,
    indices: Mutex<Indices>,
    limits: Limits,
    clock: Clock,
    changes: watch::Sender<u64>,
}

impl MemoryStore {
    pub(in crate::purgatory) fn new(limits: Limits, clock: Clock) -> Self {
        Self(Arc::new(Memory {
            records: DashMap::new(),
            indices: Mutex::default(),
            limits,
            clock,
            changes: watch::Sender::new(0),
        }))
    }

    /// Makes one atomic step.
    pub(in crate::purgatory) fn transact<T>(&self, work: impl FnOnce(&mut Transaction<'_>) -> T) -> T {
        let memory = &*self.0;
        let mut transaction = Transaction {
            records: &memory.records,
            // A panic elsewhere must not stop everybody else; the indices are usable after any part of a step.
            indices: memory.indices.lock().unwrap_or_else(PoisonError::into_inner),
            limits: &memory.limits,
            now: (memory.clock)(),
            raised: BTreeSet::new(),
            is_waking: false,
        };
        transaction.sweep();
        let result = work(&mut transaction);
        if transaction.finish() {
            memory.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        result
    }

    pub(in crate::purgatory) fn notifications(&self) -> Notifications {
        Notifications::new(self.0.changes.subscribe())
    }
}
