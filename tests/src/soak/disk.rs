//! The server's data directory, read behind its back.

use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::RwLock;

use super::disk_faults::Means;
use super::ledger::Project;
use super::server::GATEWAYS;
use crate::clients::git::GitClient;

/// The data directory.
pub(super) struct Disk {
    data: PathBuf,
    git: GitClient,
    /// Held while something stands in the place of a repository.
    hidden: Arc<RwLock<()>>,
}

/// A commit that is kept aside.
pub(super) struct Staged {
    /// For which event, hex.
    pub(super) event_id: String,
    /// In whose repository, hex.
    pub(super) owner: String,
    /// Called what, encoded.
    pub(super) identifier: String,
}

impl Disk {
    /// Reads the data directory with `git`, where no fault hides it.
    pub(super) fn new(means: Means, git: GitClient) -> Self {
        Self {
            data: means.data,
            git,
            hidden: means.hidden,
        }
    }

    /// Says what is missing in a repository of what is reachable from `oids`; `None`: nothing.
    pub(super) async fn missing(&self, project: &Project, oids: &[&str]) -> Option<String> {
        let _whole = self.hidden.read().await;
        let directory = format!("--git-dir={}", self.repository(project).display());
        let mut arguments = vec![directory.as_str(), "rev-list", "--objects", "--quiet"];
        arguments.extend(oids);
        let said = self.git.run(&arguments).await;
        (!said.ok).then_some(said.stderr)
    }

    /// Says why a repository has no branch; `None`: it has one.
    pub(super) async fn without_refs(&self, project: &Project) -> Option<String> {
        let _whole = self.hidden.read().await;
        let directory = format!("--git-dir={}", self.repository(project).display());
        let said = self
            .git
            .run(&[&directory, "for-each-ref", "--count=1", "refs/heads"])
            .await;
        (!said.ok || said.stdout.is_empty()).then(|| format!("no branch in {directory}: {}", said.stderr))
    }

    /// Lists the commits that are kept aside.
    pub(super) fn staged(&self) -> Vec<Staged> {
        let mut staged = Vec::new();
        for identifier in entries(&self.data.join("staging")) {
            for owner in entries(&identifier) {
                let events = entries(&owner).into_iter().filter(|event| event.is_dir());
                staged.extend(events.map(|event| Staged {
                    event_id: name_of(&event),
                    owner: name_of(&owner),
                    identifier: name_of(&identifier),
                }));
            }
        }
        staged
    }

    /// Lists what nobody alive works on: quarantines, signs of life of the dead, locks of refs, temporary packs, and
    /// locks of identifiers that somebody holds all the same.
    pub(super) fn left_over(&self) -> Vec<String> {
        let mut left = Vec::new();
        let quarantine = entries(&self.data.join("quarantine"));
        let (work, alive): (Vec<PathBuf>, Vec<PathBuf>) = quarantine.into_iter().partition(|path| path.is_dir());
        left.extend(work.iter().map(|path| path.display().to_string()));
        if alive.len() > GATEWAYS {
            left.push(format!("{alive:?} for {GATEWAYS} gateways"));
        }
        for lock in entries(&self.data.join("locks")) {
            if let Ok(file) = File::open(&lock)
                && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
            {
                left.push(format!("{} is held", lock.display()));
            }
        }
        find_stale(&self.data.join("repositories"), &mut left);
        left
    }

    fn repository(&self, project: &Project) -> PathBuf {
        let owner = project.repository.owner.public_key().to_hex();
        let name = format!("{}.git", project.repository.identifier);
        self.data.join("repositories").join(owner).join(name)
    }
}

fn find_stale(directory: &Path, found: &mut Vec<String>) {
    for path in entries(directory) {
        let name = name_of(&path);
        if path.is_dir() {
            find_stale(&path, found);
        } else if name.ends_with(".lock") || name.starts_with("tmp_") {
            found.push(path.display().to_string());
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
