//! An operator's lists on disk: read at the start, and again when they change.

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

/// Where the lists are; `None`: there is no such list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessPaths {
    /// The only repositories that are hosted.
    pub allowed: Option<PathBuf>,
    /// Repositories that are not hosted.
    pub denied: Option<PathBuf>,
    /// Authors none of whose events count.
    pub denied_authors: Option<PathBuf>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessFileError {
    /// It cannot be read.
    #[error("cannot read the list {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A line of it means nothing.
    #[error("cannot use the list {}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line.
        #[source]
        source: AccessListError,
    },
}

impl AccessFileError {
    /// Says it with its cause, on one line, to the operator who has named the file.
    pub fn to_text(&self) -> String {
        match self {
            Self::Read { source, .. } => format!("{self}: {source}"),
            Self::Line { source, .. } => format!("{self}: {source}"),
        }
    }
}

/// The lists. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: AccessPaths,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    access: Arc<Access>,
    stamps: [Option<SystemTime>; 3],
    looked_at: Instant,
}

impl AccessFiles {
    /// Reads the lists.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn open(paths: AccessPaths) -> Result<Self, AccessFileError> {
        let stamps = stamps(&paths);
        let current = Mutex::new(Current {
            access: Arc::new(read(&paths)?),
            stamps,
            looked_at: Instant::now(),
        });
        Ok(Self(Arc::new(Inner { paths, current })))
    }

    /// Returns what the lists say, a second ago at most. A list that cannot be used any more says what it said last.
    pub fn current(&self) -> Arc<Access> {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked_at.elapsed() >= RELOAD_INTERVAL {
            current.looked_at = Instant::now();
            let stamps = stamps(&self.0.paths);
            if stamps != current.stamps {
                match read(&self.0.paths) {
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
    let text = fs::read_to_string(path).map_err(|source| AccessFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|source| AccessFileError::Line {
        path: path.to_owned(),
        source,
    })
}

/// Between two looks at the files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
