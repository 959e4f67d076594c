//! Putting packs and indexes that were made in a quarantine into their repository: renames, and nothing that takes
//! time.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::repositories::layout::FileError;
use crate::repositories::layout::entries;
use crate::repositories::layout::failed;
use crate::repositories::layout::is_here;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::remove_file;
use crate::repositories::layout::sync;
use crate::repositories::maintenance::found::MULTI_PACK_INDEX;
use crate::repositories::maintenance::found::indexed_packs;
use crate::repositories::packs::REPLACED;
use crate::repositories::packs::UNREACHABLE;
use crate::repositories::packs::move_packs;
use crate::repositories::packs::packs_in;
use crate::repositories::packs::remove_pack;
use crate::repositories::quarantine::Quarantine;

/// The new packs of a repository after maintenance, and the ones that they replace.
#[must_use = "dropping it removes it"]
#[derive(Debug)]
pub(crate) struct RenewedPacks {
    pub(super) quarantine: Quarantine,
    /// The packs of the repository that it was made from.
    pub(super) linked: BTreeSet<PathBuf>,
    /// The packs that its multi-pack index has.
    pub(super) indexed: BTreeSet<PathBuf>,
    /// The packs whose objects are all in new ones.
    pub(super) replaced: BTreeSet<PathBuf>,
    /// The packs that have only objects that no ref reaches.
    pub(super) unreachable: BTreeSet<PathBuf>,
}

impl RenewedPacks {
    /// Puts them into the repository with this object directory, and returns whether they still match its packs. Call
    /// it under its lock. Blocks.
    ///
    /// # Errors
    /// [`FileError`]; then the repository has its old packs, and perhaps some of the new.
    pub(in crate::repositories) fn put_in_place(self, object_dir: &Path) -> Result<bool, FileError> {
        let (from, to) = (self.quarantine.object_dir(), object_dir);
        // Not asked of the quarantine: a link to a pack that is gone is no pack there.
        if self.linked.is_empty() || !self.linked.is_subset(&packs_in(&to.join("pack"))?) {
            return Ok(false);
        }
        let pack_dir = to.join("pack");
        // One may have been replaced, or nobody's, before: the same objects have the same name.
        for name in self.indexed.iter().chain(&self.unreachable) {
            remove_file(&pack_dir.join(name).with_extension(REPLACED))?;
        }
        for name in &self.indexed {
            remove_file(&pack_dir.join(name).with_extension(UNREACHABLE))?;
        }
        move_packs(from, to)?;
        match self.indexed.is_empty() {
            true => remove_index(&pack_dir)?,
            false => move_index(&from.join("pack"), &pack_dir)?,
        }
        let graph = from.join("info/commit-graph");
        if is_here(&graph)? {
            let info = to.join("info");
            make_dir(&info)?;
            rename(&graph, &info.join("commit-graph"))?;
        }
        // Last what lets packs go.
        for (names, extension) in [(&self.unreachable, UNREACHABLE), (&self.replaced, REPLACED)] {
            for name in names {
                let marker = pack_dir.join(name).with_extension(extension);
                // Packs that are already marked keep their time.
                match File::create_new(&marker) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(failed("make", &marker)(error));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        sync(&[pack_dir])?;
        Ok(true)
    }
}

/// Whether a file belongs to a multi-pack index without being the index itself.
fn is_beside(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with(MULTI_PACK_INDEX) && name != MULTI_PACK_INDEX
}

fn remove_index(pack_dir: &Path) -> Result<(), FileError> {
    remove_file(&pack_dir.join(MULTI_PACK_INDEX))?;
    files(pack_dir)?
        .iter()
        .filter(|path| is_beside(path))
        .try_for_each(|path| remove_file(path))
}

/// Moves a multi-pack index: its bitmaps first, so that a reader that finds the index finds them. Those of the old one
/// are removed last.
fn move_index(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut old: BTreeSet<PathBuf> = files(to)?.into_iter().filter(|path| is_beside(path)).collect();
    for file in files(from)?.iter().filter(|path| is_beside(path)) {
        let place = to.join(file.file_name().unwrap_or_default());
        rename(file, &place)?;
        old.remove(&place);
    }
    rename(&from.join(MULTI_PACK_INDEX), &to.join(MULTI_PACK_INDEX))?;
    old.iter().try_for_each(|file| remove_file(file))
}

/// Removes packs that were replaced, if no index of ours names them, and returns how many. Call it under the lock of
/// their repository. Blocks.
///
/// # Errors
/// [`FileError`]; then some are left, to be removed the next time.
pub(in crate::repositories) fn remove_replaced(object_dir: &Path, names: &[PathBuf]) -> Result<usize, FileError> {
    let dir = object_dir.join("pack");
    let indexed = indexed_packs(&dir);
    let unread = names
        .iter()
        .filter(|name| !indexed.contains(*name) && dir.join(name).with_extension(REPLACED).exists());
    let mut removed = 0;
    for name in unread {
        remove_pack(&dir, name, REPLACED)?;
        removed += 1;
    }
    Ok(removed)
}

/// Returns the files of a quarantine that are not links into the repository.
pub(super) fn new_files(object_dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut new = files(&object_dir.join("pack"))?;
    new.extend(files(&object_dir.join("info"))?);
    new.retain(|path| !path.is_symlink());
    Ok(new)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let paths = entries(dir)?.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| !path.is_dir()).collect())
}

fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(failed("move", from))
}
