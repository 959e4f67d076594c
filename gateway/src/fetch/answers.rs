//! Answers that several clients get: one that is being written for somebody goes to all who ask the same meanwhile, and
//! one that was asked for twice stays on disk for the next ones. A file without a name holds each, so that nothing is
//! left of it when it gives way, or when the gateway dies.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use bitcoin_hashes::sha256;
use quick_cache::sync::Cache;
use tokio::sync::watch;

use crate::fairness::shares::Claim;
use crate::fetch::answer_key::AnswerKey;
use crate::fetch::room::AnswerDisk;
use crate::fetch::room::AnswerRoom;
use crate::fetch::room::Evict;
use crate::fetch::room::GivesWay;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::Payer;
use crate::fetch::spool::SpoolReader;
use crate::meter::Meter;

/// The answers of one gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct AnswerCache {
    known: Arc<KnownAnswers>,
    disk: Arc<AnswerDisk>,
    /// What was asked for lately.
    asked: Arc<Cache<sha256::Hash, Asked>>,
    /// Held while it is decided who lets git answer.
    beginning: Arc<Mutex<()>>,
    begun: watch::Sender<()>,
    /// Where answers came from, in the order of [`ANSWER_SOURCES`].
    sources: Meter<{ ANSWER_SOURCES.len() }>,
}

/// Where answers to clones come from: git, one that git was writing for somebody, or one that was kept.
pub(crate) const ANSWER_SOURCES: [&str; 3] = ["git", "shared", "kept"];

/// How much answers are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerLoad {
    /// In the order of [`ANSWER_SOURCES`].
    pub(crate) sources: [u64; ANSWER_SOURCES.len()],
    /// How much of the disk those take that are shared or kept.
    pub(crate) bytes: u64,
}

/// An answer that git has to write, unless somebody has begun it already.
pub(super) enum Begun {
    /// This is it.
    Already(SpoolReader),
    /// It is to be written here.
    Now(SpoolReader),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The next one who asks has it kept.
    Once,
    /// It is larger than what one repository may have here.
    TooLarge,
}

#[derive(Debug, Default)]
struct KnownAnswers(Mutex<HashMap<AnswerKey, KnownAnswer>>);

#[derive(Debug)]
struct KnownAnswer {
    spool: Weak<FetchSpool>,
    /// The same, once it stays when nobody reads it.
    kept: Option<Arc<FetchSpool>>,
    used: Instant,
}

impl AnswerCache {
    /// Keeps answers of at most so many bytes on disk.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            known: Arc::default(),
            disk: AnswerDisk::new(bytes_max),
            asked: Arc::new(Cache::new(ASKED_MAX)),
            beginning: Arc::default(),
            begun: watch::Sender::new(()),
            sources: Meter::default(),
        }
    }

    /// Tells when an answer is begun.
    pub(super) fn begun(&self) -> watch::Receiver<()> {
        self.begun.subscribe()
    }

    /// Returns the answer if it is here, or being written.
    pub(super) fn find(&self, key: &AnswerKey) -> Option<SpoolReader> {
        let spool = {
            let mut known = self.known.lock();
            let answer = known.get_mut(key)?;
            answer.used = Instant::now();
            answer.spool.upgrade()?
        };
        let source = if spool.is_ended() { 2 } else { 1 };
        let reader = spool.share(self.room(key))?;
        self.sources.add(source, 1);
        Some(reader)
    }

    /// Begins an answer in a spool that `make` makes, for a fetch with this claim. The second time it is to stay.
    pub(super) fn begin(&self, key: &AnswerKey, claim: &Arc<Claim>, make: impl FnOnce(Payer) -> SpoolReader) -> Begun {
        let _beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = self.find(key) {
            return Begun::Already(reader);
        }
        self.sources.add(0, 1);
        let asked = self.asked.get(&key.digest);
        let room = (asked == Some(Asked::Once)).then(|| self.room(key));
        let reader = make(Payer {
            room,
            ..Payer::of_fetch(claim)
        });
        if asked != Some(Asked::TooLarge) && self.disk.per_repository_max() > 0 {
            self.asked.insert(key.digest, Asked::Once);
            self.known.add(key, reader.spool());
            self.begun.send_replace(());
        }
        Begun::Now(reader)
    }

    /// Keeps an answer that is whole, if it is asked for again and again.
    pub(super) async fn keep(&self, key: &AnswerKey, spool: &Arc<FetchSpool>) {
        if spool.settle().await {
            self.known.keep(key, spool);
        } else if spool.len() > self.disk.per_repository_max() {
            self.asked.insert(key.digest, Asked::TooLarge);
        }
    }

    /// Gives an answer to nobody else.
    pub(super) fn forget(&self, key: &AnswerKey, spool: &Arc<FetchSpool>) {
        let mut known = self.known.lock();
        if known.get(key).is_some_and(|answer| answer.is(spool)) {
            known.remove(key);
        }
    }

    /// Forgets what is kept, for the disk has to be free for something else.
    pub(super) fn give_way(&self) {
        self.known.lock().retain(|_, answer| answer.kept.is_none());
    }

    /// Returns how much is shared.
    pub(super) fn load(&self) -> AnswerLoad {
        AnswerLoad {
            sources: self.sources.counts(),
            bytes: self.disk.bytes(),
        }
    }

    fn room(&self, key: &AnswerKey) -> AnswerRoom {
        let known: Weak<KnownAnswers> = Arc::downgrade(&self.known);
        AnswerRoom::new(&self.disk, known, &key.repository)
    }
}

impl KnownAnswers {
    fn lock(&self) -> MutexGuard<'_, HashMap<AnswerKey, KnownAnswer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an answer that is begun, and removes what nobody reads or asks for any more.
    fn add(&self, key: &AnswerKey, spool: &Arc<FetchSpool>) {
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|_, answer| match &answer.kept {
            Some(_) => now.saturating_duration_since(answer.used) < UNUSED_MAX,
            None => answer.spool.strong_count() > 0,
        });
        let answer = KnownAnswer {
            spool: Arc::downgrade(spool),
            kept: None,
            used: now,
        };
        known.insert(key.clone(), answer);
    }

    fn keep(&self, key: &AnswerKey, spool: &Arc<FetchSpool>) {
        let mut known = self.lock();
        if known.values().filter(|answer| answer.kept.is_some()).count() >= KEPT_MAX
            && !evict_from(&mut known, |_| true)
        {
            return;
        }
        if let Some(answer) = known.get_mut(key).filter(|answer| answer.is(spool)) {
            answer.kept = Some(Arc::clone(spool));
        }
    }
}

impl Evict for KnownAnswers {
    fn evict(&self, repository: &Path, gives_way: GivesWay) -> bool {
        evict_from(&mut self.lock(), |key| match gives_way {
            GivesWay::Own => *key.repository == *repository,
            GivesWay::Any => true,
        })
    }
}

/// Removes the one that was not used longest, of those that nobody reads.
fn evict_from(known: &mut HashMap<AnswerKey, KnownAnswer>, may_go: impl Fn(&AnswerKey) -> bool) -> bool {
    let idle = known.iter().filter(|(key, answer)| answer.is_idle() && may_go(key));
    let oldest = idle.min_by_key(|(_, answer)| answer.used).map(|(key, _)| key.clone());
    oldest.and_then(|key| known.remove(&key)).is_some()
}

impl KnownAnswer {
    fn is(&self, spool: &Arc<FetchSpool>) -> bool {
        std::ptr::eq(self.spool.as_ptr(), Arc::as_ptr(spool))
    }

    /// Whether it only stays here. Readers are made under the lock.
    fn is_idle(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| Arc::strong_count(kept) == 1)
    }
}

/// Each is an open file.
pub(crate) const KEPT_MAX: usize = 256;

/// Of requests of which it is remembered that they were made: who asks for many things once does not push out what many
/// ask for.
const ASKED_MAX: usize = 4096;

/// What nobody has asked for in so long has no use, and its repository may be gone.
const UNUSED_MAX: Duration = Duration::from_secs(24 * 3600);
