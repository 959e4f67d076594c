//! Snapshots of refs, kept in memory for as long as the file system reports no change (docs/facts/git-http.md 2.1).

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

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
pub(crate) struct RefCache(Cache<PathBuf, CachedRefs, RefsHeld>);

#[derive(Debug, Clone)]
struct CachedRefs {
    snapshot: Arc<RefSnapshot>,
    stamps: Arc<[Stamp]>,
    stamps_first_seen: Instant,
    settled: bool,
}

/// A repository without refs still costs its stamps.
#[derive(Debug, Clone)]
struct RefsHeld;

impl Weighter<PathBuf, CachedRefs> for RefsHeld {
    fn weight(&self, _: &PathBuf, cached: &CachedRefs) -> u64 {
        (cached.snapshot.refs.len() + cached.stamps.len()) as u64
    }
}

impl RefCache {
    pub(crate) fn new(refs_max: usize) -> Self {
        Self(Cache::with_weighter(REPOSITORIES_EXPECTED, refs_max as u64, RefsHeld))
    }

    /// Returns the refs of the repository at `path`; `None` if there is none. Blocks while it reads.
    pub(crate) fn snapshot(&self, path: &Path) -> Result<Option<Arc<RefSnapshot>>, ReadError> {
        let entry = self.0.get(path);
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
        let snapshot = Arc::new(read.snapshot);
        let fresh = CachedRefs {
            snapshot: Arc::clone(&snapshot),
            stamps: read.stamps.into(),
            stamps_first_seen,
            settled: begun.duration_since(stamps_first_seen) >= SETTLE,
        };
        self.0.insert(path.to_owned(), fresh);
        Ok(Some(snapshot))
    }

    /// Drops the snapshot of the repository at `path`.
    pub(crate) fn forget(&self, path: &Path) {
        self.0.remove(path);
    }

    #[cfg(test)]
    pub(crate) fn refs_held(&self) -> u64 {
        self.0.weight()
    }
}

/// Several ticks of any file system with sub-second time stamps.
const SETTLE: Duration = Duration::from_millis(50);

/// For how many repositories there is room at first. Few, so that the cache has few parts: the refs of one repository
/// must fit into one.
const REPOSITORIES_EXPECTED: usize = 64;
