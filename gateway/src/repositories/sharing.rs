//! Packs that a repository gets of another one, of which it has all or none: of packs that build on each other, one
//! without the other would count as here and not be whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::repositories::generation::Generation;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::sync;
use crate::repositories::packs::packs_in;
use crate::repositories::packs::share_some;
use crate::repositories::repository::Repository;

/// Puts the packs of the object directory `from` into a repository too, which is on disk. Call it under its lock.
/// Blocks.
///
/// # Errors
/// [`FileError`]; then the repository has all of them, or [`undo_sharing`] takes them out again.
pub(super) fn share_all(from: &Path, into: &Repository) -> Result<(), FileError> {
    let to = into.object_dir();
    let here = packs_in(&to.join("pack"))?;
    // Looked up once: more may come there meanwhile.
    let missing: BTreeSet<PathBuf> = packs_in(&from.join("pack"))?.difference(&here).cloned().collect();
    // One is there or not.
    if missing.len() < 2 {
        return share_some(missing, from, &to);
    }
    let note = note_in(&to);
    let info = to.join("info");
    make_dir(&info)?;
    let lines: String = missing.iter().map(|name| format!("{}\n", name.display())).collect();
    let beside = note.with_extension("new");
    fs::write(&beside, lines).map_err(failed("write", &beside))?;
    sync(std::slice::from_ref(&beside))?;
    fs::rename(&beside, &note).map_err(failed("replace", &note))?;
    sync(&[info, to.clone()])?;
    share_some(missing, from, &to)?;
    end_sharing(&to)
}

/// Takes out again what a repository has got of packs that were not all shared, if there are such: because the gateway
/// died, or the disk failed. Call it under its lock, before anything is decided by what is in it. Blocks.
///
/// # Errors
/// [`FileError`]; then what is in the repository need not be whole.
pub(super) fn undo_sharing(repository: &Repository) -> Result<(), FileError> {
    let object_dir = repository.object_dir();
    let note = note_in(&object_dir);
    let lines = match fs::read_to_string(&note) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(failed("read", &note))?,
    };
    let pack_dir = object_dir.join("pack");
    tracing::warn!(repo.coordinate = %repository.coordinate(), "packs of another repository that did not all come are taken out again");
    // A push may have been checked with them.
    Generation::renew(repository)?;
    for name in lines.lines() {
        // The index first: without it nobody sees the pack.
        for extension in ["idx", "pack", "rev"] {
            let file = pack_dir.join(name).with_extension(extension);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &file)(error)),
                Ok(()) | Err(_) => {}
            }
        }
    }
    sync(&[pack_dir])?;
    end_sharing(&object_dir)
}

/// Whether not all packs have come that are to.
pub(super) fn is_sharing(object_dir: &Path) -> bool {
    note_in(object_dir).exists()
}

fn end_sharing(object_dir: &Path) -> Result<(), FileError> {
    let note = note_in(object_dir);
    fs::remove_file(&note).map_err(failed("remove", &note))?;
    sync(&[object_dir.join("info")])
}

/// Where the names of packs are noted while they come.
fn note_in(object_dir: &Path) -> PathBuf {
    object_dir.join("info/sharing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::copy::share_objects;
    use crate::repositories::testing::World;

    /// The packs of two commits, in the order of their names, of which the gateway was killed behind the first.
    #[tokio::test]
    async fn of_several_packs_a_repository_has_all_or_none() {
        let world = World::new().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let commits @ [one, two] = world.two_commits(&from).await;
        let packs = from.object_dir().join("pack/pack").display().to_string();
        for tips in [format!("{one}\n"), format!("{two}\n^{one}\n")] {
            world
                .git(&from, &["pack-objects", "--revs", "--quiet", &packs], tips.as_bytes())
                .await;
        }
        world.git(&from, &["prune-packed"], b"").await;
        assert!(World::packs(&from.object_dir()).len() >= 2);

        assert!(share_objects(&from, &into).await.unwrap());
        assert_eq!(into.object_kinds(&commits).await.unwrap().len(), 2);
        assert!(!is_sharing(&into.object_dir()));
        let before = Generation::of(into.path()).unwrap();
        undo_sharing(&into).unwrap();
        assert_eq!(Generation::of(into.path()).unwrap(), before, "nothing to undo");

        fs::remove_dir_all(into.object_dir().join("pack")).unwrap();
        fs::create_dir(into.object_dir().join("pack")).unwrap();
        // A directory stands where the second index would.
        let last = World::packs(&from.object_dir()).pop().unwrap().with_extension("idx");
        let in_the_way = into.object_dir().join("pack").join(last.file_name().unwrap());
        fs::create_dir_all(in_the_way.with_extension("pack").join("full")).unwrap();
        share_objects(&from, &into).await.unwrap_err();
        assert!(is_sharing(&into.object_dir()));
        fs::remove_dir_all(in_the_way.with_extension("pack")).unwrap();

        undo_sharing(&into).unwrap();

        assert!(into.object_kinds(&commits).await.unwrap().is_empty());
        assert!(!is_sharing(&into.object_dir()));
        assert_ne!(Generation::of(into.path()).unwrap(), before);
        assert!(share_objects(&from, &into).await.unwrap());
        assert_eq!(into.object_kinds(&commits).await.unwrap().len(), 2);
    }
}
