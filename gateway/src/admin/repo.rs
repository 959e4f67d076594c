//! `grasp-gateway repo`: shows, checks and maintains the repositories of a data directory, with or without a running
//! gateway. `inspection` decides what is wrong with one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bytesize::ByteSize;
use nostr::types::Timestamp;
use progress::CommandProgress;
use serde_json::Value;
use serde_json::json;
use shared::load_facts::FactsError;
use shared::nip34::Coordinate;
use wire::path::npub;

use crate::admin::command_answer::CommandAnswer;
use crate::admin::entries::rows_about;
use crate::admin::inspector::Inspector;
use crate::admin::needs::repository;
use crate::admin::rows::Row;
use crate::admin::rows::list;
use crate::admin::table::table;
use crate::command_error::CommandError;
use crate::command_error::causes;
use crate::git::command::Git;
use crate::options::repo::InspectOptions;
use crate::options::repo::ListedBy;
use crate::options::repo::MaintainOptions;
use crate::options::repo::NamedRepositories;
use crate::options::repo::RepairOptions;
use crate::options::repo::RepoAction;
use crate::options::repo::RepoCheckOptions;
use crate::options::repo::RepoListOptions;
use crate::options::repo::RepoOptions;
use crate::options::repo::RepoShowOptions;
use crate::options::server::GatewayOptions;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::Layout;
use crate::repositories::maintenance::Effort;
use crate::repositories::maintenance::Maintained;
use crate::repositories::maintenance::MaintenanceSettings;
use crate::repositories::pack::IngestLimits;
use crate::repositories::repository::RepositoryStore;

/// Runs the command. Long results are written as they are found.
///
/// # Errors
/// There is no such data directory, the facts about a repository cannot be read, or the output is closed.
pub(crate) async fn run(options: &RepoOptions) -> Result<CommandAnswer, CommandError> {
    match &options.action {
        RepoAction::List(options) => list_sizes(options).await,
        RepoAction::Show(options) => show(options).await,
        RepoAction::Check(options) => check(options, &inspector(&options.inspect.server).await?).await,
        RepoAction::Repair(options) => repair(options).await,
        RepoAction::Maintain(options) => maintain(options).await,
    }
}

async fn list_sizes(options: &RepoListOptions) -> Result<CommandAnswer, CommandError> {
    let repositories = open(&options.data_dir, MaintenanceSettings::DEFAULT).await?;
    let mut coordinates = all(&repositories).await?;
    coordinates.retain(|coordinate| options.owner.is_none_or(|owner| coordinate.owner == owner));
    let (disk_use, unread) = (repositories.disk_use(), CommandError::because("cannot read the sizes"));
    // Largest first.
    let mut sizes: Vec<(String, u64)> = match options.by {
        ListedBy::Owner => {
            let sizes = disk_use.by_owner(coordinates).await.map_err(unread)?;
            sizes.iter().map(|(owner, bytes)| (npub(owner), *bytes)).collect()
        }
        ListedBy::Size | ListedBy::Name => {
            let sizes = disk_use.of(coordinates).await.map_err(unread)?;
            sizes.iter().map(|(at, bytes)| (repository(at), *bytes)).collect()
        }
    };
    if options.by == ListedBy::Name {
        sizes.sort();
    }
    if options.json {
        let rows = sizes.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes}));
        return Ok(format!("{:#}\n", Value::Array(rows.collect())).into());
    }
    let all: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let rows = sizes
        .into_iter()
        .map(|(name, bytes)| vec![ByteSize(bytes).to_string(), name]);
    let text = table(&["SIZE", "WHOSE"], rows);
    Ok(format!("{text}{} in all\n", ByteSize(all)).into())
}

async fn show(options: &RepoShowOptions) -> Result<CommandAnswer, CommandError> {
    let how = &options.inspect;
    let inspector = inspector(&how.server).await?;
    let coordinate = &options.repository.0;
    let inspection = inspector.inspect(coordinate, how.refs_only).await;
    let inspection = inspection.map_err(unread(coordinate))?;
    let rows = rows_about(inspector.purgatory(), coordinate).await?;
    Ok(match how.json {
        true => {
            let mut shown = inspection.to_json();
            shown["held"] = rows.iter().map(Row::to_json).collect();
            format!("{shown:#}\n")
        }
        false => inspection.text() + &list(rows, Timestamp::now().as_secs(), false, false),
    }
    .into())
}

async fn repair(options: &RepairOptions) -> Result<CommandAnswer, CommandError> {
    let InspectOptions { server, json, .. } = &options.check.inspect;
    if server.redis().is_none() {
        return Err(CommandError::new(
            "--redis-url must be given: a gateway without Redis reconciles a repository when it is cloned, and all of them when it starts",
        ));
    }
    let mut inspector = inspector(server).await?;
    let coordinates = named(&options.check.named, &inspector.repositories).await?;
    let progress = CommandProgress::new(coordinates.len() as u64, *json);
    inspector.reconcile(&coordinates, *options.wait, &progress).await?;
    drop(progress);
    check(&options.check, &inspector).await
}

/// Writes the problems of each repository; it is a failure if there are any, or if the check of one fails.
async fn check(options: &RepoCheckOptions, inspector: &Inspector) -> Result<CommandAnswer, CommandError> {
    let coordinates = named(&options.named, &inspector.repositories).await?;
    let InspectOptions { refs_only, json, .. } = &options.inspect;
    let progress = CommandProgress::new(coordinates.len() as u64, *json);
    let (mut faulty, mut unknown) = (0, 0);
    for coordinate in &coordinates {
        progress.begin(&repository(coordinate));
        let (person, script) = match inspector.inspect(coordinate, *refs_only).await {
            Ok(inspection) => {
                let faults = inspection.faults();
                faulty += usize::from(!faults.is_empty());
                let person = match faults.is_empty() {
                    true => "ok".to_owned(),
                    false => format!("WRONG\n    {}", faults.join("\n    ")),
                };
                (person, inspection.to_json())
            }
            // It would be the same with the next one.
            Err(error) if error.is_of_a_neighbour() => return Err(unread(coordinate)(error)),
            Err(error) => {
                unknown += 1;
                let why = causes(&error);
                let script = json!({"repository": coordinate.to_string(), "cannot_tell": why});
                (format!("cannot tell: {why}"), script)
            }
        };
        match json {
            true => progress.line(&script.to_string()),
            false => end_step(&progress, coordinate, &person),
        }
        .map_err(unwritten())?;
    }
    let mut text = format!("{} checked, {faulty} wrong", coordinates.len());
    if unknown > 0 {
        text += &format!(", {unknown} unknown");
    }
    Ok(CommandAnswer {
        text: if *json { String::new() } else { text + "\n" },
        code: ExitCode::from(u8::from(faulty + unknown > 0)),
    })
}

fn unread(coordinate: &Coordinate) -> impl FnOnce(FactsError) -> CommandError {
    CommandError::because(format!("cannot read the facts about {coordinate}"))
}

async fn maintain(options: &MaintainOptions) -> Result<CommandAnswer, CommandError> {
    let repositories = open(&options.data_dir, options.maintenance.settings()).await?;
    let coordinates = named(&options.named, &repositories).await?;
    let progress = CommandProgress::new(coordinates.len() as u64, false);
    let mut code = ExitCode::SUCCESS;
    for coordinate in coordinates {
        progress.begin(&repository(&coordinate));
        let began = Instant::now();
        let text = match maintain_one(&repositories, &coordinate).await {
            Ok(done) => describe(done, began),
            Err(error) => {
                code = ExitCode::FAILURE;
                format!("failed: {error}")
            }
        };
        end_step(&progress, &coordinate, &text).map_err(unwritten())?;
    }
    let text = String::new();
    Ok(CommandAnswer { text, code })
}

async fn maintain_one(repositories: &Repositories, coordinate: &Coordinate) -> Result<Maintained, RepositoryError> {
    if !repositories.at(coordinate).exists().await? {
        return Err(RepositoryError::NoRepository);
    }
    repositories.maintain(coordinate, Effort::All).await
}

/// Writes the outcome of a repository.
fn end_step(progress: &CommandProgress, coordinate: &Coordinate, text: &str) -> io::Result<()> {
    progress.end_step();
    let (done, count) = progress.counts();
    progress.line(&format!("{done}/{count} {}: {text}", repository(coordinate)))
}

fn unwritten() -> impl FnOnce(io::Error) -> CommandError {
    CommandError::because("cannot write what was done")
}

async fn inspector(server: &GatewayOptions) -> Result<Inspector, CommandError> {
    let repositories = open(&server.data_dir, server.live.maintenance.settings()).await?;
    Inspector::new(server, repositories).await
}

/// Opens a data directory that is there: none is made in the place of one that was misspelt.
async fn open(data_dir: &Path, maintenance: MaintenanceSettings) -> Result<Repositories, CommandError> {
    let owner = owner_of(data_dir)?;
    check_user(data_dir, owner, rustix::process::geteuid().as_raw())?;
    let layout = Layout::new(data_dir).map_err(CommandError::because("cannot use the data directory"))?;
    let git = Git::discover(layout.root())
        .await
        .map_err(CommandError::because("cannot use git"))?;
    let store = RepositoryStore::open(git, layout, CACHED_REFS_MAX).await;
    let store = store.map_err(CommandError::because("cannot prepare the repositories"))?;
    Ok(Repositories::new(store, IngestLimits::DEFAULT).with_maintenance(maintenance))
}

/// Returns the user whose repositories are in a data directory.
fn owner_of(data_dir: &Path) -> Result<u32, CommandError> {
    let found = fs::metadata(data_dir.join("repositories"));
    let found = found.map_err(CommandError::because(format!(
        "there are no repositories in {}: give the gateway's directory with --data-dir",
        data_dir.display()
    )))?;
    Ok(found.uid())
}

/// Refuses to run as another user than the gateway's: the gateway could not read the files that it writes.
fn check_user(data_dir: &Path, owner: u32, own: u32) -> Result<(), CommandError> {
    match owner == own {
        true => Ok(()),
        false => Err(CommandError::new(format!(
            "{} belongs to user {owner}, and this command runs as user {own}, whose files the gateway could not read: \
             runuser -u grasp -- grasp-gateway repo ...",
            data_dir.display()
        ))),
    }
}

async fn named(named: &NamedRepositories, repositories: &Repositories) -> Result<Vec<Coordinate>, CommandError> {
    match named.all {
        true => all(repositories).await,
        false => Ok(named.repositories.iter().map(|named| named.0.clone()).collect()),
    }
}

async fn all(repositories: &Repositories) -> Result<Vec<Coordinate>, CommandError> {
    let (mut walk, mut all) = (repositories.walk(), Vec::new());
    let failed = || CommandError::because("cannot list the repositories");
    while let Some(page) = walk.next_page(PAGE).await.map_err(failed())? {
        all.extend(page);
    }
    Ok(all)
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

/// Refs are read once each.
const CACHED_REFS_MAX: usize = 1_000;

/// Repositories listed at a time.
const PAGE: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_that_owns_the_repositories_works_on_them() {
        let folder = tempfile::tempdir().unwrap();
        let missing = owner_of(folder.path()).unwrap_err();
        fs::create_dir(folder.path().join("repositories")).unwrap();

        let owner = owner_of(folder.path()).unwrap();

        let cause = std::error::Error::source(&missing).unwrap().to_string();
        assert!(cause.contains("No such file"), "{cause}");
        assert!(check_user(folder.path(), owner, rustix::process::geteuid().as_raw()).is_ok());
        for (owner, own) in [(33, 0), (0, 33)] {
            let refused = check_user(folder.path(), owner, own).unwrap_err().to_string();
            let users = format!("user {owner}, and this command runs as user {own}");
            assert!(refused.contains(&users) && refused.contains("runuser"), "{refused}");
        }
    }
}
