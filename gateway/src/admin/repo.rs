//! `grasp-gateway repo`: works on the repositories of a data directory, beside a gateway or without one.

use std::fs;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use shared::nip34::Coordinate;

use crate::admin::needs::repository;
use crate::command_error::CommandError;
use crate::git::command::Git;
use crate::options::repo::MaintainOptions;
use crate::options::repo::RepoAction;
use crate::options::repo::RepoOptions;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::Layout;
use crate::repositories::maintenance::Effort;
use crate::repositories::maintenance::Maintained;
use crate::repositories::pack::IngestLimits;
use crate::repositories::repository::RepositoryStore;

/// Does what the operator asks for, and writes what is done as it is done.
///
/// # Errors
/// There is no such data directory or repository, or nobody reads what is written.
pub(crate) async fn run(options: &RepoOptions) -> Result<ExitCode, CommandError> {
    match &options.action {
        RepoAction::Maintain(options) => maintain(options).await,
    }
}

async fn maintain(options: &MaintainOptions) -> Result<ExitCode, CommandError> {
    let repositories = open(options).await?;
    let coordinates = match options.all {
        true => all(&repositories).await?,
        false => options.repositories.iter().map(|named| named.0.clone()).collect(),
    };
    let mut progress = ProgressLines::new(coordinates.len());
    let mut code = ExitCode::SUCCESS;
    for coordinate in coordinates {
        progress.begin(&coordinate)?;
        let began = Instant::now();
        let text = match maintain_one(&repositories, &coordinate).await {
            Ok(done) => describe(done, began),
            Err(error) => {
                code = ExitCode::FAILURE;
                format!("failed: {error}")
            }
        };
        progress.end(&coordinate, &text)?;
    }
    Ok(code)
}

async fn maintain_one(repositories: &Repositories, coordinate: &Coordinate) -> Result<Maintained, RepositoryError> {
    if !repositories.at(coordinate).exists().await {
        return Err(RepositoryError::NoRepository);
    }
    repositories.maintain(coordinate, Effort::All).await
}

/// Opens a data directory that is there: none is made in the place of one that was misspelt.
async fn open(options: &MaintainOptions) -> Result<Repositories, CommandError> {
    let data_dir = &options.data_dir;
    let owner = owner_of(data_dir)?;
    check_user(data_dir, owner, rustix::process::geteuid().as_raw())?;
    let layout = Layout::new(data_dir).map_err(CommandError::because("cannot use the data directory"))?;
    let git = Git::discover(layout.root())
        .await
        .map_err(CommandError::because("cannot use git"))?;
    let store = RepositoryStore::open(git, layout, CACHED_REFS_MAX).await;
    let store = store.map_err(CommandError::because("cannot prepare the repositories"))?;
    Ok(Repositories::new(store, IngestLimits::DEFAULT).with_maintenance(options.maintenance.settings()))
}

/// Returns the user whose repositories are in a data directory.
fn owner_of(data_dir: &Path) -> Result<u32, CommandError> {
    let found = fs::metadata(data_dir.join("repositories"));
    let found = found.map_err(CommandError::because(format!(
        "there are no repositories in {}: name the gateway's with --data-dir",
        data_dir.display()
    )))?;
    Ok(found.uid())
}

/// Refuses another user than the gateway's: the gateway could not read what that one writes.
fn check_user(data_dir: &Path, owner: u32, own: u32) -> Result<(), CommandError> {
    match owner == own {
        true => Ok(()),
        false => Err(CommandError::new(format!(
            "{} belongs to user {owner}, and this is run by user {own}, whose files the gateway cannot read: \
             runuser -u grasp -- grasp-gateway repo maintain ...",
            data_dir.display()
        ))),
    }
}

async fn all(repositories: &Repositories) -> Result<Vec<Coordinate>, CommandError> {
    let (mut walk, mut all) = (repositories.walk(), Vec::new());
    loop {
        let page = walk.next_page(PAGE).await;
        let page = page.map_err(CommandError::because("cannot list the repositories"))?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn describe(done: Maintained, began: Instant) -> String {
    let Maintained {
        refs,
        combined,
        indexed,
        removed,
        separated,
    } = done;
    match done == Maintained::default() {
        true => "nothing to do".to_owned(),
        false => format!(
            "{combined} packs combined, {indexed} indexed, {removed} replaced ones removed, {separated} of unreachable \
             objects set apart, {refs} refs packed, in {:.1} s",
            began.elapsed().as_secs_f64()
        ),
    }
}

/// A line for each repository that is done, and below them, on a terminal, a bar.
struct ProgressLines {
    count: usize,
    done: usize,
    is_terminal: bool,
}

impl ProgressLines {
    fn new(count: usize) -> Self {
        Self {
            count,
            done: 0,
            is_terminal: io::stdout().is_terminal(),
        }
    }

    fn begin(&self, coordinate: &Coordinate) -> Result<(), CommandError> {
        if !self.is_terminal {
            return Ok(());
        }
        let filled = BAR_WIDTH * self.done / self.count.max(1);
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled));
        write(&format!(
            "\r\x1b[K[{bar}] {}/{} {}",
            self.done,
            self.count,
            repository(coordinate)
        ))
    }

    fn end(&mut self, coordinate: &Coordinate, text: &str) -> Result<(), CommandError> {
        self.done += 1;
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let (done, count) = (self.done, self.count);
        write(&format!("{clear}{done}/{count} {}: {text}\n", repository(coordinate)))
    }
}

fn write(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(CommandError::because("cannot write what was done"))
}

/// Refs are read once each.
const CACHED_REFS_MAX: usize = 1_000;

/// Repositories listed at a time.
const PAGE: usize = 1_000;

const BAR_WIDTH: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_that_owns_the_repositories_maintains_them() {
        let folder = tempfile::tempdir().unwrap();
        let missing = owner_of(folder.path()).unwrap_err();
        fs::create_dir(folder.path().join("repositories")).unwrap();

        let owner = owner_of(folder.path()).unwrap();

        let cause = std::error::Error::source(&missing).unwrap().to_string();
        assert!(cause.contains("No such file"), "{cause}");
        assert!(check_user(folder.path(), owner, rustix::process::geteuid().as_raw()).is_ok());
        for (owner, own) in [(33, 0), (0, 33)] {
            let refused = check_user(folder.path(), owner, own).unwrap_err().to_string();
            let users = format!("user {owner}, and this is run by user {own}");
            assert!(refused.contains(&users) && refused.contains("runuser"), "{refused}");
        }
    }
}
