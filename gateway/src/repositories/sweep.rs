//! Removes what killed gateways and the git of killed gateways left. Nothing waits for it: it is done beside the work,
//! when a repository is visited, and never to what a gateway that lives may use.

use std::fs;
use std::fs::DirEntry;
use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;
use std::path::PathBuf;

use crate::logged::logged;
use crate::repositories::layout::FileError;
use crate::repositories::layout::entries;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::layout::remove_file;

/// Removes the work in progress of instances that are gone, and the locks of such instances; returns how many pieces of
/// work. Blocks.
///
/// # Errors
/// The directory cannot be listed. Files that cannot be removed are logged and stay.
pub(super) fn sweep_quarantine(quarantine: &Path) -> Result<usize, FileError> {
    let (locks, work): (Vec<_>, Vec<_>) = entries(quarantine)?
        .iter()
        .map(DirEntry::path)
        .partition(|path| path.extension().is_some_and(|ext| ext == "lock"));
    let mut removed = 0;
    for path in work {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let instance = name.split('-').next().unwrap_or_default();
        // By name and not from the listing: a listing may hold a directory and miss its older lock.
        match sweep_work(&path, &quarantine.join(instance).with_extension("lock")) {
            Ok(is_removed) => removed += usize::from(is_removed),
            Err(error) => log_unswept(&error),
        }
    }
    for path in locks {
        if let Err(error) = sweep_lock(&path) {
            log_unswept(&error);
        }
    }
    Ok(removed)
}

/// Removes one piece of work unless the instance lives whose lock is given; returns whether it did.
fn sweep_work(path: &Path, lock_path: &Path) -> Result<bool, FileError> {
    let Some(_dead) = lock_of_dead_instance(lock_path)? else {
        return Ok(false);
    };
    // A crash between making and unlinking leaves a nameless file with its name.
    let swept = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    // Another gateway sweeps too.
    Ok(if_found(swept).map_err(failed("sweep", path))?.is_some())
}

/// Removes the lock of an instance unless it lives.
fn sweep_lock(path: &Path) -> Result<(), FileError> {
    // Removed while locked: an instance that opened it before checks its link count.
    let Some(Some(_locked)) = lock_of_dead_instance(path)? else {
        return Ok(());
    };
    remove_file(path)
}

/// Returns `None` if the instance lives, and its lock (`Some(None)`: already removed) if it is gone.
fn lock_of_dead_instance(path: &Path) -> Result<Option<Option<File>>, FileError> {
    let Some(file) = if_found(File::open(path)).map_err(failed("open", path))? else {
        return Ok(Some(None));
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(Some(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
    }
}

/// Removes the lock files of refs and the temporary packs in one repository; returns how many. Call it under its lock,
/// which every writer of such files holds.
pub(super) fn sweep_repository(repository: &Path) -> usize {
    let swept = leftovers(repository, usize::MAX);
    let removed = swept.iter().filter(|path| match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "cannot sweep");
            false
        }
    });
    removed.count()
}

/// Whether a repository has files that [`sweep_repository`] would remove. Without the lock they may be in use.
pub(super) fn has_leftovers(repository: &Path) -> bool {
    !leftovers(repository, 1).is_empty()
}

fn leftovers(repository: &Path, count_max: usize) -> Vec<PathBuf> {
    // git writes packed refs beside their lock (git `refs/packed-backend.c`), and we `HEAD` (ref_transaction.rs).
    let is_lock = |name: &str| name.ends_with(".lock") || ["packed-refs.new", "HEAD.new"].contains(&name);
    let is_temporary = |name: &str| name.starts_with("tmp_") || name.starts_with(".tmp-");
    let mut found = Vec::new();
    for (directory, depth, is_stale) in [
        (repository.to_owned(), 0, &is_lock as &dyn Fn(&str) -> bool),
        (repository.join("refs"), REF_DEPTH_MAX, &is_lock),
        (repository.join("objects/pack"), 0, &is_temporary),
    ] {
        add_files(&directory, depth, is_stale, &mut found);
        if found.len() >= count_max {
            break;
        }
    }
    found
}

fn add_files(dir: &Path, depth: usize, is_stale: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // A directory is never a lock: no component of a ref name ends in `.lock`.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 0 {
                add_files(&entry.path(), depth - 1, is_stale, found);
            }
        } else if entry.file_name().to_str().is_some_and(is_stale) {
            found.push(entry.path());
        }
    }
}

fn log_unswept(error: &FileError) {
    tracing::warn!(
        error = logged(error),
        "cannot remove what a killed gateway left unfinished"
    );
}

/// Deepest directory of refs looked into: more components than a path of 4096 bytes can have.
const REF_DEPTH_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::layout::Layout;

    #[test]
    fn only_the_quarantines_of_dead_instances_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Layout::new(dir.path()).unwrap();
        fs::create_dir(alive.fresh_quarantine()).unwrap();
        let dead = Layout::new(dir.path()).unwrap();
        let left_behind = [dead.fresh_quarantine(), dead.fresh_quarantine()];
        fs::create_dir_all(left_behind[0].join("pack")).unwrap();
        fs::write(&left_behind[1], "a nameless file that still has its name").unwrap();
        drop(dead);

        let removed = sweep_quarantine(&alive.quarantine()).unwrap();

        assert_eq!(removed, 2);
        assert!(!left_behind.iter().any(|path| path.exists()));
        assert_eq!(fs::read_dir(alive.quarantine()).unwrap().count(), 2);
    }

    #[test]
    fn lock_files_and_temporary_packs_are_leftovers_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path();
        fs::create_dir_all(repository.join("refs/heads/a")).unwrap();
        fs::create_dir_all(repository.join("objects/pack")).unwrap();
        let kept = ["HEAD", "refs/heads/a/c", "objects/pack/pack-1.pack", "objects/x.lock"];
        for file in kept {
            fs::write(repository.join(file), "").unwrap();
        }
        assert!(!has_leftovers(repository));

        for file in [
            "HEAD.lock",
            "HEAD.new",
            "packed-refs.new",
            "refs/heads/a/b.lock",
            "objects/pack/tmp_pack_1",
        ] {
            fs::write(repository.join(file), "").unwrap();
            assert!(has_leftovers(repository), "{file}");
            assert_eq!(sweep_repository(repository), 1, "{file}");
        }
        assert!(!has_leftovers(repository));
        assert!(kept.iter().all(|file| repository.join(file).exists()));
    }
}
