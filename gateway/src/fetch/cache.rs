//! Loads that many readers share: a request for something that is being loaded, or was loaded a moment ago, waits for
//! that load or gets its result at once (docs/ARCHITECTURE.md rule 9).
//!
//! No result is given to a request that came after a change that this gateway has made or seen, nor more than
//! [`AGE_MAX`] after the load had begun.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use quick_cache::OptionsBuilder;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use quick_cache::sync::DefaultLifecycle;
use shared::live::Live;
use shared::nip34::Coordinate;
use shared::rules::Access;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::fetch::askers::Askers;
use crate::repositories::changes::Changes;

/// What a load returns, and others may have.
pub(crate) trait Shareable: Send + Sync + 'static {
    fn audience(&self) -> Audience;
    /// How many bytes of memory it takes. A caller that makes it larger calls `weigh` again.
    fn bytes(&self) -> u64;
    /// What of it the next load may use: kept until that ends, beside whatever is kept.
    fn remains(this: &Arc<Self>) -> Option<Arc<Self>> {
        Some(Arc::clone(this))
    }
}

/// Who may have the result of a load, in addition to the request that began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// All requests, until it is too old.
    Everybody,
    /// All requests that were made before it failed.
    Waiting,
    /// Requests that were made before it began: a missing repository may have been published since, and its author got
    /// an answer.
    Earlier,
}

pub(crate) struct ReadCache<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    kept: Cache<Coordinate, Kept<T>, KeptBytes>,
    /// Held while it is decided who loads.
    beginning: Mutex<()>,
    changes: Changes,
    bytes_max: Live<u64>,
    is_swept: AtomicBool,
}

/// A load that runs, or has ended.
struct Load<T> {
    begun: Instant,
    /// The changes that were counted when it began.
    changes: u64,
    access: Arc<Access>,
    /// What the one before it returned.
    before: Mutex<Option<Arc<T>>>,
    askers: Arc<Askers>,
    result: OnceCell<Arc<T>>,
}

struct Kept<T> {
    load: Arc<Load<T>>,
    bytes: u64,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self {
            load: Arc::clone(&self.load),
            bytes: self.bytes,
        }
    }
}

#[derive(Debug, Clone)]
struct KeptBytes;

impl<T> Weighter<Coordinate, Kept<T>> for KeptBytes {
    fn weight(&self, coordinate: &Coordinate, kept: &Kept<T>) -> u64 {
        kept.bytes + LOAD_BYTES + coordinate.identifier.as_str().len() as u64
    }
}

impl<T: Shareable> ReadCache<T> {
    /// Keeps results of at most so many bytes in all, and of one repository at most three quarters of them, for as
    /// long as `changes` has counted no change.
    pub(crate) fn new(changes: Changes, bytes_max: u64) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(LOADS_EXPECTED)
            .weight_capacity(bytes_max)
            // Each has its part of the bytes, and a result has to fit into one.
            .shards(1)
            .build()
            .expect("both capacities are given");
        let kept = Cache::with_options(
            options,
            KeptBytes,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        Self {
            inner: Arc::new(Inner {
                kept,
                beginning: Mutex::new(()),
                changes,
                bytes_max: Live::new(bytes_max),
                is_swept: AtomicBool::new(false),
            }),
        }
    }

    /// Changes how many bytes are kept in all.
    pub(crate) fn set_bytes_max(&self, bytes_max: u64) {
        self.inner.bytes_max.set(bytes_max);
        self.inner.kept.set_capacity(bytes_max);
    }

    /// Returns what `load` returns about a repository to a client at `asker`, or has returned to somebody else. `load`
    /// is given what the load before it has returned, and who waits for it.
    pub(crate) async fn get<F>(
        &self,
        coordinate: &Coordinate,
        access: &Arc<Access>,
        asker: IpAddr,
        load: impl Fn(Option<Arc<T>>, Arc<Askers>) -> F,
    ) -> Arc<T>
    where
        F: Future<Output = T> + Send,
    {
        let came = Instant::now();
        loop {
            let current = self.inner.current(coordinate, access, (asker, came));
            if !current.result.initialized() {
                current.askers.add(asker);
            }
            let result = current.result.get_or_init(async || {
                // A client may break off meanwhile: then the next load needs it, too.
                let before = current.before.lock().clone();
                let result = Arc::new(load(before, Arc::clone(&current.askers)).await);
                drop(current.before.lock().take());
                self.keep(coordinate, &current, &result);
                result
            });
            let result = Arc::clone(result.await);
            if result.audience() != Audience::Earlier || current.begun >= came {
                return result;
            }
        }
    }

    /// Returns what a reader would be given now without a load.
    pub(crate) fn peek(&self, coordinate: &Coordinate, access: &Arc<Access>) -> Option<Arc<T>> {
        let kept = self.inner.kept.get(coordinate)?;
        let holds = self.inner.holds(&kept.load, coordinate, access, Instant::now());
        let result = kept.load.result.get().filter(|_| holds)?;
        (result.audience() == Audience::Everybody).then(|| Arc::clone(result))
    }

    /// Counts the bytes of a result again, which has come to keep more.
    pub(crate) fn weigh(&self, coordinate: &Coordinate, result: &Arc<T>) {
        let is_own = |kept: &Kept<T>| kept.load.result.get().is_some_and(|own| Arc::ptr_eq(own, result));
        let has_grown = |kept: &Kept<T>| kept.bytes != result.bytes();
        let kept = self.inner.kept.peek(coordinate);
        if let Some(kept) = kept.filter(is_own).filter(has_grown) {
            self.keep(coordinate, &kept.load, result);
        }
    }

    /// Keeps a result for others, unless it is too large.
    fn keep(&self, coordinate: &Coordinate, load: &Arc<Load<T>>, result: &Arc<T>) {
        let inner = &self.inner;
        let bytes = result.bytes();
        let is_own = |kept: &Kept<T>| Arc::ptr_eq(&kept.load, load);
        if bytes > bytes_each_max(inner.bytes_max.get()) {
            inner.kept.remove_if(coordinate, is_own);
        } else if inner.kept.peek(coordinate).is_none_or(|kept| is_own(&kept)) {
            let load = Arc::clone(load);
            inner.kept.insert(coordinate.clone(), Kept { load, bytes });
        }
        if !inner.is_swept.swap(true, Ordering::SeqCst) {
            tokio::spawn(sweep(Arc::downgrade(inner)));
        }
    }
}

impl<T: Shareable> Inner<T> {
    /// Returns the load whose result a request of `asker` may have that came at `came`; it may have to be begun.
    fn current(&self, coordinate: &Coordinate, access: &Arc<Access>, (asker, came): (IpAddr, Instant)) -> Arc<Load<T>> {
        let find = || self.kept.get(coordinate);
        let holds = |kept: &Kept<T>| self.holds(&kept.load, coordinate, access, came);
        if let Some(kept) = find().filter(&holds) {
            return kept.load;
        }
        let _beginning = self.beginning.lock();
        let found = find();
        if let Some(kept) = found.as_ref().filter(|kept| holds(kept)) {
            return Arc::clone(&kept.load);
        }
        let bytes = found.as_ref().map_or(0, |kept| kept.bytes);
        let load = Arc::new(Load {
            begun: Instant::now(),
            changes: self.changes.count(coordinate),
            access: Arc::clone(access),
            before: Mutex::new(found.and_then(|kept| kept.load.result.get().and_then(T::remains))),
            askers: Arc::new(Askers::new(asker)),
            result: OnceCell::new(),
        });
        let kept = Kept {
            load: Arc::clone(&load),
            // Of what the load before it returned.
            bytes,
        };
        self.kept.insert(coordinate.clone(), kept);
        load
    }

    /// Whether the result of a load may be given to a request that came at `came`. One that nobody else may have holds
    /// only for those that came before it had begun.
    fn holds(&self, load: &Load<T>, coordinate: &Coordinate, access: &Arc<Access>, came: Instant) -> bool {
        let audience = load.result.get().map(|result| result.audience());
        let is_for_it = match audience {
            None | Some(Audience::Everybody) => true,
            Some(Audience::Waiting | Audience::Earlier) => load.begun >= came,
        };
        is_for_it
            && came.saturating_duration_since(load.begun) <= AGE_MAX
            && load.changes == self.changes.count(coordinate)
            && Arc::ptr_eq(&load.access, access)
    }
}

/// Removes results that were not used again, until none is left.
async fn sweep<T: Shareable>(inner: Weak<Inner<T>>) {
    loop {
        tokio::time::sleep(FORGOTTEN_AFTER).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.kept.retain(|_, kept| kept.load.begun.elapsed() < FORGOTTEN_AFTER);
        if inner.kept.is_empty() {
            inner.is_swept.store(false, Ordering::SeqCst);
            // Something may have come in between.
            if inner.kept.is_empty() || inner.is_swept.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// Returns how many of all bytes one repository may have: so the others have a quarter. What takes more is loaded for
/// each request.
pub(super) fn bytes_each_max(bytes_max: u64) -> u64 {
    bytes_max / 4 * 3
}

/// How old what readers are given may be (docs/ARCHITECTURE.md rule 9).
const AGE_MAX: Duration = Duration::from_secs(1);

/// For how long a result stays that is not asked for again. The next load of the repository may use parts of it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// Of one load, in addition to its result and its name.
const LOAD_BYTES: u64 = 512;

/// Loads of five busy seconds; more are no error.
const LOADS_EXPECTED: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::repositories::testing::coordinate;

    /// What a load of these tests returns: which load it was, for whom, and how large it is.
    #[derive(Debug)]
    struct Numbered(usize, Audience, AtomicU64);

    impl Shareable for Numbered {
        fn audience(&self) -> Audience {
            self.1
        }

        fn bytes(&self) -> u64 {
            self.2.load(Ordering::SeqCst)
        }
    }

    /// A cache whose loads are counted, and end when they are let.
    struct CountedLoads {
        cache: ReadCache<Numbered>,
        changes: Changes,
        access: Arc<Access>,
        begun: AtomicUsize,
        let_end: Semaphore,
        audience: Audience,
    }

    impl CountedLoads {
        fn new(audience: Audience, let_end: usize) -> Self {
            let changes = Changes::new();
            Self {
                cache: ReadCache::new(changes.clone(), 100 << 10),
                changes,
                access: Arc::default(),
                begun: AtomicUsize::new(0),
                let_end: Semaphore::new(let_end),
                audience,
            }
        }

        async fn get(&self, name: &str) -> usize {
            self.load_sized(name, 1000).await
        }

        async fn load_sized(&self, name: &str, bytes: u64) -> usize {
            let load = async |_, _| {
                let number = self.begun.fetch_add(1, Ordering::SeqCst);
                self.let_end.acquire().await.unwrap().forget();
                Numbered(number, self.audience, bytes.into())
            };
            let coordinate = coordinate(name);
            let result = self.cache.get(&coordinate, &self.access, ASKER, load);
            result.await.0
        }

        fn peek(&self, name: &str) -> Option<usize> {
            let found = self.cache.peek(&coordinate(name), &self.access);
            found.map(|result| result.0)
        }
    }

    const MANY: usize = 1000;

    const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn many_readers_of_one_repository_cost_one_load() {
        let counted = CountedLoads::new(Audience::Everybody, 0);
        let readers = join_all((0..100).map(|_| counted.get("r")));
        let others = counted.get("other");
        tokio::pin!(readers, others);
        assert!(readers.as_mut().now_or_never().is_none());
        assert!(others.as_mut().now_or_never().is_none());

        counted.let_end.add_permits(MANY);

        assert_eq!(readers.await, [0; 100]);
        assert_eq!(others.await, 1);
        assert_eq!((counted.get("r").await, counted.peek("r")), (0, Some(0)));
    }

    #[tokio::test]
    async fn a_reader_that_goes_takes_no_load_from_the_others() {
        let counted = CountedLoads::new(Audience::Everybody, 0);
        let mut first = Box::pin(counted.get("r"));
        let mut second = Box::pin(counted.get("r"));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());

        drop(first);
        counted.let_end.add_permits(MANY);

        assert_eq!(second.await, 1);
    }

    /// A client that broke off had every answer made again, which the next load would have found unchanged.
    #[tokio::test]
    async fn a_reader_that_goes_takes_the_result_before_from_nobody() {
        let counted = CountedLoads::new(Audience::Everybody, 1);
        assert_eq!(counted.get("r").await, 0);
        counted.changes.note(&coordinate("r"));
        let mut first = Box::pin(counted.get("r"));
        assert!(first.as_mut().now_or_never().is_none());
        drop(first);

        let load = async |before: Option<Arc<Numbered>>, _| {
            let before = before.map_or(MANY, |before| before.0);
            Numbered(before, Audience::Everybody, 1000.into())
        };
        let given = counted
            .cache
            .get(&coordinate("r"), &counted.access, ASKER, load)
            .await
            .0;

        assert_eq!(given, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_given_that_was_read_a_second_before() {
        let counted = CountedLoads::new(Audience::Everybody, MANY);
        assert_eq!(counted.get("r").await, 0);

        tokio::time::advance(AGE_MAX).await;
        assert_eq!((counted.get("r").await, counted.peek("r")), (0, Some(0)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(counted.peek("r"), None);
        assert_eq!(counted.get("r").await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_takes_long_is_joined_for_a_second_only() {
        let counted = CountedLoads::new(Audience::Everybody, 0);
        let mut early = Box::pin(counted.get("r"));
        assert!(early.as_mut().now_or_never().is_none());
        tokio::time::advance(AGE_MAX + Duration::from_millis(1)).await;
        let mut late = Box::pin(counted.get("r"));
        assert!(late.as_mut().now_or_never().is_none());

        counted.let_end.add_permits(MANY);

        assert_eq!((early.await, late.await), (0, 1));
    }

    #[tokio::test]
    async fn after_a_change_everybody_reads_anew_and_what_was_loading_is_for_those_before_it() {
        let counted = CountedLoads::new(Audience::Everybody, 1);
        let changing = [coordinate("r")].into();
        assert_eq!(counted.get("r").await, 0);
        drop(counted.changes.making(changing));
        assert_eq!(counted.peek("r"), None);

        let mut before = Box::pin(counted.get("r"));
        assert!(before.as_mut().now_or_never().is_none());
        counted.changes.note(&coordinate("r"));
        let mut after = Box::pin(counted.get("r"));
        assert!(after.as_mut().now_or_never().is_none());
        counted.let_end.add_permits(MANY);

        assert_eq!((after.await, before.await), (2, 1));
        // The one that ended last is not the newest.
        assert_ne!(counted.get("r").await, 1);
    }

    #[tokio::test]
    async fn other_lists_of_the_operator_end_what_was_read_by_the_former() {
        let mut counted = CountedLoads::new(Audience::Everybody, MANY);
        assert_eq!(counted.get("r").await, 0);

        counted.access = Arc::default();

        assert_eq!(counted.peek("r"), None);
        assert_eq!(counted.get("r").await, 1);
    }

    #[tokio::test]
    async fn a_failure_is_for_those_that_wait_for_it() {
        let counted = CountedLoads::new(Audience::Waiting, 0);
        let mut readers = Box::pin(join_all((0..100).map(|_| counted.get("r"))));
        assert!(readers.as_mut().now_or_never().is_none());
        counted.let_end.add_permits(MANY);
        assert_eq!(readers.await, [0; 100]);

        assert_eq!(counted.peek("r"), None);
        assert_eq!(counted.get("r").await, 1);
    }

    /// An author hears that an announcement is held, and asks for the repository while another's load runs that had
    /// begun before.
    #[tokio::test]
    async fn what_is_absent_is_believed_by_those_who_asked_before_the_load_began() {
        let counted = CountedLoads::new(Audience::Earlier, 0);
        let mut first = Box::pin(counted.get("r"));
        assert!(first.as_mut().now_or_never().is_none());
        let mut later = Box::pin(join_all((0..100).map(|_| counted.get("r"))));
        assert!(later.as_mut().now_or_never().is_none());

        counted.let_end.add_permits(MANY);

        assert_eq!(first.await, 0);
        // One load more, for all of them.
        assert_eq!(later.await, [1; 100]);
    }

    #[tokio::test]
    async fn only_what_is_kept_is_weighed_again() {
        let counted = CountedLoads::new(Audience::Everybody, MANY);
        counted.get("r").await;
        let before = counted.cache.inner.kept.weight();
        let own = counted.cache.peek(&coordinate("r"), &counted.access).unwrap();
        let another = Arc::new(Numbered(7, Audience::Everybody, 5000.into()));

        own.2.fetch_add(4000, Ordering::SeqCst);
        counted.cache.weigh(&coordinate("r"), &own);
        counted.cache.weigh(&coordinate("r"), &another);

        assert_eq!(
            (counted.cache.inner.kept.weight(), counted.peek("r")),
            (before + 4000, Some(0))
        );
        // A result that has become too large is dropped.
        own.2.store(200 << 10, Ordering::SeqCst);
        counted.cache.weigh(&coordinate("r"), &own);
        assert_eq!((counted.cache.inner.kept.weight(), counted.peek("r")), (0, None));
    }

    #[tokio::test]
    async fn the_largest_that_is_kept_leaves_room_for_others() {
        let counted = CountedLoads::new(Audience::Everybody, MANY);
        let small = ["a", "b", "c"];
        for _ in 0..3 {
            for name in small {
                counted.get(name).await;
            }
        }

        let large = counted.load_sized("large", 75 << 10).await;

        assert_eq!(counted.peek("large"), Some(large));
        assert_eq!(small.map(|name| counted.peek(name)), [Some(0), Some(1), Some(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_has_a_bound_in_bytes_and_an_end() {
        let counted = CountedLoads::new(Audience::Everybody, usize::MAX >> 4);
        for number in 0..1000 {
            counted.load_sized(&format!("r{number}"), 1 << 10).await;
            assert!(counted.cache.inner.kept.weight() <= 100 << 10);
        }
        let few = counted.cache.inner.kept.len();
        assert!((20..=100).contains(&few), "{few}");
        for too_large in [76 << 10, 101 << 10] {
            counted.load_sized("large", too_large).await;
            assert_eq!(counted.peek("large"), None);
        }

        tokio::time::sleep(2 * FORGOTTEN_AFTER + Duration::from_secs(1)).await;

        assert_eq!(counted.cache.inner.kept.len(), 0);
        assert!(!counted.cache.inner.is_swept.load(Ordering::SeqCst));
    }
}
