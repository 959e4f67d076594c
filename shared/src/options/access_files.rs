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

/// The paths of the lists; `None`: there is no such list.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
pub struct AccessPaths {
    /// File with the only repositories to host: an npub, npub/identifier or identifier a line, `#` for comments. Read
    /// again when it changes [default: everybody's].
    #[arg(long = "repos-allow", value_name = "FILE")]
    pub allowed: Option<PathBuf>,
    /// File with repositories not to host, even if --repos-allow has them; as --repos-allow [default: none].
    #[arg(long = "repos-deny", value_name = "FILE")]
    pub denied: Option<PathBuf>,
    /// File with authors (npub) whose events are ignored [default: none].
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

    /// Returns the lists as they were at most a second ago. A list that has become unusable keeps its last content.
    pub fn current(&self) -> Arc<Access> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.checked_at.elapsed() >= RELOAD_INTERVAL {
            current.checked_at = Instant::now();
            let stamps = stamps(&self.paths);
            if stamps != current.stamps {
                match read(&self.paths) {
                    Ok(access) => {
                        tracing::info!("the operator's lists have changed");
                        current.access = Arc::new(access);
                        current.stamps = stamps;
                    }
                    Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "lists not reloaded"),
                }
            }
        }
        Arc::clone(&current.access)
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
    let list = |path: &Option<PathBuf>| path.as_deref().map(read_list).transpose();
    Ok(Access {
        allowed: list(&paths.allowed)?,
        denied: list(&paths.denied)?.unwrap_or_default(),
        denied_authors: list(&paths.denied_authors)?.unwrap_or_default(),
    })
}

fn read_list(path: &Path) -> Result<AccessList, AccessFileError> {
    let list = fs::read_to_string(path).and_then(|text| text.parse().map_err(io::Error::other));
    list.map_err(|source| AccessFileError {
        path: path.to_owned(),
        source,
    })
}

/// Between two checks of the files' times.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
