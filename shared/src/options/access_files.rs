//! The operator's lists on disk: read at the start, and again when they change.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bitcoin_hashes::sha256;
use parking_lot::Mutex;

use crate::rules::Access;
use crate::rules::AccessList;
use crate::rules::AccessListError;

/// The paths of the lists; `None`: there is no such list.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
pub struct AccessPaths {
    /// File with the only repositories to host: a key, key/identifier or identifier per line, `#` for comments; keys as
    /// npub, nprofile or hex. Read again when it changes [default: all].
    #[arg(long = "repos-allow", value_name = "FILE")]
    pub allowed: Option<PathBuf>,
    /// File with repositories not to host, even if --repos-allow has them; same format as --repos-allow [default:
    /// none].
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
    digest: String,
}

impl AccessFiles {
    /// Reads the lists, now and whenever they change.
    pub fn open(paths: AccessPaths) -> Result<Self, AccessFileError> {
        let stamps = stamps(&paths);
        let current = Arc::new(Mutex::new(Current::read(&paths)?));
        let files = Self { paths, current };
        if files.paths != AccessPaths::default() {
            files.follow(stamps);
        }
        Ok(files)
    }

    /// Reads the lists once, and forgets them.
    pub(super) fn check(paths: &AccessPaths) -> Result<(), AccessFileError> {
        read(paths).map(drop)
    }

    /// Reads the lists again, changed or not, at the operator's request, and logs the result. A list that has become
    /// unusable keeps its last content. It takes time for long lists, but no decision waits for it.
    pub fn reload(&self) {
        if let Err(error) = self.read_again() {
            log_failure(&error);
        }
    }

    fn read_again(&self) -> Result<(), AccessFileError> {
        let mut lists = Current::read(&self.paths)?;
        std::mem::swap(&mut *self.current.lock(), &mut lists);
        let changed = lists.digest != self.digest();
        tracing::info!(changed, "the operator's lists were reloaded");
        Ok(())
    }

    /// Returns the lists as they were a second ago, or as long as it takes to read them. A list that has become
    /// unusable keeps its last content.
    pub fn current(&self) -> Arc<Access> {
        Arc::clone(&self.current.lock().access)
    }

    /// Returns a digest of the content of the lists.
    pub fn digest(&self) -> String {
        self.current.lock().digest.clone()
    }

    /// Reads the lists again when they change, in a thread of its own, for as long as they are in use.
    fn follow(&self, mut last: Stamps) {
        let (paths, current) = (self.paths.clone(), Arc::downgrade(&self.current));
        std::thread::spawn(move || {
            let mut failures = Failures::default();
            loop {
                std::thread::sleep(RELOAD_INTERVAL);
                let Some(current) = current.upgrade() else {
                    return;
                };
                let now = stamps(&paths);
                let paths = paths.clone();
                if now == last {
                    continue;
                }
                match (Self { paths, current }).read_again() {
                    Ok(()) => (last, failures) = (now, Failures::default()),
                    Err(error) if failures.is_new(&error) => log_failure(&error),
                    Err(_) => {}
                }
            }
        });
    }
}

impl Current {
    fn read(paths: &AccessPaths) -> Result<Self, AccessFileError> {
        let access = read(paths)?;
        let digest = sha256::Hash::hash(format!("{access:?}").as_bytes()).to_string();
        Ok(Self {
            access: Arc::new(access),
            digest: digest.chars().take(DIGEST_CHARS).collect(),
        })
    }
}

fn log_failure(error: &AccessFileError) {
    tracing::error!(error = error as &dyn std::error::Error, "lists not reloaded");
}

/// The last failure to read the lists: a file that stays unusable is tried each second, and logged once.
#[derive(Default)]
struct Failures {
    last: String,
}

impl Failures {
    fn is_new(&mut self, error: &AccessFileError) -> bool {
        let text = format!("{error}: {}", error.source);
        let is_new = text != self.last;
        self.last = text;
        is_new
    }
}

/// When each list was written, and how long it is.
type Stamps = [Option<(SystemTime, u64)>; 3];

fn stamps(paths: &AccessPaths) -> Stamps {
    [&paths.allowed, &paths.denied, &paths.denied_authors].map(|path| {
        let metadata = fs::metadata(path.as_ref()?).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
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

/// Enough to distinguish contents of the lists.
const DIGEST_CHARS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_stays_unusable_is_logged_once_and_again_when_its_fault_is_another() {
        let mut failures = Failures::default();
        let mut is_new = |path: &str, reason: &str| {
            failures.is_new(&AccessFileError {
                path: path.into(),
                source: io::Error::other(reason.to_owned()),
            })
        };

        let news = [
            is_new("a", "line 1"),
            is_new("a", "line 1"),
            is_new("a", "line 2"),
            is_new("b", "line 2"),
            is_new("a", "line 1"),
        ];

        assert_eq!(news, [true, false, true, true, true]);
    }
}
