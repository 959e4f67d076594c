//! Making repositories: laid out beside their place, then durable and renamed, so that nobody sees half of one.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use shared::nip34::Coordinate;

use crate::repositories::layout::COORDINATE_FILE;
use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::failed;
use crate::repositories::layout::is_here;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::sync;
use crate::repositories::refs::initial_branch;

/// Whether there is a repository at a path. Blocks.
///
/// # Errors
/// [`FileError`] if that cannot be read: then it is not to be made.
pub(super) fn is_repository(path: &Path) -> Result<bool, FileError> {
    is_here(&path.join("HEAD"))
}

/// Makes a directory that only this server reads. Its parent is not made: a data directory that is gone (a mount) must
/// not come to be again in its place.
pub(super) fn make_new_dir(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(failed("make the directory", path))
}

/// Makes a directory that has `objects` an empty repository (`gitrepository-layout(5)`), with the note of whose it is.
/// What git makes when it needs it is left out: each directory costs a sync.
pub(super) fn lay_out(path: &Path, coordinate: Option<&Coordinate>) -> Result<(), FileError> {
    make_new_dir(&path.join("refs"))?;
    let coordinate = coordinate.map(|coordinate| (COORDINATE_FILE, format!("{coordinate}\n")));
    // Last what makes it one.
    let head = ("HEAD", format!("ref: {}\n", initial_branch()));
    for (name, content) in [("config", CONFIG.to_owned())]
        .into_iter()
        .chain(coordinate)
        .chain([head])
    {
        let file = path.join(name);
        fs::write(&file, content).map_err(failed("write", &file))?;
    }
    Ok(())
}

/// Replaces the note whose a directory is, at once or not at all.
pub(super) fn replace_coordinate(layout: &Layout, coordinate: &Coordinate, dir: &Path) -> Result<(), FileError> {
    let file = dir.join(COORDINATE_FILE);
    // Where a crash leaves it to be swept.
    let fresh = layout.fresh_quarantine();
    fs::write(&fresh, format!("{coordinate}\n")).map_err(failed("write", &fresh))?;
    sync(std::slice::from_ref(&fresh))?;
    fs::rename(&fresh, &file).map_err(failed("replace", &file))
}

/// Makes a repository that was laid out durable, with all that is in it, and moves it to `place`. Returns whether it is
/// there: of two at once one wins.
pub(super) fn put_in_place(laid_out: &Path, place: &Path) -> Result<bool, FileError> {
    let mut tree = Vec::new();
    add_tree(laid_out, &mut tree).map_err(failed("list", laid_out))?;
    sync(&tree)?;
    let parent = place.parent().unwrap_or(place);
    make_dir(parent)?;
    match fs::rename(laid_out, place) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && is_repository(place)? => return Ok(false),
        Err(error) => return Err(failed("make the repository", place)(error)),
    }
    if let Err(error) = sync_place(place) {
        // Else the next reconcile finds nothing to change, and takes for durable what is not.
        fs::rename(place, laid_out).map_err(failed("take back the repository", place))?;
        return Err(error);
    }
    Ok(true)
}

/// Makes durable that a repository is where it is; one that is not there is left alone.
pub(super) fn sync_place(place: &Path) -> Result<(), FileError> {
    if !is_repository(place)? {
        return Ok(());
    }
    let mut dirs = place.ancestors().take(3).map(Path::to_owned);
    // One after the other: a journal that is written for the first has the others too.
    dirs.try_for_each(|dir| sync(&[dir]))
}

/// Adds a small directory tree, all files and directories of it.
fn add_tree(dir: &Path, tree: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => add_tree(&entry.path(), tree)?,
            false => tree.push(entry.path()),
        }
    }
    tree.push(dir.to_owned());
    Ok(())
}

/// What `git init --bare` writes. The ref reader knows no reftable, which would be named here.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
