//! Pushes that are about to come: a client that has asked for the refs to push is packing now, and meanwhile the git
//! process that will check the pack starts. Then a small push does not wait for that start, which is a good part of its
//! cost.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared::nip34::Coordinate;
use tokio::task::JoinHandle;

use crate::logged::logged;
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

impl Ready {
    async fn make(repository: Repository, limits: IngestLimits) -> Result<Self, IngestError> {
        let quarantine = Quarantine::open(&repository).await?;
        let index_pack = quarantine.index_small_pack(&limits).spawn(Stdio::piped())?;
        Ok(Self { quarantine, index_pack })
    }
}

/// The preparations for expected pushes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ExpectedPushes {
    expected: Arc<Mutex<Vec<ExpectedPush>>>,
}

/// An expected push, and the preparation for it. A push that arrives sooner waits for the preparation, which is faster
/// than to begin again.
#[derive(Debug)]
struct ExpectedPush {
    coordinate: Coordinate,
    ready: JoinHandle<Result<Ready, IngestError>>,
}

impl ExpectedPushes {
    /// Starts a git for a push into `repository`, unless enough wait already, and ends it if no push comes.
    pub(super) async fn expect(&self, repository: &Repository, limits: &IngestLimits) {
        let id = {
            let mut expected = self.expected.lock();
            if expected.len() >= READY_MAX {
                return;
            }
            let ready = tokio::spawn(Ready::make(repository.clone(), *limits));
            let id = ready.id();
            let coordinate = repository.coordinate().clone();
            expected.push(ExpectedPush { coordinate, ready });
            id
        };
        tokio::time::sleep(EXPECTED_FOR).await;
        let unused: Vec<ExpectedPush> = self
            .expected
            .lock()
            .extract_if(.., |expected| expected.ready.id() == id)
            .collect();
        drop(unused);
    }

    /// Takes the preparation for a push into `repository`, if it can be used.
    pub(super) async fn take(&self, repository: &Repository) -> Option<Ready> {
        let is_meant = |expected: &mut ExpectedPush| expected.coordinate == *repository.coordinate();
        let expected = self.expected.lock().extract_if(.., is_meant).next()?;
        let mut taken = match expected.ready.await.ok()? {
            Ok(ready) => ready,
            Err(error) => {
                tracing::debug!(repo.coordinate = %repository.coordinate(), error = logged(&error), "was not ready for a push");
                return None;
            }
        };
        // It knows the objects of the repository only if there was one when it was started.
        let (was_here, object_dir) = (!taken.quarantine.alternates().is_empty(), repository.object_dir());
        let is_here = in_background(move || object_dir.is_dir()).await;
        (was_here == is_here && taken.index_pack.is_running()).then_some(taken)
    }
}

/// Most preparations at a time, for all clients: each is a process of a few MiB.
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
        let before = expected.expected.lock().len();
        let (limits, others) = (IngestLimits::default(), expected.clone());
        let repository = repository.clone();
        tokio::spawn(async move { others.expect(&repository, &limits).await });
        let is_expected = async {
            while expected.expected.lock().len() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_expected)
            .await
            .unwrap();
    }

    /// Waits until everything is ready.
    async fn all_ready(expected: &ExpectedPushes) {
        let are_ready = async {
            while !expected.expected.lock().iter().all(|one| one.ready.is_finished()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), are_ready).await.unwrap();
    }

    /// Two git processes were started for a push that came while the first one was.
    #[tokio::test]
    async fn a_push_that_comes_at_once_waits_for_what_is_made_ready() {
        let world = World::new().await;
        let (server, expected) = (world.repository("server"), ExpectedPushes::default());

        expect(&expected, &server).await;

        assert!(expected.take(&server).await.is_some());
    }

    #[tokio::test]
    async fn a_git_that_waits_sees_what_came_into_the_repository_since() {
        for world in World::of_every_git().await {
            let (pusher, server) = (world.repository("pusher"), world.repository("server"));
            let [one, two] = world.two_commits(&pusher).await;
            server.create().await.unwrap();
            let (expected, limits) = (ExpectedPushes::default(), IngestLimits::default());
            expect(&expected, &server).await;
            all_ready(&expected).await;
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
        all_ready(&expected).await;
        server.create().await.unwrap();
        assert!(expected.take(&server).await.is_none(), "it looks for no objects there");

        expect(&expected, &server).await;
        let mut killed = Ready {
            index_pack: world.store.git().invoke("version").spawn(Stdio::null()).unwrap(),
            ..expected.take(&server).await.unwrap()
        };
        while killed.index_pack.is_running() {
            tokio::task::yield_now().await;
        }
        expected.expected.lock().push(ExpectedPush {
            coordinate: server.coordinate().clone(),
            ready: tokio::spawn(async { Ok(killed) }),
        });
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
        expected.expect(&one_more, &IngestLimits::default()).await;
        all_ready(&expected).await;

        assert_eq!(world.quarantine_entries(), READY_MAX);
        assert!(expected.take(&one_more).await.is_none());
    }
}
