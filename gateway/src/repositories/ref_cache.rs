//! Snapshots of refs kept in memory for as long as the file system says that nothing changed
//! (docs/facts/git-http.md 2.1).

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use dashmap::DashMap;

use crate::repositories::objects::ReadError;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::refs::Stamp;
use crate::repositories::refs::read_refs;

/// The refs of repositories by path, bounded by the number of refs held.
///
/// An entry is used only if its stamps hold *and* had been seen unchanged for [`SETTLE`] when it was read: a change in
/// the same tick of the file system's clock leaves no trace in a stamp (git's "racily clean"). Time is measured
/// between our own looks, so a file server with another clock does no harm.
#[derive(Debug)]
pub(crate) struct RefCache {
    entries: DashMap<PathBuf, CachedRefs>,
    refs_held: AtomicUsize,
    refs_max: usize,
}

#[derive(Debug, Clone)]
struct CachedRefs {
    snapshot: Arc<RefSnapshot>,
    stamps: Arc<[Stamp]>,
    stamps_first_seen: Instant,
    settled: bool,
}

impl RefCache {
    pub(crate) fn new(refs_max: usize) -> Self {
        Self {
            entries: DashMap::new(),
            refs_held: AtomicUsize::new(0),
            refs_max,
        }
    }

    /// Returns the refs of the repository at `path`; `None` if there is none. Blocks for as long as it reads.
    pub(crate) fn snapshot(&self, path: &Path) -> Result<Option<Arc<RefSnapshot>>, ReadError> {
        let entry = self.entries.get(path).map(|entry| entry.value().clone());
        if let Some(entry) = &entry
            && entry.settled
            && entry.stamps.iter().all(Stamp::still_holds)
        {
            return Ok(Some(Arc::clone(&entry.snapshot)));
        }
        let begun = Instant::now();
        let known = entry.as_ref().map(|entry| entry.snapshot.as_ref());
        let Some(read) = read_refs(path, known)? else {
            self.forget(path);
            return Ok(None);
        };
        let stamps_first_seen = match &entry {
            Some(entry) if *entry.stamps == *read.stamps => entry.stamps_first_seen,
            Some(_) | None => begun,
        };
        let fresh = CachedRefs {
            snapshot: Arc::new(read.snapshot),
            stamps: read.stamps.into(),
            stamps_first_seen,
            settled: begun.duration_since(stamps_first_seen) >= SETTLE,
        };
        let snapshot = Arc::clone(&fresh.snapshot);
        self.keep(path, fresh);
        Ok(Some(snapshot))
    }

    /// Drops what is known of the repository at `path`.
    pub(crate) fn forget(&self, path: &Path) {
        if let Some((_, entry)) = self.entries.remove(path) {
            self.refs_held.fetch_sub(weight(&entry), Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(crate) fn refs_held(&self) -> usize {
        self.refs_held.load(Ordering::Relaxed)
    }

    fn keep(&self, path: &Path, entry: CachedRefs) {
        let added = weight(&entry);
        if added > self.refs_max {
            return self.forget(path);
        }
        self.refs_held.fetch_add(added, Ordering::Relaxed);
        if let Some(old) = self.entries.insert(path.to_owned(), entry) {
            self.refs_held.fetch_sub(weight(&old), Ordering::Relaxed);
        }
        while self.refs_held.load(Ordering::Relaxed) > self.refs_max {
            // Which one goes hardly matters: a repository in use comes back with its next request.
            let other = self.entries.iter().find(|other| other.key() != path);
            let Some(other) = other.map(|other| other.key().clone()) else {
                return;
            };
            self.forget(&other);
        }
    }
}

/// A repository without refs still costs its stamps.
fn weight(entry: &CachedRefs) -> usize {
    entry.snapshot.refs.len() + entry.stamps.len()
}

/// Several ticks of any file system with sub-second time stamps.
const SETTLE: Duration = Duration::from_millis(50);
