//! The packs of an object directory: which there are, and moving or sharing them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::fs::DirEntry;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::repositories::layout::FileError;
use crate::repositories::layout::entries_if_any;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::layout::is_here;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::remove_file;
use crate::repositories::layout::sync;

/// Moves the packs of the object directory `from` into `to`, both on one file system.
///
/// # Errors
/// [`FileError`] if a file cannot be moved; those moved before are whole and stay.
pub(super) fn move_packs(from: &Path, to: &Path) -> Result<(), FileError> {
    move_some(packs_in(&from.join("pack"))?, from, to)
}

/// Moves these packs of the object directory `from` into `to`.
pub(super) fn move_some(packs: BTreeSet<PathBuf>, from: &Path, to: &Path) -> Result<(), FileError> {
    place_packs(packs, from, to, |from, to| {
        fs::rename(from, to).map_err(failed("move", from))
    })
}

/// Puts the packs of the object directory `from` into `to` too. They are on disk once: packs never change.
///
/// # Errors
/// [`FileError`] if a file cannot be put there; those put before are whole and stay.
pub(super) fn share_packs(from: &Path, to: &Path) -> Result<(), FileError> {
    share_some(packs_in(&from.join("pack"))?, from, to)
}

/// Puts these packs of the object directory `from` into `to` too.
pub(super) fn share_some(packs: BTreeSet<PathBuf>, from: &Path, to: &Path) -> Result<(), FileError> {
    place_packs(packs, from, to, |from, to| {
        // Without its index it is nobody's: a crash left it.
        remove_file(to)?;
        match fs::hard_link(from, to) {
            // A file system without hard links, or with too many to this one.
            Err(_) => copy(from, to).map_err(failed("share", from)),
            Ok(()) => Ok(()),
        }
    })
}

/// Nobody sees half of a copy.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // A name that is swept (sweep.rs).
    let beside = to.with_file_name(format!("tmp_{}", to.file_name().unwrap_or_default().display()));
    fs::copy(from, &beside)?;
    File::open(&beside)?.sync_all()?;
    fs::rename(&beside, to)
}

/// Durable before visible, and the `.idx` last: with it git and gix see the pack (git `tmp-objdir.c`).
fn place_packs(
    packs: BTreeSet<PathBuf>,
    from: &Path,
    to: &Path,
    place: impl Fn(&Path, &Path) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let (from, to) = (from.join("pack"), to.join("pack"));
    if packs.is_empty() {
        return Ok(());
    }
    make_dir(&to)?;
    // Named by the hash of its content: the same pack is there already.
    let packs = not_in(&to, packs)?;
    let mut files = Vec::new();
    for pack in &packs {
        for extension in ["pack", "rev", "idx"] {
            let file = from.join(pack).with_extension(extension);
            // git before 2.41 writes no `.rev` by default.
            if extension != "rev" || is_here(&file)? {
                files.push(file);
            }
        }
    }
    sync(&files)?;
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        place(file, &to.join(name))?;
    }
    sync(&[to])
}

/// Returns those of these packs that have no index in `dir`.
pub(super) fn not_in(dir: &Path, packs: BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, FileError> {
    let mut missing = BTreeSet::new();
    for pack in packs {
        if !is_here(&dir.join(&pack).with_extension("idx"))? {
            missing.insert(pack);
        }
    }
    Ok(missing)
}

/// Returns how many bytes the packs of a repository have, replaced ones among them; `None`: it cannot be read.
pub(crate) fn pack_bytes(repository: &Path) -> Option<u64> {
    let files = entries_if_any(&repository.join("objects/pack")).ok()?;
    let packs = files
        .iter()
        .filter(|file| file.path().extension() == Some(OsStr::new("pack")));
    Some(packs.filter_map(|pack| Some(pack.metadata().ok()?.len())).sum())
}

/// Returns the names, without extension, of the packs in `dir` that are complete, not empty and not replaced. Nobody
/// else needs to stand still: whatever maintenance does meanwhile, together they have every object.
pub(super) fn packs_in(dir: &Path) -> Result<BTreeSet<PathBuf>, FileError> {
    let replaced = replaced_in(dir)?;
    packs_besides(&replaced, dir)
}

/// Returns the replaced packs. Every listing that begins after this contains the packs that have their objects.
fn replaced_in(dir: &Path) -> Result<BTreeSet<PathBuf>, FileError> {
    let replaced = marked_with(REPLACED, dir)?;
    Ok(replaced.into_iter().map(|(name, _)| name).collect())
}

/// Returns the packs that have a file with this extension, and the time of that file; no time if the file is gone by
/// now.
pub(super) fn marked_with(extension: &str, dir: &Path) -> Result<Vec<(PathBuf, Option<SystemTime>)>, FileError> {
    let mut marked = Vec::new();
    for path in entries_if_any(dir)?.iter().map(DirEntry::path) {
        if let (Some(stem), true) = (path.file_stem(), path.extension() == Some(OsStr::new(extension))) {
            let since = if_found(fs::metadata(&path).and_then(|meta| meta.modified()));
            marked.push((stem.into(), since.map_err(failed("look at", &path))?));
        }
    }
    Ok(marked)
}

fn packs_besides(replaced: &BTreeSet<PathBuf>, dir: &Path) -> Result<BTreeSet<PathBuf>, FileError> {
    let mut packs = BTreeSet::new();
    for path in entries_if_any(dir)?.iter().map(DirEntry::path) {
        let Some(stem) = path.file_stem().map(PathBuf::from) else {
            continue;
        };
        if path.extension() != Some(OsStr::new("idx")) || replaced.contains(&stem) {
            continue;
        }
        let pack = path.with_extension("pack");
        let len = match fs::metadata(&pack) {
            // Maintenance has removed both just now.
            Err(_) if !is_here(&path)? => continue,
            found => found.map_err(failed("look at", &pack))?.len(),
        };
        if len > EMPTY_PACK_BYTES {
            packs.insert(stem);
        }
    }
    Ok(packs)
}

/// Removes a pack, and what lets it go: a marker with this extension. Blocks.
///
/// # Errors
/// [`FileError`]; a remaining pack still has its marker.
pub(super) fn remove_pack(pack_dir: &Path, name: &Path, marker: &str) -> Result<(), FileError> {
    // Its index first: with that it is seen.
    let files = ["idx", "bitmap", "rev", "pack", marker].into_iter();
    files
        .map(|extension| pack_dir.join(name).with_extension(extension))
        .try_for_each(|file| remove_file(&file))
}

/// Returns where the packs of an object directory are noted that come or go together and have not all done so
/// (`pack_changes.rs`).
pub(super) fn changing_packs(object_dir: &Path) -> PathBuf {
    object_dir.join("info/changing-packs")
}

/// Marks a pack whose objects are all in another one (maintenance/).
pub(super) const REPLACED: &str = "replaced";

/// Marks a pack of objects that no ref reaches (maintenance/).
pub(super) const UNREACHABLE: &str = "unreachable";

/// A header of 12 bytes and a hash: what a push sends whose objects are all here.
const EMPTY_PACK_BYTES: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where hard links cannot be made; half of an index kept the whole one out for ever.
    #[test]
    fn a_copy_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from.idx", "to.idx"].map(|name| dir.path().join(name));
        // It can be opened and not read.
        copy(Path::new("/proc/self/mem"), &to).unwrap_err();
        assert!(!to.exists());

        fs::write(&from, "content").unwrap();
        copy(&from, &to).unwrap();

        assert_eq!(fs::read_to_string(&to).unwrap(), "content");
        assert_eq!(entries_if_any(dir.path()).unwrap().len(), 2);
    }

    /// One repository got half of the history of another, whose packs were combined while they were listed.
    #[test]
    fn a_listing_during_maintenance_misses_no_object() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(dir.path().join(name), [0; 100]).unwrap();
        let names = |packs: &[&str]| packs.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        for name in ["old.pack", "old.idx"] {
            write(name);
        }

        let before = replaced_in(dir.path()).unwrap();
        for name in ["new.pack", "new.idx", "old.replaced"] {
            write(name);
        }

        assert_eq!(packs_besides(&before, dir.path()).unwrap(), names(&["new", "old"]));
        assert_eq!(packs_in(dir.path()).unwrap(), names(&["new"]));
    }
}
