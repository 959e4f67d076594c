//! Whether a repository has all that its refs reach, by git's own fsck.

use std::process::Stdio;
use std::time::SystemTime;

use shared::nip34::Coordinate;

use crate::git::error::GitError;
use crate::git::error::ended;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;

impl Repositories {
    /// Returns the missing or unreadable objects that the refs and packs of a repository reach, in git's words; the
    /// first lines. Takes no lock: objects are there before the refs that need them.
    ///
    /// # Errors
    /// git cannot be run, or reaches a limit of maintenance.
    pub(crate) async fn missing_objects(&self, coordinate: &Coordinate) -> Result<Vec<String>, RepositoryError> {
        let repository = self.at(coordinate);
        let settings = self.maintenance.get();
        let (command, deadline) = ("fsck", settings.duration_max);
        let git = repository.store().git().invoke(command);
        let git = git
            // What objects are made of was checked when they came.
            .arg("--connectivity-only")
            .arg("--no-dangling")
            .arg("--no-progress")
            .repository(repository.path())
            .limits(settings.child_limits());
        let child = git.spawn(Stdio::null())?;
        child.let_others_first();
        let output = ended(command, deadline, child.output(b"", PRINTED_BYTES_MAX, deadline).await)?;
        match output.status.code() {
            Some(0) => Ok(Vec::new()),
            // The checksum at the end of its output.
            Some(_) => {
                let printed = String::from_utf8_lossy(&output.stdout);
                let printed = printed.lines().filter(|line| line.starts_with("missing "));
                let mut found: Vec<String> = printed.map(str::to_owned).collect();
                found.extend(output.stderr.lines());
                found.truncate(LINES_MAX);
                Ok(found)
            }
            // A signal has ended it.
            None => Err(GitError::failed(command, &output).into()),
        }
    }

    /// Returns when the packs of a repository were indexed last; `None`: they never were.
    pub(crate) async fn indexed_at(&self, coordinate: &Coordinate) -> Option<SystemTime> {
        let index = self.at(coordinate).object_dir().join("pack/multi-pack-index");
        tokio::fs::metadata(index).await.ok()?.modified().ok()
    }
}

/// Lines of one repository: the reader restores it as a whole anyway.
const LINES_MAX: usize = 20;

const PRINTED_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::repositories::Repositories;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn an_object_that_is_gone_is_named() {
        let world = World::new().await;
        let repository = world.repository("r");
        let objects = world.populate(&repository).await;
        let set = format!("update-ref refs/heads/a {}", objects.commit);
        world.git(&repository, &set.split(' ').collect::<Vec<_>>(), b"").await;
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let missing = async || all.missing_objects(repository.coordinate()).await.unwrap();
        assert_eq!(missing().await, Vec::<String>::new());

        for (oid, kind) in [(objects.tree, "tree"), (objects.commit, "commit")] {
            let name = oid.to_string();
            fs::remove_file(repository.object_dir().join(&name[..2]).join(&name[2..])).unwrap();

            let found = missing().await;
            assert!(found.iter().any(|line| line.contains(&name)), "{kind}: {found:?}");
        }
    }
}
