//! Pushes that are about to come: who has asked for the refs to push packs now, and the git that will check the pack
//! starts meanwhile. A small push does not wait for that then, which is a good part of what it costs.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::process::ChildProcess;
use crate::repositories::layout::in_background;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::repository::Repository;

/// A git that waits for a pack, and where it will put that.
#[derive(Debug)]
pub(super) struct Ready {
    /// Empty.
    pub(super) quarantine: Quarantine,
    /// Has read nothing yet.
    pub(super) index_pack: ChildProcess,
}

/// What is ready for the pushes that are expected. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ExpectedPushes {
    ready: Arc<Mutex<Vec<Ready>>>,
}

impl ExpectedPushes {
    /// Starts a git for a push into `repository`, unless enough wait already, and ends it if no push comes.
    ///
    /// # Errors
    /// [`IngestError`] if it cannot be started: the push will start its own.
    pub(super) async fn expect(&self, repository: &Repository, limits: &IngestLimits) -> Result<(), IngestError> {
        if self.lock().len() >= READY_MAX {
            return Ok(());
        }
        let quarantine = Quarantine::open(repository).await?;
        let index_pack = quarantine.index_small_pack(limits).spawn(Stdio::piped())?;
        let path = quarantine.object_dir().to_owned();
        {
            let mut ready = self.lock();
            if ready.len() >= READY_MAX {
                return Ok(());
            }
            ready.push(Ready { quarantine, index_pack });
        }
        tokio::time::sleep(EXPECTED_FOR).await;
        let is_it = |ready: &mut Ready| ready.quarantine.object_dir() == path;
        let unused: Vec<Ready> = self.lock().extract_if(.., is_it).collect();
        drop(unused);
        Ok(())
    }

    /// Takes what is ready for a push into `repository`, if it can still be used.
    pub(super) async fn take(&self, repository: &Repository) -> Option<Ready> {
        let is_meant = |ready: &mut Ready| ready.quarantine.repository().coordinate() == repository.coordinate();
        let mut taken = self.lock().extract_if(.., is_meant).next()?;
        // It knows the objects of the repository only if there was one when it was started.
        let (was_here, object_dir) = (!taken.quarantine.alternates().is_empty(), repository.object_dir());
        let is_here = in_background(move || object_dir.is_dir()).await;
        (was_here == is_here && taken.index_pack.is_running()).then_some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many wait at most, whoever asks: each is a process of a few MiB.
const READY_MAX: usize = 4;

/// How long one waits. A small push comes within milliseconds; what takes longer to pack gains nothing by it.
const EXPECTED_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::spool::Spool;
    use crate::repositories::testing::World;

    async fn spool(world: &World, from: &Repository, revs: &str) -> Spool {
        let args = ["pack-objects", "--revs", "--stdout", "--thin", "--quiet"];
        let pack = world.git(from, &args, revs.as_bytes()).await;
        let mut spool = Spool::new(world.store.layout().clone(), IngestLimits::default());
        spool.push(&pack).await.unwrap();
        spool
    }

    /// Expects a push, without waiting until nobody does any more.
    async fn expect(expected: &ExpectedPushes, repository: &Repository) {
        let before = expected.lock().len();
        let (limits, others) = (IngestLimits::default(), expected.clone());
        let repository = repository.clone();
        tokio::spawn(async move { others.expect(&repository, &limits).await });
        let is_ready = async {
            while expected.lock().len() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_ready).await.unwrap();
    }

    #[tokio::test]
    async fn a_git_that_waits_sees_what_came_into_the_repository_since() {
        for world in World::of_every_git().await {
            let (pusher, server) = (world.repository("pusher"), world.repository("server"));
            let [one, two] = world.two_commits(&pusher).await;
            server.create().await.unwrap();
            let (expected, limits) = (ExpectedPushes::default(), IngestLimits::default());
            expect(&expected, &server).await;
            let first = Quarantine::open(&server).await.unwrap();
            let pack = spool(&world, &pusher, &format!("{one}\n")).await;
            first.ingest(None, pack, &limits).await.unwrap();
            first.migrate().await.unwrap();
            let thin = spool(&world, &pusher, &format!("{two}\n^{one}\n")).await;

            let Ready { quarantine, index_pack } = expected.take(&server).await.unwrap();
            quarantine.ingest(Some(index_pack), thin, &limits).await.unwrap();
            quarantine.migrate().await.unwrap();

            assert_eq!(server.object_kinds(&[one, two]).await.unwrap().len(), 2);
            assert_eq!(world.quarantine_entries(), 0);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_any_more_is_not() {
        let world = World::new().await;
        let (server, other) = (world.repository("server"), world.repository("other"));
        let expected = ExpectedPushes::default();

        expect(&expected, &server).await;
        assert!(expected.take(&other).await.is_none());
        server.create().await.unwrap();
        assert!(expected.take(&server).await.is_none(), "it looks for no objects there");

        expect(&expected, &server).await;
        let killed = Ready {
            index_pack: world.store.git().invoke("version").spawn(Stdio::null()).unwrap(),
            ..expected.take(&server).await.unwrap()
        };
        expected.lock().push(killed);
        let is_gone = async { while expected.lock()[0].index_pack.is_running() {} };
        is_gone.await;
        assert!(expected.take(&server).await.is_none(), "it has ended");
        assert_eq!(world.quarantine_entries(), 0);
    }

    #[tokio::test]
    async fn not_more_wait_than_may() {
        let world = World::new().await;
        let expected = ExpectedPushes::default();
        for number in 0..READY_MAX {
            expect(&expected, &world.repository(&number.to_string())).await;
        }

        let one_more = world.repository("more");
        expected.expect(&one_more, &IngestLimits::default()).await.unwrap();

        assert_eq!(world.quarantine_entries(), READY_MAX);
        assert!(expected.take(&one_more).await.is_none());
    }
}
