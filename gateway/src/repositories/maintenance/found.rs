//! Which packs a repository has.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::maintenance::plan::FoundPack;
use crate::repositories::maintenance::plan::FoundPacks;
use crate::repositories::packs::REPLACED;
use crate::repositories::packs::packs_in;

/// Lists the packs of an object directory. Blocks.
pub(super) fn found_packs(object_dir: &Path) -> Result<FoundPacks, FileError> {
    let dir = object_dir.join("pack");
    let mut found = FoundPacks {
        indexed: indexed_packs(&dir),
        ..FoundPacks::default()
    };
    for name in packs_in(&dir)? {
        let path = dir.join(&name).with_extension("pack");
        let meta = match fs::metadata(&path) {
            // Another gateway maintains it too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta.map_err(failed("look at", &path))?,
        };
        found.packs.push(FoundPack {
            name,
            bytes: meta.len(),
            is_shared: meta.nlink() > 1,
        });
    }
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed("list", &dir)(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed("list", &dir))?.path();
        if let (Some(stem), true) = (path.file_stem(), path.extension().is_some_and(|ext| ext == REPLACED)) {
            let since = match fs::metadata(&path).and_then(|meta| meta.modified()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                since => since.map_err(failed("look at", &path))?,
            };
            // A clock that was set back: it stays for longer.
            found.replaced.push((stem.into(), since.elapsed().unwrap_or_default()));
        }
    }
    Ok(found)
}

/// Returns the packs that the multi-pack index of a directory has; none if there is none that can be read.
pub(super) fn indexed_packs(pack_dir: &Path) -> BTreeSet<PathBuf> {
    let path = pack_dir.join(MULTI_PACK_INDEX);
    let index = gix::odb::pack::multi_index::File::at(path, None);
    let names = index.map(|index| index.index_names().to_vec()).unwrap_or_default();
    names.iter().map(|name| name.with_extension("")).collect()
}

/// Returns those of some packs that can go because each of their objects is in another one. Whatever git did, no object
/// goes with them. Blocks.
pub(super) fn contained_packs(pack_dir: &Path, names: &BTreeSet<PathBuf>, other: &Path) -> BTreeSet<PathBuf> {
    let open = |name: &Path| {
        let path = pack_dir.join(name).with_extension("idx");
        gix::odb::pack::index::File::at(path, gix::hash::Kind::Sha1).ok()
    };
    let Some(whole) = open(other) else {
        return BTreeSet::new();
    };
    let is_contained =
        |name: &&PathBuf| open(name).is_some_and(|pack| pack.iter().all(|entry| whole.lookup(entry.oid).is_some()));
    // One of them may have all that is in the others.
    let others = names.iter().filter(|name| *name != other);
    others.filter(is_contained).cloned().collect()
}

/// git's name for it, in the directory of packs.
pub(super) const MULTI_PACK_INDEX: &str = "multi-pack-index";
