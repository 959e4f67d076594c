//! A repository whose refs nobody can change, but whose objects can: so a test can kill whoever is between the two.

use std::path::Path;
use std::path::PathBuf;

use crate::harness::wait::eventually;

/// The lock on the refs of a repository, held until this is dropped. It is a directory, which nobody takes for a lock
/// that a killed program has left.
pub struct HeldRefs {
    lock: PathBuf,
    packs: PathBuf,
    packs_before: usize,
}

impl HeldRefs {
    /// Holds those of the repository at a path.
    ///
    /// # Panics
    /// Somebody else does.
    pub fn of(repository: &Path) -> Self {
        let (lock, packs) = (repository.join("packed-refs.lock"), repository.join("objects/pack"));
        std::fs::create_dir(&lock).unwrap();
        let packs_before = count(&packs);
        Self {
            lock,
            packs,
            packs_before,
        }
    }

    /// Waits until objects have come into the repository: whoever has brought them waits for the refs.
    pub async fn objects_are_in(&self) {
        let have_come = async || count(&self.packs) > self.packs_before;
        eventually("objects come in", have_come).await;
    }
}

impl Drop for HeldRefs {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.lock).unwrap();
    }
}

fn count(packs: &Path) -> usize {
    let entries = std::fs::read_dir(packs).unwrap();
    let is_index = |name: &Path| name.extension().is_some_and(|extension| extension == "idx");
    entries
        .filter(|entry| is_index(&entry.as_ref().unwrap().path()))
        .count()
}
