//! The lock of an identifier: its holder is the only one, in this process and in every other gateway on the same data
//! directory, that decides about the repositories of that identifier and changes them (docs/ARCHITECTURE.md rule 4).

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use shared::nip34::Identifier;
use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::open_lock_file;

/// The locks of all identifiers.
pub(super) struct Locks {
    layout: Layout,
    in_process: DashMap<Identifier, Arc<Mutex<()>>>,
}

/// Some identifiers, locked until it is dropped.
#[must_use = "dropping it at once locks nothing"]
pub(super) struct Locked {
    identifiers: BTreeSet<Identifier>,
    // Dropped in this order: the files first, so that nobody in this process waits on a file.
    _files: Vec<File>,
    _in_process: Vec<OwnedMutexGuard<()>>,
}

impl Locked {
    /// Returns what is locked.
    pub(super) fn identifiers(&self) -> &BTreeSet<Identifier> {
        &self.identifiers
    }
}

impl Locks {
    /// Keeps lock files where `layout` says.
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            in_process: DashMap::new(),
        }
    }

    /// Waits for the locks of all these identifiers: first those of this process in the order of identifiers, then
    /// the files in the order of their names, so that two who want the same ones never wait for each other.
    ///
    /// # Errors
    /// A lock file cannot be created or locked.
    pub(super) async fn lock(&self, identifiers: BTreeSet<Identifier>) -> Result<Locked, FileError> {
        let mut guards = Vec::with_capacity(identifiers.len());
        for identifier in &identifiers {
            let mutex = Arc::clone(&self.in_process.entry(identifier.clone()).or_default());
            guards.push(mutex.lock_owned().await);
        }
        let paths: BTreeSet<PathBuf> = identifiers
            .iter()
            .map(|identifier| self.layout.identifier_lock(identifier))
            .collect();
        let files = in_background(|| paths.into_iter().map(lock_file).collect::<Result<_, _>>()).await?;
        self.forget_unused();
        Ok(Locked {
            identifiers,
            _files: files,
            _in_process: guards,
        })
    }

    /// Keeps the map from growing with every identifier ever asked for.
    fn forget_unused(&self) {
        if self.in_process.len() > IN_PROCESS_MAX {
            self.in_process.retain(|_, mutex| Arc::strong_count(mutex) > 1);
        }
    }
}

fn lock_file(path: PathBuf) -> Result<File, FileError> {
    let file = open_lock_file(&path)?;
    file.lock().map_err(failed("lock", &path))?;
    Ok(file)
}

/// Mutexes kept before unused ones are forgotten.
const IN_PROCESS_MAX: usize = 10_000;
