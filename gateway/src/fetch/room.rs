//! How much of the disk answers take that are kept, and whose they are. Where all is in use, the answer gives way that
//! was not asked for longest; one repository has a part only. Bookkeeping: no I/O.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;

/// The disk that all kept answers share.
#[derive(Debug)]
pub(super) struct AnswerDisk {
    bytes_max: u64,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    by_repository: HashMap<Arc<Path>, u64>,
}

/// Whose answers have to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivesWay {
    /// One of the same repository, which has its part.
    Own,
    /// Any.
    Any,
}

/// Lets answers give way.
pub(super) trait Evict: std::fmt::Debug + Send + Sync {
    /// Removes an answer that nobody reads; `false`: there is none.
    fn evict(&self, repository: &Path, gives_way: GivesWay) -> bool;
}

/// What one answer takes. Dropped, it is free again.
#[must_use = "room that is dropped is free again"]
#[derive(Debug)]
pub(super) struct AnswerRoom {
    disk: Arc<AnswerDisk>,
    others: Weak<dyn Evict>,
    repository: Arc<Path>,
    bytes: u64,
}

impl AnswerDisk {
    pub(super) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            used: Mutex::default(),
        })
    }

    /// Returns how many bytes one repository may have.
    pub(super) fn per_repository_max(&self) -> u64 {
        self.bytes_max / PARTS
    }

    /// Returns how many bytes are in use.
    pub(super) fn bytes(&self) -> u64 {
        self.used().bytes
    }

    fn add(&self, repository: &Arc<Path>, bytes: u64) -> Result<(), GivesWay> {
        let mut used = self.used();
        let own = used.by_repository.get(repository).copied().unwrap_or_default();
        if own.saturating_add(bytes) > self.per_repository_max() {
            return Err(GivesWay::Own);
        }
        if used.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(GivesWay::Any);
        }
        used.bytes += bytes;
        *used.by_repository.entry(Arc::clone(repository)).or_default() += bytes;
        Ok(())
    }

    fn remove(&self, repository: &Arc<Path>, bytes: u64) {
        let mut used = self.used();
        used.bytes -= bytes;
        if let Some(own) = used.by_repository.get_mut(repository) {
            *own -= bytes;
            if *own == 0 {
                used.by_repository.remove(repository);
            }
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerRoom {
    /// Room of no bytes yet for an answer about `repository`.
    pub(super) fn new(disk: &Arc<AnswerDisk>, others: Weak<dyn Evict>, repository: &Arc<Path>) -> Self {
        Self {
            disk: Arc::clone(disk),
            others,
            repository: Arc::clone(repository),
            bytes: 0,
        }
    }

    /// Adds bytes, for which others may have to give way; `false`: there is no room for them.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        while let Err(gives_way) = self.disk.add(&self.repository, bytes) {
            let others = self.others.upgrade();
            if !others.is_some_and(|others| others.evict(&self.repository, gives_way)) {
                return false;
            }
        }
        self.bytes += bytes;
        true
    }

    pub(super) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.disk.remove(&self.repository, bytes);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for AnswerRoom {
    fn drop(&mut self) {
        self.disk.remove(&self.repository, self.bytes);
    }
}

/// One repository has one of so many parts: who can fill it keeps room for others' answers.
const PARTS: u64 = 4;
