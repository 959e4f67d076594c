//! The operator's lists on disk: read at the start, and again when they change.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::rules::Access;
use crate::rules::AccessList;
use crate::rules::AccessListError;

/// The paths of the lists; `None`: there is no such list.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
pub struct AccessPaths {
    /// File with the only repositories to host: a key, key/identifier or identifier a line, `#` for comments; keys as
    /// npub, nprofile or hex. Read again when it changes [default: everybody's].
    #[arg(long = "repos-allow", value_name = "FILE")]
    pub allowed: Option<PathBuf>,
    /// File with repositories not to host, even if --repos-allow has them; as --repos-allow [default: none].
    #[arg(long = "repos-deny", value_name = "FILE")]
    pub denied: Option<PathBuf>,
    /// File with the keys of authors whose events are ignored, as npub, nprofile or hex [default: none].
    #[arg(long = "authors-deny", value_name = "FILE")]
    pub denied_authors: Option<PathBuf>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the list {}", path.display())]
pub struct AccessFileError {
    path: PathBuf,
    /// Why it cannot be read, or which line of it cannot be understood.
    pub source: io::Error,
}

/// The lists. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessFiles {
    paths: AccessPaths,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug)]
struct Current {
    access: Arc<Access>,
    stamps: [Option<SystemTime>; 3],
    checked_at: Instant,
}

impl AccessFiles {
    /// Reads the lists.
    pub fn open(paths: AccessPaths) -> Result<Self, AccessFileError> {
        let stamps = stamps(&paths);
        let current = Current {
            access: Arc::new(read(&paths)?),
            stamps,
            checked_at: Instant::now(),
        };
        let current = Arc::new(Mutex::new(current));
        Ok(Self { paths, current })
    }

    /// Reads the lists again, changed or not. One that has become unusable keeps its last content.
    pub fn reload(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.reload(&self.paths, stamps(&self.paths));
    }

    /// Returns the lists as they were at most a second ago. A list that has become unusable keeps its last content.
    pub fn current(&self) -> Arc<Access> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.checked_at.elapsed() >= RELOAD_INTERVAL {
            current.checked_at = Instant::now();
            let stamps = stamps(&self.paths);
            if stamps != current.stamps {
                current.reload(&self.paths, stamps);
            }
        }
        Arc::clone(&current.access)
    }
}

impl Current {
    fn reload(&mut self, paths: &AccessPaths, stamps: [Option<SystemTime>; 3]) {
        match read(paths) {
            Ok(access) => {
                tracing::info!(changed = access != *self.access, "the operator's lists are read again");
                self.access = Arc::new(access);
                self.stamps = stamps;
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "lists not reloaded"),
        }
    }
}

fn stamps(paths: &AccessPaths) -> [Option<SystemTime>; 3] {
    let stamp = |path: &Option<PathBuf>| fs::metadata(path.as_ref()?).ok()?.modified().ok();
    [
        stamp(&paths.allowed),
        stamp(&paths.denied),
        stamp(&paths.denied_authors),
    ]
}

fn read(paths: &AccessPaths) -> Result<Access, AccessFileError> {
    let list = |path: &Option<PathBuf>| path.as_deref().map(|path| read_list(path, str::parse)).transpose();
    let authors = paths.denied_authors.as_deref();
    let authors = authors.map(|path| read_list(path, AccessList::of_authors)).transpose();
    Ok(Access {
        allowed: list(&paths.allowed)?,
        denied: list(&paths.denied)?.unwrap_or_default(),
        denied_authors: authors?.unwrap_or_default(),
    })
}

fn read_list(
    path: &Path,
    parse: impl Fn(&str) -> Result<AccessList, AccessListError>,
) -> Result<AccessList, AccessFileError> {
    let list = fs::read_to_string(path).and_then(|text| parse(&text).map_err(io::Error::other));
    list.map_err(|source| AccessFileError {
        path: path.to_owned(),
        source,
    })
}

/// Between two checks of the files' times.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
