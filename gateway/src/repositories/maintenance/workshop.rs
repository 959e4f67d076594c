//! Where packs and indexes are made for a repository: what takes time, by git, outside of the lock.

use std::collections::BTreeSet;
use std::io::BufWriter;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use shared::git::Oid;

use crate::git::error::GitError;
use crate::git::error::ended;
use crate::git::error::succeeded;
use crate::git::invocation::Invocation;
use crate::logged::logged;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::is_here;
use crate::repositories::layout::make_dir;
use crate::repositories::layout::sync;
use crate::repositories::maintenance::found::contained_packs;
use crate::repositories::maintenance::found::note_sorted;
use crate::repositories::maintenance::plan::FoundPacks;
use crate::repositories::maintenance::plan::MaintenancePlan;
use crate::repositories::maintenance::plan::MaintenanceSettings;
use crate::repositories::maintenance::plan::Separation;
use crate::repositories::maintenance::plan::separate;
use crate::repositories::maintenance::switch::RenewedPacks;
use crate::repositories::maintenance::switch::new_files;
use crate::repositories::marks::Marks;
use crate::repositories::packs::packs_in;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::repository::Repository;

/// The reachable objects, and the decision about the rest.
pub(super) struct Sorted {
    marks: Marks,
    pub(super) separation: Separation,
}

/// Where packs and indexes are made: a quarantine in which the packs of the repository can be read.
pub(super) struct Workshop<'r> {
    repository: &'r Repository,
    quarantine: Quarantine,
    settings: &'r MaintenanceSettings,
}

impl<'r> Workshop<'r> {
    /// Opens one with the packs that were found.
    pub(super) async fn open(
        repository: &'r Repository,
        found: &FoundPacks,
        settings: &'r MaintenanceSettings,
    ) -> Result<Self, RepositoryError> {
        let quarantine = Quarantine::open(repository).await?;
        let names = found.names();
        let (from, objects) = (repository.object_dir().join("pack"), quarantine.object_dir().to_owned());
        in_background(move || {
            make_dir(&objects.join("info"))?;
            link_packs(&from, &objects.join("pack"), &names)
        })
        .await?;
        Ok(Self {
            repository,
            quarantine,
            settings,
        })
    }

    /// Makes what the plan wants, or of packs with objects that no ref reaches two each.
    ///
    /// # Errors
    /// [`RepositoryError`]: nothing is made.
    pub(super) async fn renew(
        self,
        found: &FoundPacks,
        plan: &MaintenancePlan,
        sorted: Option<Sorted>,
    ) -> Result<RenewedPacks, RepositoryError> {
        let (mut replaced, mut unreachable) = (BTreeSet::new(), found.unreachable.clone());
        let dir = self.quarantine.object_dir().join("pack");
        if let Some(Sorted { marks, separation }) = sorted {
            unreachable.retain(|name| !separation.reached_again.contains(name));
            unreachable.extend(separation.unreachable);
            if !separation.split.is_empty() {
                let (marks, split) = (Arc::new(marks), &separation.split);
                let reached = self.pack_of(Arc::clone(&marks), split.clone(), true).await?;
                let rest = self.pack_of(marks, split.clone(), false).await?;
                unreachable.insert(rest.clone());
                let (dir, others) = (dir.clone(), [reached, rest].into());
                replaced = in_background(move || contained_packs(&dir, &separation.split, &others)).await;
            }
        } else if !plan.combine.is_empty() {
            match self.combine(&plan.combine).await {
                Ok(combined) => {
                    let (dir, names) = (dir.clone(), plan.combine.clone());
                    replaced = in_background(move || contained_packs(&dir, &names, &[combined].into())).await;
                }
                Err(error) => self.do_without(&error, "cannot combine the packs of a repository"),
            }
        }
        let mut indexed = in_background(move || packs_in(&dir)).await?;
        indexed.retain(|name| !replaced.contains(name) && !unreachable.contains(name));
        if !indexed.is_empty() {
            self.index_all(found, &indexed).await?;
        }
        let objects = self.quarantine.object_dir().to_owned();
        // Here, so that the lock is not held meanwhile.
        in_background(move || sync(&new_files(&objects)?)).await?;
        Ok(RenewedPacks {
            quarantine: self.quarantine,
            linked: found.names(),
            indexed,
            replaced,
            unreachable,
        })
    }

    /// Writes the files that readers use instead of each pack, as far as possible.
    async fn index_all(&self, found: &FoundPacks, indexed: &BTreeSet<PathBuf>) -> Result<(), RepositoryError> {
        let largest = found.packs.iter().filter(|pack| indexed.contains(&pack.name));
        let largest = largest.max_by_key(|pack| pack.bytes).map(|pack| pack.name.clone());
        if let Err(error) = self.index(indexed, largest.as_deref(), Some("--bitmap")).await {
            // Something is missing, or its limits are too small for bitmaps.
            self.do_without(&error, "cannot write bitmaps for a repository");
            self.index(indexed, largest.as_deref(), None).await?;
        }
        let graph = self
            .git("commit-graph")
            .arg("write")
            .arg("--reachable")
            .arg("--no-progress");
        if let Err(error) = self.run(graph, Stdio::null(), "").await {
            self.do_without(&error, "cannot write a commit-graph for a repository");
        }
        Ok(())
    }

    /// Separates reachable from unreachable objects; `None`: nothing must be done, or they cannot be determined.
    pub(super) async fn sort(&self, found: &FoundPacks) -> Result<Option<Sorted>, RepositoryError> {
        let objects = self.repository.object_dir();
        in_background(move || note_sorted(&objects)).await?;
        let marks = match self.mark_reached(found).await {
            Ok(Some(marks)) => marks,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.do_without(&error, "cannot look for unreachable objects of a repository");
                return Ok(None);
            }
        };
        let separation = separate(found, marks.counts());
        Ok((separation != Separation::default()).then_some(Sorted { marks, separation }))
    }

    /// Marks what refs reach in all packs that were found; `None`: not all refs can be followed.
    ///
    /// # Errors
    /// [`RepositoryError`] if git does not come to the end of it.
    pub(super) async fn mark_reached(&self, found: &FoundPacks) -> Result<Option<Marks>, RepositoryError> {
        let (dir, names) = (self.repository.object_dir().join("pack"), found.names());
        let mut marks = in_background(move || Marks::of(&dir, names)).await?;
        let refs = self
            .repository
            .refs()
            .await?
            .map(|snapshot| snapshot.refs)
            .unwrap_or_default();
        let named: BTreeSet<Oid> = refs.into_values().collect();
        let tips = self.repository.tips().await?;
        if tips.len() != named.len() {
            return Ok(None);
        }
        if tips.is_empty() {
            return Ok(Some(marks));
        }
        let rev_list = self.git("rev-list").arg("--objects").arg("--no-object-names");
        let mut child = rev_list
            .arg("--use-bitmap-index")
            .arg("--stdin")
            .spawn(Stdio::piped())?;
        child.let_others_first();
        let stdout = child.stdout.take();
        let revs: String = tips.iter().map(|tip| format!("{tip}\n")).collect();
        let (walked, marked) = tokio::join!(
            child.output(revs.as_bytes(), 0, self.settings.duration_max),
            marks.mark_printed(stdout)
        );
        succeeded("rev-list", ended("rev-list", self.settings.duration_max, walked)?)?;
        marked.map_err(GitError::run("rev-list"))?;
        Ok(Some(marks))
    }

    /// Makes a pack of the objects of these packs that are marked, or of those that are not; returns its name.
    async fn pack_of(
        &self,
        marks: Arc<Marks>,
        names: BTreeSet<PathBuf>,
        is_marked: bool,
    ) -> Result<PathBuf, RepositoryError> {
        let layout = self.repository.store().layout().clone();
        // There may be millions.
        let list = in_background(move || {
            let mut list = BufWriter::new(layout.nameless_file()?);
            marks
                .list(&names, is_marked)
                .try_for_each(|oid| writeln!(list, "{oid}"))?;
            let mut list = list.into_inner().map_err(|error| error.into_error())?;
            list.rewind()?;
            Ok(list)
        });
        let list = list
            .await
            .map_err(failed("list the objects of", &self.repository.object_dir()))?;
        self.pack(self.git("pack-objects"), list.into(), "").await
    }

    /// Makes one pack of several, with all that is in them, and returns its name.
    async fn combine(&self, packs: &BTreeSet<PathBuf>) -> Result<PathBuf, RepositoryError> {
        let combine = self.git("pack-objects").arg("--stdin-packs");
        self.pack(combine, Stdio::piped(), &lines(packs, "pack")).await
    }

    async fn pack(&self, git: Invocation, stdin: Stdio, input: &str) -> Result<PathBuf, RepositoryError> {
        let git = git.arg("--quiet").arg("--delta-base-offset");
        let git = git.arg(self.quarantine.object_dir().join("pack/pack"));
        let printed = self.run(git, stdin, input).await?;
        Ok(format!("pack-{}", String::from_utf8_lossy(&printed).trim_end()).into())
    }

    /// Writes the multi-pack index. Of the largest pack whole stretches are sent as they are.
    async fn index(
        &self,
        packs: &BTreeSet<PathBuf>,
        largest: Option<&Path>,
        bitmap: Option<&str>,
    ) -> Result<(), RepositoryError> {
        let mut index = self.git("multi-pack-index").arg("write").arg("--no-progress");
        index = index.arg("--stdin-packs");
        if let Some(name) = largest {
            index = index.arg(format!("--preferred-pack={}.pack", name.display()));
        }
        if let Some(bitmap) = bitmap {
            index = index.arg(bitmap);
        }
        self.run(index, Stdio::piped(), &lines(packs, "idx")).await.map(drop)
    }

    fn git(&self, subcommand: &str) -> Invocation {
        let git = self.repository.store().git().invoke(subcommand);
        git.repository(self.repository.path())
            .env("GIT_OBJECT_DIRECTORY", self.quarantine.object_dir())
            // Refs may have moved on to objects that came after the packs were listed.
            .alternates(self.quarantine.alternates())
            .limits(self.settings.child_limits())
    }

    /// Runs a git that everything else comes before, and returns the line that it prints.
    async fn run(&self, git: Invocation, stdin: Stdio, input: &str) -> Result<Vec<u8>, RepositoryError> {
        let (command, deadline) = (git.subcommand().to_owned(), self.settings.duration_max);
        let child = git.spawn(stdin)?;
        child.let_others_first();
        let output = child.output(input.as_bytes(), PRINTED_BYTES_MAX, deadline).await;
        Ok(succeeded(&command, ended(&command, deadline, output)?)?)
    }

    fn do_without(&self, error: &RepositoryError, text: &str) {
        let repository = self.repository;
        repository.store().touched().leave_out(repository.coordinate());
        tracing::warn!(repo.coordinate = %repository.coordinate(), error = logged(error), "{text}, left out until the daily re-check");
    }
}

fn lines(packs: &BTreeSet<PathBuf>, extension: &str) -> String {
    let line = |name: &PathBuf| format!("{}.{extension}\n", name.display());
    packs.iter().map(line).collect()
}

/// Makes packs of one directory readable in another.
fn link_packs(from: &Path, to: &Path, names: &BTreeSet<PathBuf>) -> Result<(), FileError> {
    make_dir(to)?;
    for name in names {
        for extension in ["pack", "rev", "idx"] {
            let (file, link) = (
                from.join(name).with_extension(extension),
                to.join(name).with_extension(extension),
            );
            if is_here(&file)? {
                symlink(&file, &link).map_err(failed("link", &link))?;
            }
        }
    }
    Ok(())
}

/// The name of a pack.
const PRINTED_BYTES_MAX: usize = 100;
