//! Which packs a repository has.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::maintenance::plan::FoundPack;
use crate::repositories::maintenance::plan::FoundPacks;
use crate::repositories::marks::Marks;
use crate::repositories::packs::REPLACED;
use crate::repositories::packs::UNREACHABLE;
use crate::repositories::packs::marked_with;
use crate::repositories::packs::packs_in;
use crate::repositories::refs::read_refs;

/// Lists the packs of an object directory. Blocks.
pub(super) fn found_packs(object_dir: &Path) -> Result<FoundPacks, FileError> {
    let dir = object_dir.join("pack");
    let mut found = FoundPacks {
        indexed: indexed_packs(&dir),
        replaced: ages(REPLACED, &dir)?,
        sorted_before: sorted_before(object_dir)?,
        ..FoundPacks::default()
    };
    let unreachable: BTreeSet<PathBuf> = ages(UNREACHABLE, &dir)?.into_iter().map(|(name, _)| name).collect();
    for name in packs_in(&dir)? {
        let path = dir.join(&name).with_extension("pack");
        // Another gateway maintains it too.
        let Some(meta) = if_found(fs::metadata(&path)).map_err(failed("look at", &path))? else {
            continue;
        };
        if unreachable.contains(&name) {
            found.unreachable.insert(name);
            continue;
        }
        found.packs.push(FoundPack {
            name,
            bytes: meta.len(),
            is_shared: meta.nlink() > 1,
        });
    }
    if is_reached_again(object_dir, &found.unreachable) {
        found.sorted_before = Duration::MAX;
    }
    Ok(found)
}

/// Whether a ref names an object that no ref reached before: then the earlier result is no longer valid. Blocks.
fn is_reached_again(object_dir: &Path, unreachable: &BTreeSet<PathBuf>) -> bool {
    if unreachable.is_empty() {
        return false;
    }
    // The sort reports unreadable ones.
    let refs = read_refs(object_dir.parent().unwrap_or(object_dir), None)
        .ok()
        .flatten();
    let tips = refs.map(|read| read.snapshot.refs).unwrap_or_default();
    Marks::of(&object_dir.join("pack"), unreachable.clone()).is_ok_and(|marks| tips.values().any(|tip| marks.have(tip)))
}

/// Returns the packs of a directory beside which there is a file with this extension, and for how long. Blocks.
pub(super) fn ages(extension: &str, pack_dir: &Path) -> Result<Vec<(PathBuf, Duration)>, FileError> {
    let marked = marked_with(extension, pack_dir)?.into_iter();
    // A clock that was set back: it stays for longer.
    let age = |since: SystemTime| since.elapsed().unwrap_or_default();
    Ok(marked.filter_map(|(name, since)| Some((name, age(since?)))).collect())
}

/// Notes that it is looked now for objects that no ref reaches. Blocks.
pub(super) fn note_sorted(object_dir: &Path) -> Result<(), FileError> {
    let note = object_dir.with_file_name(SORTED);
    fs::write(&note, "").map_err(failed("write", &note))
}

/// Returns how long ago that was noted, or the repository was made.
fn sorted_before(object_dir: &Path) -> Result<Duration, FileError> {
    for name in [SORTED, "config"] {
        let path = object_dir.with_file_name(name);
        let since = if_found(fs::metadata(&path).and_then(|meta| meta.modified()));
        if let Some(since) = since.map_err(failed("look at", &path))? {
            return Ok(since.elapsed().unwrap_or_default());
        }
    }
    Ok(Duration::ZERO)
}

/// Returns the packs in the multi-pack index of a directory; none if there is no readable index.
pub(super) fn indexed_packs(pack_dir: &Path) -> BTreeSet<PathBuf> {
    let path = pack_dir.join(MULTI_PACK_INDEX);
    let index = gix::odb::pack::multi_index::File::at(path, None);
    let names = index.map(|index| index.index_names().to_vec()).unwrap_or_default();
    names.iter().map(|name| name.with_extension("")).collect()
}

/// Returns those of some packs that can go because each of their objects is in one of the others. Whatever git did, no
/// object goes with them. Blocks.
pub(super) fn contained_packs(
    pack_dir: &Path,
    names: &BTreeSet<PathBuf>,
    others: &BTreeSet<PathBuf>,
) -> BTreeSet<PathBuf> {
    let open = |name: &Path| {
        let path = pack_dir.join(name).with_extension("idx");
        gix::odb::pack::index::File::at(path, gix::hash::Kind::Sha1).ok()
    };
    let Some(wholes) = others.iter().map(|other| open(other)).collect::<Option<Vec<_>>>() else {
        return BTreeSet::new();
    };
    let is_in_one = |oid| wholes.iter().any(|whole| whole.lookup(oid).is_some());
    let is_contained = |name: &&PathBuf| open(name).is_some_and(|pack| pack.iter().all(|entry| is_in_one(entry.oid)));
    // One of them may have all that is in the others.
    names.difference(others).filter(is_contained).cloned().collect()
}

/// A file in a repository: when it was looked the last time for objects that no ref reaches.
const SORTED: &str = "grasp-sorted";

pub(super) const MULTI_PACK_INDEX: &str = "multi-pack-index";
