//! git's answers that are given to other clients too: complete ones that were requested twice. Each is in an unlinked
//! file. No client reads an answer that git is still writing; a request for the same may wait for its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin_hashes::sha256;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use shared::live::Live;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fetch::answer_key::AnswerKey;
use crate::fetch::spool_file::SpoolFile;
use crate::meter::Meter;
use crate::repositories::disk_use::Spare;
use crate::repositories::layout::in_background;

#[derive(Debug, Clone)]
pub(super) struct AnswerCache {
    known: Arc<Mutex<KnownAnswers>>,
    asked: Arc<Cache<sha256::Hash, AskedBefore>>,
    /// Notifies when an answer is kept, or is not written any more.
    news: watch::Sender<()>,
    bytes_max: Live<u64>,
    /// Where answers came from, in the order of [`ANSWER_SOURCES`].
    sources: Meter<{ ANSWER_SOURCES.len() }>,
}

/// Where answers to clones come from: git, or one that was kept.
pub(crate) const ANSWER_SOURCES: [&str; 2] = ["git", "kept"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerLoad {
    /// In the order of [`ANSWER_SOURCES`].
    pub(crate) sources: [u64; ANSWER_SOURCES.len()],
    /// How much of the disk those take that are kept.
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone)]
pub(super) struct WholeAnswer {
    pub(super) file: Arc<SpoolFile>,
    pub(super) len: u64,
}

pub(super) enum Sought {
    Kept(WholeAnswer),
    /// Somebody else's git writes it, or is about to.
    WrittenForAnother,
    /// To be written by the git process of this request.
    Nowhere(Writing),
}

/// An answer that somebody's git writes, or is about to, for which others may wait until this is dropped.
#[derive(Debug)]
pub(super) struct Writing {
    answers: AnswerCache,
    key: AnswerKey,
    /// Somebody else has asked for it.
    is_wanted: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskedBefore {
    /// The answer to the next request is kept.
    Once,
    /// It is larger than what one repository may have here.
    TooLarge,
}

#[derive(Debug, Default)]
struct KnownAnswers {
    kept: Vec<KeptAnswer>,
    /// With whether somebody else has asked for each.
    written: HashMap<AnswerKey, Arc<AtomicBool>>,
    is_swept: bool,
}

#[derive(Debug)]
struct KeptAnswer {
    key: AnswerKey,
    answer: WholeAnswer,
    made: Instant,
    used: Instant,
}

impl AnswerCache {
    /// Keeps answers of at most so many bytes on disk.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            known: Arc::default(),
            asked: Arc::new(Cache::new(ASKED_MAX)),
            news: watch::Sender::new(()),
            bytes_max: Live::new(bytes_max),
            sources: Meter::default(),
        }
    }

    /// Changes how many bytes they may have. Beyond that the next one to be kept drops others.
    pub(super) fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.set(bytes_max);
    }

    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub(super) fn seek(&self, key: &AnswerKey) -> Sought {
        let mut known = self.known.lock();
        if let Some(answer) = known.find(key) {
            self.sources.add(1, 1);
            return Sought::Kept(answer);
        }
        let is_too_large = self.asked.get(&key.digest) == Some(AskedBefore::TooLarge);
        match known.written.get(key).filter(|_| !is_too_large) {
            Some(is_wanted) => {
                is_wanted.store(true, Ordering::Relaxed);
                Sought::WrittenForAnother
            }
            None => Sought::Nowhere(self.begin_in(&mut known, key)),
        }
    }

    pub(super) fn find(&self, key: &AnswerKey) -> Option<WholeAnswer> {
        let answer = self.known.lock().find(key)?;
        self.sources.add(1, 1);
        Some(answer)
    }

    /// Begins an answer, in the place of one that somebody else's git is slow with.
    pub(super) fn begin(&self, key: &AnswerKey) -> Writing {
        self.begin_in(&mut self.known.lock(), key)
    }

    fn begin_in(&self, known: &mut KnownAnswers, key: &AnswerKey) -> Writing {
        let asked = self.asked.get(&key.digest);
        if asked.is_none() {
            self.asked.insert(key.digest, AskedBefore::Once);
        }
        let is_wanted = Arc::new(AtomicBool::new(asked == Some(AskedBefore::Once)));
        known.written.insert(key.clone(), Arc::clone(&is_wanted));
        Writing {
            answers: self.clone(),
            key: key.clone(),
            is_wanted,
        }
    }

    pub(super) fn count_git(&self) {
        self.sources.add(0, 1);
    }

    pub(super) fn note_len(&self, key: &AnswerKey, len: u64) {
        if len > self.per_repository_max() {
            self.asked.insert(key.digest, AskedBefore::TooLarge);
        }
    }

    pub(super) fn load(&self) -> AnswerLoad {
        AnswerLoad {
            sources: self.sources.counts(),
            bytes: self.known.lock().kept.iter().map(|kept| kept.answer.len).sum(),
        }
    }

    pub(super) fn per_repository_max(&self) -> u64 {
        self.bytes_max.get() / PARTS
    }
}

impl Spare for AnswerCache {
    fn give_way(&self) {
        // A file stays on disk until its readers are done.
        let gone: Vec<_> = self.known.lock().kept.extract_if(.., |kept| kept.is_idle()).collect();
        drop(gone);
    }
}

impl Writing {
    /// Whether it is to be kept if it has so many bytes.
    pub(super) fn is_kept_with(&self, bytes: u64) -> bool {
        self.is_wanted.load(Ordering::Relaxed) && bytes <= self.answers.per_repository_max()
    }

    /// Keeps the answer; others may have to be dropped for it.
    pub(super) async fn keep(self, answer: WholeAnswer) {
        let gone = {
            let mut known = self.answers.known.lock();
            let mut gone = known.take_old();
            let is_first = known.find(&self.key).is_none();
            if is_first && known.make_room(&self.key, answer.len, self.answers.bytes_max.get(), &mut gone) {
                if !std::mem::replace(&mut known.is_swept, true) {
                    tokio::spawn(sweep(Arc::downgrade(&self.answers.known)));
                }
                let now = Instant::now();
                let key = self.key.clone();
                known.kept.push(KeptAnswer {
                    key,
                    answer,
                    made: now,
                    used: now,
                });
            }
            gone
        };
        in_background(move || drop(gone)).await;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut known = self.answers.known.lock();
        let is_own = |is_wanted| Arc::ptr_eq(is_wanted, &self.is_wanted);
        if known.written.get(&self.key).is_some_and(is_own) {
            known.written.remove(&self.key);
        }
        drop(known);
        self.answers.news.send_replace(());
    }
}

impl KnownAnswers {
    fn find(&mut self, key: &AnswerKey) -> Option<WholeAnswer> {
        let found = self.kept.iter_mut().find(|kept| kept.key == *key && !kept.is_old())?;
        found.used = Instant::now();
        Some(found.answer.clone())
    }

    fn take_old(&mut self) -> Vec<KeptAnswer> {
        self.kept
            .extract_if(.., |kept| kept.is_old() && kept.is_idle())
            .collect()
    }

    /// Moves the least recently used answers that no client reads to `gone`, until there is room; `false`: there is
    /// none.
    fn make_room(&mut self, key: &AnswerKey, len: u64, bytes_max: u64, gone: &mut Vec<KeptAnswer>) -> bool {
        loop {
            let is_own = |kept: &KeptAnswer| kept.key.repository == key.repository;
            let bytes = |counts: &dyn Fn(&KeptAnswer) -> bool| {
                let counted = self.kept.iter().filter(|kept| counts(kept));
                counted.map(|kept| kept.answer.len).sum::<u64>().saturating_add(len)
            };
            let from_own = bytes(&is_own) > bytes_max / PARTS;
            if !from_own && bytes(&|_| true) <= bytes_max && self.kept.len() < KEPT_MAX {
                return true;
            }
            let places = self.kept.iter().enumerate();
            let may_go = places.filter(|(_, kept)| kept.is_idle() && (!from_own || is_own(kept)));
            let Some((place, _)) = may_go.min_by_key(|(_, kept)| kept.used) else {
                return false;
            };
            gone.push(self.kept.swap_remove(place));
        }
    }
}

impl KeptAnswer {
    /// Whether nobody gets it any more.
    fn is_old(&self) -> bool {
        self.made.elapsed() > AGE_MAX || self.answer.file.has_failed()
    }

    /// Whether it only stays here. Others come to have it under the lock.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.answer.file) == 1
    }
}

/// Removes old answers, until none is left.
async fn sweep(known: Weak<Mutex<KnownAnswers>>) {
    loop {
        tokio::time::sleep(SWEEP_PAUSE).await;
        let Some(known) = known.upgrade() else { return };
        let (gone, is_swept) = {
            let mut known = known.lock();
            let gone = known.take_old();
            known.is_swept = !known.kept.is_empty();
            (gone, known.is_swept)
        };
        in_background(move || drop(gone)).await;
        if !is_swept {
            return;
        }
    }
}

/// One repository has one of so many parts of the disk: who can fill it keeps room for others' answers.
const PARTS: u64 = 4;

/// Each is an open file.
pub(crate) const KEPT_MAX: usize = 256;

/// Requests that are remembered: a client that makes many different requests once does not push out popular ones.
const ASKED_MAX: usize = 4096;

/// Since git has written an answer: a fault in it lasts no longer, and its repository may be gone.
const AGE_MAX: Duration = Duration::from_secs(3600);

const SWEEP_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::layout::Layout;

    fn key(number: usize) -> AnswerKey {
        AnswerKey {
            repository: std::path::Path::new(if number.is_multiple_of(2) { "/a.git" } else { "/b.git" }).into(),
            digest: sha256::Hash::hash(&number.to_be_bytes()),
            tags: None,
        }
    }

    async fn answer(layout: &Layout, len: u64) -> WholeAnswer {
        let file = SpoolFile::make(layout).await.unwrap();
        WholeAnswer { file, len }
    }

    #[tokio::test]
    async fn who_asks_meanwhile_waits_and_has_it_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, answers) = (Layout::new(dir.path()).unwrap(), AnswerCache::new(100));
        let Sought::Nowhere(first) = answers.seek(&key(0)) else {
            panic!()
        };
        assert!(!first.is_kept_with(25));
        let mut news = answers.news();

        assert!(matches!(answers.seek(&key(0)), Sought::WrittenForAnother));
        assert!(first.is_kept_with(25) && !first.is_kept_with(26));
        let own = answers.begin(&key(0));
        first.keep(answer(&layout, 25).await).await;

        news.changed().await.unwrap();
        assert!(matches!(answers.seek(&key(0)), Sought::Kept(_)));
        own.keep(answer(&layout, 20).await).await;
        assert_eq!(answers.load().bytes, 25, "one of two");
        assert!(matches!(answers.seek(&key(1)), Sought::Nowhere(_)));
        assert!(
            matches!(answers.seek(&key(1)), Sought::Nowhere(_)),
            "nobody writes it any more"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_an_hour_old_or_cannot_be_read_is_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, answers) = (Layout::new(dir.path()).unwrap(), AnswerCache::new(100));
        let (old, lost) = (answer(&layout, 10).await, answer(&layout, 10).await);
        answers.begin(&key(0)).keep(old).await;
        answers.begin(&key(1)).keep(lost.clone()).await;
        assert!(lost.file.read(0, 10).await.is_err());
        assert!(answers.find(&key(1)).is_none());
        tokio::time::advance(AGE_MAX).await;
        assert!(answers.find(&key(0)).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(answers.find(&key(0)).is_none());

        drop(lost);
        while answers.load().bytes > 0 {
            tokio::time::advance(SWEEP_PAUSE).await;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn only_what_is_new_and_the_disk_make_others_give_way() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, answers) = (Layout::new(dir.path()).unwrap(), AnswerCache::new(1 << 20));
        for number in 0..KEPT_MAX {
            answers.begin(&key(number)).keep(answer(&layout, 1).await).await;
        }
        for number in (1..KEPT_MAX).chain([0]) {
            assert!(answers.find(&key(number)).is_some());
            answers.begin(&key(number)).keep(answer(&layout, 1).await).await;
        }
        assert_eq!(answers.load().bytes, KEPT_MAX as u64);
        answers.begin(&key(KEPT_MAX)).keep(answer(&layout, 1).await).await;
        assert!(answers.find(&key(1)).is_none() && answers.find(&key(2)).is_some());

        let read = answers.find(&key(0)).unwrap();
        answers.give_way();

        assert_eq!(answers.load().bytes, read.len);
    }
}
