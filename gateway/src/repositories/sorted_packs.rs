//! Which packs of a PR's staged commit are sorted: together with the repository they have all that the commit needs,
//! and they have nothing else. Only these move in, and under the lock no object is read for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::repositories::generation::WholeWith;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::packs::move_some;
use crate::repositories::packs::packs_in;
use crate::repositories::repository::Repository;

/// The note beside the staged packs. A commit without one, or whose repository has lost objects since, is sorted anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SortedPacks {
    pub(super) whole_with: WholeWith,
    /// Their names, without extension.
    pub(super) packs: BTreeSet<PathBuf>,
}

impl SortedPacks {
    /// Reads the note of an object directory; `None`: there is none that is whole. Blocks.
    pub(super) fn read(object_dir: &Path) -> Option<Self> {
        let text = fs::read_to_string(Self::note_in(object_dir)).ok()?;
        // What a crash has left half written has no end.
        let mut lines = text.strip_suffix(END)?.lines();
        Some(Self {
            whole_with: WholeWith::parse(lines.next()?),
            packs: lines.map(PathBuf::from).collect(),
        })
    }

    /// Notes these packs of an object directory, which are there. Blocks.
    pub(super) fn note(&self, object_dir: &Path) -> Result<(), FileError> {
        let mut text = format!("{}\n", self.whole_with.text());
        for pack in &self.packs {
            text += &format!("{}\n", pack.display());
        }
        let (note, beside) = (Self::note_in(object_dir), object_dir.join("sorted.new"));
        fs::write(&beside, text + END).map_err(failed("write", &beside))?;
        fs::rename(&beside, &note).map_err(failed("move", &beside))
    }

    pub(super) fn note_in(object_dir: &Path) -> PathBuf {
        object_dir.join("sorted")
    }

    /// Moves them from their object directory into the repository, and returns whether they were all there, or had
    /// moved before a crash. Call it under the repository's lock. Blocks.
    pub(super) fn move_in(&self, object_dir: &Path, repository: &Repository) -> Result<bool, FileError> {
        if !self.whole_with.holds_for(repository.path())? {
            return Ok(false);
        }
        let to = repository.object_dir();
        let (here, moved) = (packs_in(&object_dir.join("pack"))?, packs_in(&to.join("pack"))?);
        if !self
            .packs
            .iter()
            .all(|pack| here.contains(pack) || moved.contains(pack))
        {
            return Ok(false);
        }
        move_some(self.packs.intersection(&here).cloned().collect(), object_dir, &to)?;
        Ok(true)
    }
}

/// The last line of a note.
const END: &str = ".\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_as_it_was_written_and_half_of_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(SortedPacks::read(dir.path()), None);
        for packs in [vec![], vec!["pack-1"], vec!["pack-1", "pack-2"]] {
            let sorted = SortedPacks {
                whole_with: WholeWith::Nothing,
                packs: packs.into_iter().map(PathBuf::from).collect(),
            };
            sorted.note(dir.path()).unwrap();
            assert_eq!(SortedPacks::read(dir.path()), Some(sorted));
        }

        let note = SortedPacks::note_in(dir.path());
        let text = fs::read_to_string(&note).unwrap();
        for end in 0..text.len() {
            fs::write(&note, &text[..end]).unwrap();
            assert_eq!(SortedPacks::read(dir.path()), None, "{end}");
        }
    }
}
