//! The lock of a repository: its holder is the only one, in this process and in every other gateway on the same data
//! directory, that changes it (docs/ARCHITECTURE.md rule 4).
//!
//! A waiter for a lock occupies no thread and holds no other lock.

use std::collections::BTreeSet;
use std::fs::File;
use std::fs::TryLockError;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use shared::nip34::Coordinate;
use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::repositories::error::RepositoryError;
use crate::repositories::layout::FileError;
use crate::repositories::layout::Layout;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::layout::open_lock_file;

pub(super) struct Locks {
    layout: Layout,
    /// The waiters in this process, in order of arrival; at most one for each lock file.
    in_process: DashMap<u16, Arc<Mutex<()>>>,
    /// The waiters of [`LockQueue::Strangers`]: only the first of them also waits in `in_process`.
    strangers: DashMap<u16, Arc<Mutex<()>>>,
    wait_max: Duration,
}

/// In which queue a piece of work waits for the lock of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockQueue {
    /// For the repository's owners, or for the server itself.
    Owners,
    /// For who offers something to it: however many there are, an owner waits for two of them at most.
    Strangers,
}

/// Some repositories, locked until it is dropped.
#[must_use = "dropping it at once locks nothing"]
pub(super) struct Locked {
    coordinates: BTreeSet<Coordinate>,
    numbers: BTreeSet<u16>,
    locks: Vec<HeldLock>,
}

struct HeldLock {
    // Dropped in this order: the file first, so that nobody in this process waits on a file.
    _file: File,
    _in_process: OwnedMutexGuard<()>,
}

impl Locked {
    pub(super) fn coordinates(&self) -> &BTreeSet<Coordinate> {
        &self.coordinates
    }
}

impl Locks {
    /// Keeps lock files in the directory that `layout` gives.
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            in_process: DashMap::new(),
            strangers: DashMap::new(),
            wait_max: WAIT_MAX,
        }
    }

    /// Waits for the locks of all these coordinates.
    ///
    /// # Errors
    /// A lock file cannot be created or locked, or others hold one for too long.
    pub(super) async fn lock(
        &self,
        coordinates: BTreeSet<Coordinate>,
        queue: LockQueue,
    ) -> Result<Locked, RepositoryError> {
        self.lock_within(self.wait_max, coordinates, queue).await
    }

    /// As [`Locks::lock`], but waits only a moment: as long as some pushes have them, and not for long work.
    pub(super) async fn lock_soon(
        &self,
        coordinates: BTreeSet<Coordinate>,
        queue: LockQueue,
    ) -> Result<Locked, RepositoryError> {
        self.lock_within(SOON, coordinates, queue).await
    }

    async fn lock_within(
        &self,
        wait_max: Duration,
        coordinates: BTreeSet<Coordinate>,
        queue: LockQueue,
    ) -> Result<Locked, RepositoryError> {
        let numbers = coordinates.iter().map(|coordinate| self.layout.lock_number(coordinate));
        let numbers: BTreeSet<u16> = numbers.collect();
        let locked = timeout(wait_max, async {
            let _queue = match (queue, numbers.first()) {
                (LockQueue::Strangers, Some(number)) => Some(mutex(&self.strangers, *number).lock_owned().await),
                (LockQueue::Owners | LockQueue::Strangers, _) => None,
            };
            self.lock_all(&numbers).await
        });
        let locked = locked.await;
        let locks = locked.map_err(|_| RepositoryError::Busy { waited: wait_max })??;
        Ok(Locked {
            coordinates,
            numbers,
            locks,
        })
    }

    /// Locks more repositories, if their locks are free now, and returns whether it did: a holder of locks waits for
    /// none.
    pub(super) async fn try_extend(
        &self,
        locked: &mut Locked,
        coordinates: &BTreeSet<Coordinate>,
    ) -> Result<bool, RepositoryError> {
        let numbers = coordinates.iter().map(|coordinate| self.layout.lock_number(coordinate));
        let numbers: BTreeSet<u16> = numbers.filter(|number| !locked.numbers.contains(number)).collect();
        let mut locks = Vec::new();
        for number in &numbers {
            match self.try_lock(*number).await? {
                Some(lock) => locks.push(lock),
                None => return Ok(false),
            }
        }
        locked.locks.extend(locks);
        locked.numbers.extend(numbers);
        locked.coordinates.extend(coordinates.iter().cloned());
        Ok(true)
    }

    /// Waits for one lock at a time, and tries the others: it holds no lock while it waits.
    async fn lock_all(&self, numbers: &BTreeSet<u16>) -> Result<Vec<HeldLock>, FileError> {
        let Some(mut waited_for) = numbers.first().copied() else {
            return Ok(Vec::new());
        };
        'all: loop {
            let mut locks = vec![self.wait(waited_for).await?];
            for number in numbers.iter().copied().filter(|number| *number != waited_for) {
                match self.try_lock(number).await? {
                    Some(lock) => locks.push(lock),
                    None => {
                        waited_for = number;
                        continue 'all;
                    }
                }
            }
            return Ok(locks);
        }
    }

    async fn wait(&self, number: u16) -> Result<HeldLock, FileError> {
        let in_process = mutex(&self.in_process, number).lock_owned().await;
        // Only another gateway can have it now.
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(file) = self.try_lock_file(number).await? {
                return Ok(HeldLock {
                    _file: file,
                    _in_process: in_process,
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_lock(&self, number: u16) -> Result<Option<HeldLock>, FileError> {
        let Ok(in_process) = mutex(&self.in_process, number).try_lock_owned() else {
            return Ok(None);
        };
        let file = self.try_lock_file(number).await?;
        Ok(file.map(|file| HeldLock {
            _file: file,
            _in_process: in_process,
        }))
    }

    async fn try_lock_file(&self, number: u16) -> Result<Option<File>, FileError> {
        let path = self.layout.lock_file(number);
        in_background(move || {
            let file = open_lock_file(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
            }
        })
        .await
    }
}

fn mutex(mutexes: &DashMap<u16, Arc<Mutex<()>>>, number: u16) -> Arc<Mutex<()>> {
    Arc::clone(&mutexes.entry(number).or_default())
}

/// For all locks of one piece of work. Longer than a reconcile takes. A copy of a large repository may take longer; a
/// request is not kept waiting for it: its client is asked to try again.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// For who tries again later: some pushes ahead of it hold the lock for some ten milliseconds each.
const SOON: Duration = Duration::from_millis(500);

/// Before another gateway is asked again: most hold a lock for a few milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Between two attempts: what a push may wait for another gateway for nothing.
const PAUSE_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn world() -> (tempfile::TempDir, [Locks; 2]) {
        let directory = tempfile::tempdir().unwrap();
        let gateways = [(); 2].map(|()| Locks::new(Layout::new(directory.path()).unwrap()));
        (directory, gateways)
    }

    /// Identifiers of as many locks.
    fn coordinates(locks: &Locks, count: usize) -> Vec<Coordinate> {
        let mut numbers = BTreeSet::new();
        (0..)
            .map(|n| format!("30617:{}:r{n}", "11".repeat(32)).parse::<Coordinate>().unwrap())
            .filter(|coordinate| numbers.insert(locks.layout.lock_number(coordinate)))
            .take(count)
            .collect()
    }

    fn set(coordinates: &[Coordinate]) -> BTreeSet<Coordinate> {
        coordinates.iter().cloned().collect()
    }

    /// One of the few places of the worker was lost for 300 s.
    #[tokio::test]
    async fn who_can_come_back_does_not_wait_for_long_work() {
        let (_directory, gateways) = world();
        let one = coordinates(&gateways[0], 1);
        for queue in [LockQueue::Owners, LockQueue::Strangers] {
            for holder in &gateways {
                let held = holder.lock(set(&one), LockQueue::Owners).await.unwrap();
                let busy = gateways[0].lock_soon(set(&one), queue).await;
                assert!(matches!(busy, Err(RepositoryError::Busy { waited: SOON })));

                drop(held);
                drop(gateways[0].lock_soon(set(&one), queue).await.unwrap());
            }
        }
    }

    /// A PR to sixteen repositories held fifteen locks while it waited for the last.
    #[tokio::test]
    async fn who_waits_for_one_of_several_locks_holds_none() {
        let (_directory, gateways) = world();
        let all = coordinates(&gateways[0], 16);
        for holder in &gateways {
            for at in [0, 7, 15] {
                let held = holder.lock(set(&all[at..=at]), LockQueue::Owners).await.unwrap();
                let mut several = Box::pin(gateways[0].lock(set(&all), LockQueue::Owners));
                let waiting = async {
                    tokio::select! {
                        _ = &mut several => panic!("one of them is held"),
                        () = async {
                            for (other, coordinate) in all.iter().enumerate().filter(|(other, _)| *other != at) {
                                let locked = holder.lock([coordinate.clone()].into(), LockQueue::Owners).await;
                                assert!(locked.is_ok(), "{other}");
                            }
                        } => {}
                    }
                };
                timeout(Duration::from_secs(10), waiting).await.unwrap();

                drop(held);
                let locked = timeout(Duration::from_secs(10), several).await.unwrap();
                assert_eq!(locked.unwrap().coordinates().len(), 16);
            }
        }
    }

    /// Each that waited took a thread of 512, which everything on disk needs.
    #[test]
    fn who_waits_occupies_no_thread() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(1)
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_directory, [here, there]) = world();
            let names = coordinates(&here, 20);
            let held = there.lock(set(&names), LockQueue::Owners).await.unwrap();
            let mut waiting: Vec<_> = names
                .iter()
                .map(|name| Box::pin(here.lock([name.clone()].into(), LockQueue::Owners)))
                .collect();
            for waits in &mut waiting {
                assert!(waits.as_mut().now_or_never().is_none());
            }

            let read = timeout(Duration::from_secs(10), in_background(|| 1)).await;

            assert_eq!(read.unwrap(), 1);
            drop(held);
            for waits in waiting {
                drop(timeout(Duration::from_secs(10), waits).await.unwrap().unwrap());
            }
        });
    }

    /// Strangers' pushes into a repository, each of which has its lock for some milliseconds, kept its owner's out.
    #[tokio::test]
    async fn an_owner_waits_for_two_strangers_at_most() {
        let (_directory, [locks, _]) = world();
        let name = set(&coordinates(&locks, 1));
        let turns = std::sync::Mutex::new(Vec::new());
        let take = async |who: &'static str, queue| {
            let locked = locks.lock(name.clone(), queue).await.unwrap();
            turns.lock().unwrap().push(who);
            tokio::task::yield_now().await;
            drop(locked);
        };
        let mut strangers: Vec<_> = (0..9)
            .map(|_| Box::pin(take("stranger", LockQueue::Strangers)))
            .collect();
        // The first has the lock, and the others wait.
        while turns.lock().unwrap().is_empty() {
            for stranger in &mut strangers {
                assert!(stranger.as_mut().now_or_never().is_none());
            }
            tokio::task::yield_now().await;
        }

        let before = turns.lock().unwrap().len();
        let all = futures_util::future::join(
            take("owner", LockQueue::Owners),
            futures_util::future::join_all(strangers),
        );
        timeout(Duration::from_secs(10), all).await.unwrap();

        let turns = turns.into_inner().unwrap();
        assert_eq!(turns.len(), 10);
        assert!(turns[before..=before + 2].contains(&"owner"), "{before} {turns:?}");
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so() {
        let (_directory, [here, there]) = world();
        let brief = Locks {
            wait_max: Duration::from_millis(50),
            ..here
        };
        let name = coordinates(&brief, 1);
        let held = there.lock(set(&name), LockQueue::Owners).await.unwrap();

        let refused = brief.lock(set(&name), LockQueue::Owners).await.err().unwrap();

        assert!(matches!(refused, RepositoryError::Busy { .. }), "{refused}");
        drop(held);
        assert!(brief.lock(set(&name), LockQueue::Owners).await.is_ok());
    }

    #[tokio::test]
    async fn whoever_holds_a_lock_gets_more_only_if_all_of_them_are_free() {
        let (_directory, [here, there]) = world();
        let all = coordinates(&here, 4);
        let mut locked = here.lock(set(&all[..1]), LockQueue::Owners).await.unwrap();
        let held = there.lock(set(&all[2..3]), LockQueue::Owners).await.unwrap();

        assert!(!here.try_extend(&mut locked, &set(&all[1..3])).await.unwrap());
        assert_eq!(*locked.coordinates(), set(&all[..1]));
        assert!(
            there.lock(set(&all[1..2]), LockQueue::Owners).await.is_ok(),
            "what was got in vain is free again"
        );
        drop(held);
        assert!(here.try_extend(&mut locked, &set(&all[..3])).await.unwrap());

        assert_eq!(*locked.coordinates(), set(&all[..3]));
        assert!(there.lock(set(&all[2..3]), LockQueue::Owners).now_or_never().is_none());
    }

    #[tokio::test]
    async fn many_who_want_the_same_locks_all_get_them() {
        let (_directory, gateways) = world();
        let gateways = gateways.map(Arc::new);
        let all = coordinates(&gateways[0], 4);
        let mut tasks = tokio::task::JoinSet::new();
        for turn in 0..40 {
            let (locks, mut wanted) = (Arc::clone(&gateways[turn % 2]), all.clone());
            wanted.remove(turn % 4);
            tasks.spawn(async move { locks.lock(set(&wanted), LockQueue::Owners).await.map(drop) });
        }

        let done = timeout(Duration::from_secs(60), tasks.join_all()).await.unwrap();

        assert!(done.iter().all(Result::is_ok));
    }
}
