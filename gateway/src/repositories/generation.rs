//! Whether a check of a repository that was made outside its lock is still valid under the lock: it is if no object has
//! left the repository since. The repository was not removed and made again, nor were packs removed from it.

use std::fs;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crate::repositories::creation::replace_coordinate;
use crate::repositories::layout::COORDINATE_FILE;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::if_found;
use crate::repositories::layout::is_here;
use crate::repositories::layout::sync;
use crate::repositories::packs::changing_packs;
use crate::repositories::repository::Repository;

/// A repository from its making, or from the last time that objects were removed, until that happens again.
///
/// It is identified by the file that names the repository's owner, which is never changed, and is replaced before
/// objects are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generation(String);

impl Generation {
    /// Returns that of a repository; `None`: it is not on disk, or packs are just leaving it. Blocks.
    pub(super) fn of(repository: &Path) -> Result<Option<Self>, FileError> {
        let path = repository.join(COORDINATE_FILE);
        // Opened, because a file system that hosts share may remember for a while which file a name meant.
        let found = if_found(File::open(&path).and_then(|file| file.metadata()));
        let Some(found) = found.map_err(failed("look at", &path))? else {
            return Ok(None);
        };
        // Nobody can set the time of the change of an inode, as a copy or a restored backup sets the other times.
        let (at, part) = (found.ctime(), found.ctime_nsec());
        let generation = Self(format!("{} {at}.{part:09}", found.ino()));
        // Looked for last: where it is not there, all have left that leave with the beginning of this one.
        let is_changing = is_here(&changing_packs(&repository.join("objects")))?;
        Ok((!is_changing).then_some(generation))
    }

    /// Begins the next one, durably. Call it under the repository's lock, before objects go. Blocks.
    ///
    /// # Errors
    /// [`FileError`]; then no object may go.
    pub(super) fn renew(repository: &Repository) -> Result<(), FileError> {
        let path = repository.path();
        replace_coordinate(repository.store().layout(), repository.coordinate(), path)?;
        sync(&[path.to_owned()])
    }
}

/// What some objects beside a repository need in addition to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WholeWith {
    Nothing,
    /// The repository, as it was when they were checked.
    Repository(Generation),
    /// That has to be found out.
    Unknown,
}

impl WholeWith {
    /// Returns that objects are about to be checked with a repository that is on disk. Blocks.
    pub(super) fn repository(path: &Path) -> Result<Self, FileError> {
        Ok(Generation::of(path)?.map_or(Self::Unknown, Self::Repository))
    }

    /// Whether the objects are known to be complete together with the repository as it is, which cannot change under
    /// its lock. Blocks.
    pub(super) fn holds_for(&self, repository: &Path) -> Result<bool, FileError> {
        match self {
            Self::Nothing => Ok(true),
            Self::Repository(checked) => Ok(Generation::of(repository)?.as_ref() == Some(checked)),
            Self::Unknown => Ok(false),
        }
    }

    /// Reads the note in an object directory. Blocks.
    pub(super) fn read(object_dir: &Path) -> Self {
        // What a crash has left half written is unknown too.
        let noted = fs::read_to_string(Self::note_in(object_dir)).unwrap_or_default();
        noted.strip_suffix('\n').map_or(Self::Unknown, Self::parse)
    }

    /// Reads what [`WholeWith::text`] returned.
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "" => Self::Unknown,
            NOTHING => Self::Nothing,
            generation => Self::Repository(Generation(generation.to_owned())),
        }
    }

    /// Returns a line for a note.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Nothing => NOTHING,
            Self::Repository(Generation(generation)) => generation,
            Self::Unknown => "",
        }
    }

    /// Notes in an object directory what these objects need, which are about to be added to others there if it is not
    /// new. Blocks.
    ///
    /// # Errors
    /// [`FileError`]; then they may not be added.
    pub(super) fn note(self, object_dir: &Path, is_new: bool) -> Result<(), FileError> {
        let (file, with) = (
            Self::note_in(object_dir),
            match is_new {
                true => self,
                false => Self::read(object_dir).and(self),
            },
        );
        fs::write(&file, format!("{}\n", with.text())).map_err(failed("write", &file))?;
        // The notes of the others must not reappear after a crash.
        if is_new { Ok(()) } else { sync(&[file]) }
    }

    pub(super) fn note_in(object_dir: &Path) -> PathBuf {
        object_dir.join("whole-with")
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Nothing, with) | (with, Self::Nothing) => with,
            (Self::Repository(_) | Self::Unknown, Self::Repository(_) | Self::Unknown) => Self::Unknown,
        }
    }
}

/// In a note: no repository is needed.
const NOTHING: &str = "nothing";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn a_generation_ends_when_objects_go_and_when_the_repository_does() {
        let world = World::new().await;
        let repository = world.repository("a");
        let of = || Generation::of(repository.path()).unwrap();
        assert_eq!(of(), None);
        repository.create().await.unwrap();
        let first = of();
        world.two_commits(&repository).await;
        world
            .git(&repository, &["symbolic-ref", "HEAD", "refs/heads/x"], b"")
            .await;
        assert_eq!(of(), first);

        Generation::renew(&repository).unwrap();
        let second = of();
        fs::remove_dir_all(repository.path()).unwrap();
        assert_eq!(of(), None);
        repository.create().await.unwrap();

        assert!(first != second && of() != second && of() != first && of().is_some());
        assert_eq!(world.hosted().await, [repository.coordinate().clone()]);
        assert_eq!(world.quarantine_entries(), 0);
    }

    #[test]
    fn what_was_checked_with_different_generations_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let generation = |text: &str| WholeWith::Repository(Generation(text.to_owned()));
        let rows = [
            (WholeWith::Nothing, WholeWith::Nothing, WholeWith::Nothing),
            (WholeWith::Nothing, generation("1 2"), generation("1 2")),
            (generation("1 2"), WholeWith::Nothing, generation("1 2")),
            (generation("1 2"), generation("1 2"), generation("1 2")),
            (generation("1 2"), generation("1 3"), WholeWith::Unknown),
            (WholeWith::Unknown, generation("1 2"), WholeWith::Unknown),
            (WholeWith::Unknown, WholeWith::Nothing, WholeWith::Unknown),
        ];
        for (first, second, both) in rows {
            first.note(dir.path(), true).unwrap();
            second.note(dir.path(), false).unwrap();
            assert_eq!(WholeWith::read(dir.path()), both);
        }
        fs::write(WholeWith::note_in(dir.path()), "half of it").unwrap();
        assert_eq!(WholeWith::read(dir.path()), WholeWith::Unknown);
        assert!(!WholeWith::Unknown.holds_for(dir.path()).unwrap());
    }
}
