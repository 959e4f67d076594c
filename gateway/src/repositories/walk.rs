//! A walk over the disk, page by page: only a page of it is in memory, and an unreadable directory hides no other.

use std::fs;
use std::fs::ReadDir;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use shared::nip34::Coordinate;

use crate::repositories::layout::COORDINATE_FILE;
use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;

/// A walk over the repositories, or over staged objects or parts. Directories that are added or removed meanwhile may
/// be found or not.
#[derive(Debug)]
pub(crate) struct DiskWalk {
    /// `None`: it is over, or it was given up in the middle of a page.
    position: Option<Position>,
}

#[derive(Debug)]
struct Position {
    layout: Layout,
    of: WalkOf,
    /// `None`: it has not begun.
    outer: Option<ReadDir>,
    inner: Option<ReadDir>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum WalkOf {
    Repositories,
    /// The staged objects of repositories, which may be virtual.
    Staged,
    /// The parts of their states; the repositories may be virtual.
    Parts,
}

impl DiskWalk {
    pub(super) fn new(layout: Layout, of: WalkOf) -> Self {
        Self {
            position: Some(Position {
                layout,
                of,
                outer: None,
                inner: None,
            }),
        }
    }

    /// Returns at most the next `count_max` coordinates, in no order; `None`: the walk is over. A directory that is not
    /// at the path of its coordinate, or is unreadable, is logged and left out.
    ///
    /// # Errors
    /// The data directory cannot be listed; the walk is over then.
    pub(crate) async fn next_page(&mut self, count_max: usize) -> Result<Option<Vec<Coordinate>>, FileError> {
        let Some(mut position) = self.position.take() else {
            return Ok(None);
        };
        let (position, page) = in_background(move || {
            let page = position.next_page(count_max);
            (position, page)
        })
        .await;
        let page = Some(page?).filter(|page| !page.is_empty());
        self.position = page.is_some().then_some(position);
        Ok(page)
    }
}

impl Position {
    fn next_page(&mut self, count_max: usize) -> Result<Vec<Coordinate>, FileError> {
        let mut page = Vec::new();
        while page.len() < count_max {
            let Some(path) = self.next_path()? else { break };
            page.extend(self.coordinate_of(&path));
        }
        Ok(page)
    }

    fn next_path(&mut self) -> Result<Option<PathBuf>, FileError> {
        let root = self.root();
        if self.outer.is_none() {
            self.outer = Some(fs::read_dir(&root).map_err(failed("list", &root))?);
        }
        loop {
            match self.inner.as_mut().and_then(Iterator::next) {
                Some(Ok(entry)) => return Ok(Some(entry.path())),
                // The rest of that directory cannot be read.
                Some(Err(error)) => log_unlisted(&root, &error),
                None => {}
            }
            self.inner = None;
            let Some(next) = self.outer.as_mut().and_then(Iterator::next) else {
                return Ok(None);
            };
            let directory = next.map_err(failed("list", &root))?.path();
            match fs::read_dir(&directory) {
                Ok(listed) => self.inner = Some(listed),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log_unlisted(&directory, &error),
            }
        }
    }

    fn root(&self) -> PathBuf {
        match self.of {
            WalkOf::Repositories => self.layout.repositories(),
            WalkOf::Staged => self.layout.all_staging(),
            WalkOf::Parts => self.layout.all_parts(),
        }
    }

    fn coordinate_of(&self, path: &Path) -> Option<Coordinate> {
        let text = match fs::read_to_string(path.join(COORDINATE_FILE)) {
            Ok(text) => text,
            // It went meanwhile.
            Err(_) if matches!(path.try_exists(), Ok(false)) => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot determine the owner of this repository: left alone");
                return None;
            }
        };
        let coordinate: Option<Coordinate> = text.trim_end_matches('\n').parse().ok();
        let found = coordinate.filter(|coordinate| match self.of {
            WalkOf::Repositories => self.layout.repository(coordinate) == path,
            WalkOf::Staged => self.layout.staging(coordinate) == path,
            WalkOf::Parts => self.layout.parts(coordinate) == path,
        });
        if found.is_none() {
            tracing::warn!(path = %path.display(), "not a directory of this server: left alone");
        }
        found
    }
}

fn log_unlisted(directory: &Path, error: &io::Error) {
    tracing::error!(path = %directory.display(), %error, "cannot list a directory: its content is left out for now");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn put(layout: &Layout, owner: &str, identifier: &str) -> Coordinate {
        let coordinate: Coordinate = format!("30617:{}:{identifier}", owner.repeat(32)).parse().unwrap();
        let path = layout.repository(&coordinate);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(COORDINATE_FILE), coordinate.to_string()).unwrap();
        coordinate
    }

    async fn all(layout: &Layout, count_max: usize) -> Vec<Coordinate> {
        let mut walk = DiskWalk::new(layout.clone(), WalkOf::Repositories);
        let mut all = Vec::new();
        while let Some(page) = walk.next_page(count_max).await.unwrap() {
            assert!(page.len() <= count_max);
            all.extend(page);
        }
        all
    }

    #[tokio::test]
    async fn a_walk_finds_what_stands_in_its_own_place() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let long = "x y".repeat(84);
        let expected: BTreeSet<Coordinate> = ["plain", ".hidden", &long].map(|text| put(&layout, "11", text)).into();
        let stray = layout.repositories().join("11".repeat(32)).join("stray.git");
        fs::create_dir(&stray).unwrap();
        fs::write(stray.join(COORDINATE_FILE), format!("30617:{}:plain", "11".repeat(32))).unwrap();

        let found = all(&layout, 100).await;

        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[tokio::test]
    async fn pages_together_are_everything_once_whatever_is_beside() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let mut expected = BTreeSet::new();
        for owner in ["11", "22", "33"] {
            for number in 0..5 {
                expected.insert(put(&layout, owner, &format!("r{number}")));
            }
        }
        // Neither an owner that is no directory nor one with nothing readable hides the others.
        fs::write(layout.repositories().join("stray"), "").unwrap();
        fs::create_dir_all(layout.repositories().join("44".repeat(32)).join("empty.git")).unwrap();

        for count_max in [1, 4, 15, 100] {
            let found = all(&layout, count_max).await;
            assert_eq!(found.len(), expected.len());
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{count_max}");
        }
    }

    #[tokio::test]
    async fn a_data_directory_that_is_gone_is_no_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        fs::remove_dir(layout.repositories()).unwrap();

        let mut walk = DiskWalk::new(layout, WalkOf::Repositories);

        assert!(walk.next_page(1).await.is_err());
        assert_eq!(walk.next_page(1).await.unwrap(), None);
    }
}
