//! Preparing the installation of a PR whose commit is not staged by itself yet: it is in another repository of its
//! maintainers, or an earlier version has staged it with all that came.

use std::time::Duration;

use shared::rules::Installation;
use shared::rules::InstallationSource;
use shared::rules::Staged;

use crate::repositories::LockQueue;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;
use crate::repositories::pull_request_packs::too_dear;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::staging::Staging;

impl Repositories {
    /// Stages what the commit of a PR needs in a repository, so that its installation moves files only. Outside the
    /// lock, but for a moment at the end.
    ///
    /// # Errors
    /// [`RepositoryError`]; what was staged stays.
    pub(crate) async fn prepare(&self, installation: &Installation) -> Result<(), RepositoryError> {
        let Installation {
            coordinate,
            event_id,
            commit_oid,
            ..
        } = installation;
        let repository = self.at(coordinate);
        let staged_at = |at| Staging::of(at).object_dir(event_id, commit_oid);
        let from = match &installation.source {
            InstallationSource::Here => return Ok(()),
            InstallationSource::Staged => vec![staged_at(&repository)],
            InstallationSource::Repository(source) => vec![self.at(source).object_dir()],
            InstallationSource::StagedElsewhere(source) => {
                // It may have moved into that repository a moment ago.
                let source = self.at(source);
                vec![source.object_dir(), staged_at(&source)]
            }
        };
        let limits = self.limits().of_pull_request(Duration::ZERO);
        let needed = Quarantine::copy(&from, &[*commit_oid], &repository, None, &limits).await;
        let needed = needed.map_err(|error| too_dear(error, &limits))?;
        let locked = self.lock_in(LockQueue::Strangers, &[coordinate.clone()].into()).await?;
        let staged = Staged {
            coordinate: coordinate.clone(),
            event_id: *event_id,
            commit_oid: *commit_oid,
        };
        locked.repository(coordinate)?.stage_sorted(&[&staged], &needed).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::fs;

    use nostr::event::EventId;
    use nostr::key::PublicKey;
    use shared::git::Oid;
    use shared::git::RefName;
    use shared::rules::PullRequestOffer;
    use shared::rules::SourceTag;

    use super::*;
    use crate::repositories::ingest::tests::ingest;
    use crate::repositories::pack::IngestError;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::received::Received;
    use crate::repositories::repository::Repository;
    use crate::repositories::sorted_packs::SortedPacks;
    use crate::repositories::staging::Order;
    use crate::repositories::testing::World;

    fn event_id(number: u8) -> EventId {
        EventId::from_byte_array([number; 32])
    }

    fn installation(at: &Repository, number: u8, commit_oid: Oid, source: InstallationSource) -> Installation {
        Installation {
            coordinate: at.coordinate().clone(),
            event_id: event_id(number),
            offer: PullRequestOffer {
                author: PublicKey::from_byte_array([1; 32]),
                bytes: 0,
                source: None,
            },
            bytes: 0,
            commit_oid,
            old: None,
            source,
        }
    }

    /// Every git that reads objects fails from now on.
    fn fail_reading(world: &World) {
        let commands = ["rev-list", "pack-objects", "index-pack"].join(" \"*|*\" ");
        world.fail_git(&commands, "exit 9");
    }

    async fn pushed(
        world: &World,
        (from, into): (&Repository, &Repository),
        revs: &str,
        commits: &[Oid],
        limits: &IngestLimits,
    ) -> Result<Received, RepositoryError> {
        let args = [
            "pack-objects",
            "--revs",
            "--stdout",
            "--thin",
            "--quiet",
            "--depth=4095",
        ];
        let pack = world.git(from, &args, revs.as_bytes()).await;
        let whole = ingest(into, pack, IngestLimits::default()).await?;
        let commits: BTreeSet<Oid> = commits.iter().copied().collect();
        Received::sort(whole, None, commits.clone(), (BTreeSet::new(), commits), limits).await
    }

    /// The walk and the copy were made under the lock, which others waited for.
    #[tokio::test]
    async fn under_the_lock_no_git_reads_objects_and_each_commit_brings_what_it_needs() {
        let world = World::whose_git_can_be_killed().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let [one, two] = world.two_commits(&from).await;
        let other = world.commit(&from, "other", &[]).await;
        let stray = world.oid(&from, &["hash-object", "-w", "--stdin"], b"stray").await;
        into.create().await.unwrap();
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let revs = format!("{two}\n{other}\n{stray}\n");
        let received = pushed(&world, (&from, &into), &revs, &[two, other], &all.limits())
            .await
            .unwrap();

        fail_reading(&world);
        let locked = all.lock(&[into.coordinate().clone()].into()).await.unwrap();
        let locked = locked.repository(into.coordinate()).unwrap();
        let staged = [(1, two), (2, two), (3, other)].map(|(number, commit_oid)| Staged {
            coordinate: into.coordinate().clone(),
            event_id: event_id(number),
            commit_oid,
        });
        locked.stage(&staged, &received, SourceTag(1)).await.unwrap();
        drop(received);
        for number in [1, 2] {
            let installed = installation(&into, number, two, InstallationSource::Staged);
            locked.install(&installed).await.unwrap();
        }

        let here = into.object_kinds(&[one, two, other, stray]).await.unwrap();
        assert_eq!(here.into_keys().collect::<BTreeSet<_>>(), [one, two].into());
        let refs = into.refs().await.unwrap().unwrap().refs;
        let names = [1, 2].map(|number| (RefName::pull_request(&event_id(number)), two));
        assert_eq!(refs, names.into());
        assert_eq!(
            World::packs(&Staging::of(&into).object_dir(&event_id(3), &other)).len(),
            1
        );
        assert_eq!(world.quarantine_entries(), 0);
    }

    /// Large trees in one chain of deltas, which the commit reaches in another order, and commits that it does not
    /// need: git makes each tree of many others, again and again. That took up to 600 s, under the lock.
    #[tokio::test]
    async fn a_commit_that_is_dear_to_walk_is_refused_before_the_lock() {
        let world = World::new().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        let commit = dear(&world, &from).await;
        let list = ["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"];
        let list = world.git(&from, &list, b"").await;
        // As it stands, without a walk.
        let args = ["pack-objects", "--stdout", "--quiet", "--depth=4095", "--window=0"];
        let pack = world.git(&from, &args, &list).await;
        let whole = ingest(&into, pack, IngestLimits::default()).await.unwrap();
        let limits = IngestLimits {
            pull_request_cpu_secs_max: 1,
            ..IngestLimits::default()
        };

        let commits = BTreeSet::from([commit]);
        let refused = Received::sort(whole, None, commits.clone(), (BTreeSet::new(), commits), &limits).await;

        assert!(
            matches!(
                refused,
                Err(RepositoryError::Ingest(IngestError::PullRequestTooDear { cpu_secs: 1 }))
            ),
            "{refused:?}"
        );
        assert_eq!(world.quarantine_entries(), 0);
    }

    /// Writes commits of large trees, each a delta of the one before, and returns one that reaches them in another
    /// order.
    async fn dear(world: &World, repository: &Repository) -> Oid {
        let person = "committer A <a@example.com> 1 +0000\ndata 0\n";
        let mut script = format!("blob\nmark :1\ndata 1\nx\ncommit refs/heads/chain\n{person}");
        for number in 0..DEAR_ENTRIES {
            writeln!(script, "M 100644 :1 f{number:05}").unwrap();
        }
        for number in 1..DEAR_TREES {
            let file = number * DEAR_ENTRIES / DEAR_TREES;
            write!(script, "commit refs/heads/chain\n{person}M 100755 :1 f{file:05}\n").unwrap();
        }
        let import = ["fast-import", "--quiet", "--depth=4095"];
        world.git(repository, &import, script.as_bytes()).await;
        let trees = world.git(repository, &["log", "--format=%T", "chain"], b"").await;
        let trees = String::from_utf8(trees).unwrap();
        let trees: Vec<&str> = trees.lines().collect();
        // A number without a common divisor visits each.
        let mut script = String::new();
        for number in 0..trees.len() {
            let tree = trees[number * 379 % trees.len()];
            write!(script, "commit refs/heads/dear\n{person}M 040000 {tree} \"\"\n").unwrap();
        }
        // The tree of the last one is small: whether it has submodules can be told.
        write!(
            script,
            "commit refs/heads/dear\n{person}deleteall\nM 100644 inline x\ndata 1\nx\n"
        )
        .unwrap();
        world.git(repository, &import, script.as_bytes()).await;
        world.oid(repository, &["rev-parse", "dear"], b"").await
    }

    /// git needs some 2 s of CPU to walk them.
    const DEAR_TREES: usize = 460;
    const DEAR_ENTRIES: usize = 22_000;

    /// What another version has staged, and what was sorted with objects that have left the repository.
    #[tokio::test]
    async fn what_is_not_known_to_be_sorted_is_sorted_outside_the_lock_whoever_is_killed_meanwhile() {
        let world = World::whose_git_can_be_killed().await;
        let (from, into, elsewhere) = (
            world.repository("from"),
            world.repository("into"),
            world.repository("elsewhere"),
        );
        let [one, two] = world.two_commits(&from).await;
        let stray = world.oid(&from, &["hash-object", "-w", "--stdin"], b"stray").await;
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let revs = format!("{two}\n{stray}\n");
        let received = pushed(&world, (&from, &into), &revs, &[], &all.limits()).await.unwrap();
        let staging = Staging::of(&into);
        let id = event_id(1);
        staging
            .place([(&id, &two)], received.whole(), Order::Unknown, None)
            .await
            .unwrap();
        drop(received);
        let staged = installation(&into, 1, two, InstallationSource::Staged);
        let source = InstallationSource::StagedElsewhere(into.coordinate().clone());
        let staged_elsewhere = installation(&elsewhere, 1, two, source);
        let install = async |installation: &Installation| {
            let locked = all.lock(&[installation.coordinate.clone()].into()).await.unwrap();
            locked
                .repository(&installation.coordinate)
                .unwrap()
                .install(installation)
                .await
        };

        for installation in [&staged_elsewhere, &staged] {
            let at = world.store.at(&installation.coordinate);
            let refused = install(installation).await;
            assert!(matches!(refused, Err(RepositoryError::Unsorted { .. })), "{refused:?}");
            for subcommand in ["pack-objects", "index-pack"] {
                world.fail_git(subcommand, "kill -9 $$");
                all.prepare(installation).await.unwrap_err();
            }
            world.fail_git("nothing", "true");
            assert!(at.object_kinds(&[two]).await.unwrap().is_empty());
            all.prepare(installation).await.unwrap();
            // Before its note was written.
            let object_dir = Staging::of(&at).object_dir(&id, &two);
            fs::remove_file(SortedPacks::note_in(&object_dir)).unwrap();
            all.prepare(installation).await.unwrap();
            fail_reading(&world);
            let installation = Installation {
                source: InstallationSource::Staged,
                ..installation.clone()
            };
            install(&installation).await.unwrap();
            world.fail_git("nothing", "true");

            let here = at.object_kinds(&[one, two, stray]).await.unwrap();
            assert_eq!(here.into_keys().collect::<BTreeSet<_>>(), [one, two].into());
            world.git(&at, &["rev-list", "--objects", "--all"], b"").await;
        }
        assert!(world.staged().await.is_empty());
        assert_eq!(world.quarantine_entries(), 0);
    }
}
