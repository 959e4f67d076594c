//! Bytes between a writer and a reader of different speed, each way of a fetch: a request is here before git begins,
//! and git ends before a slow reader has its answer. The first ones are in memory, the rest in a file.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::fairness::shares::Claim;
use crate::fetch::answers::WholeAnswer;
use crate::fetch::answers::Writing;
use crate::fetch::spool_file::SpoolFile;
use crate::repositories::layout::Layout;

/// The request or the answer of one fetch, with one writer and one reader.
#[derive(Debug)]
pub(super) struct FetchSpool {
    layout: Layout,
    claim: Arc<Claim>,
    bytes_max: u64,
    stored: Mutex<Stored>,
    progress: watch::Sender<SpoolProgress>,
    taken: Notify,
}

#[derive(Debug)]
pub(super) struct SpoolReader {
    spool: Arc<FetchSpool>,
    progress: watch::Receiver<SpoolProgress>,
    at: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct SpoolProgress {
    written: u64,
    end: Option<SpoolEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpoolEnd {
    Whole,
    CutOff,
}

/// The bytes that are still kept, from `base` on.
#[derive(Debug, Default)]
struct Stored {
    base: u64,
    memory: Vec<u8>,
    /// Instead of `memory` where the beginning is not kept: each piece is gone when it is read.
    passing: Option<VecDeque<Bytes>>,
    /// How long git has waited for the reader of passing bytes.
    waited: Duration,
    /// The bytes that are not in memory; a byte has the same position in both.
    file: Option<Arc<SpoolFile>>,
    file_bytes: u64,
    written: u64,
    read: u64,
    /// There is no room for more before all is read.
    is_full: bool,
    /// An answer that others may get, too, as long as its beginning is here.
    writing: Option<Writing>,
}

impl FetchSpool {
    /// Makes a spool with at most `bytes_max` on disk, and no more than the share of `claim`. Returns its reader.
    pub(super) fn begin(layout: Layout, claim: &Arc<Claim>, bytes_max: u64, writing: Option<Writing>) -> SpoolReader {
        let stored = Stored {
            writing,
            ..Stored::default()
        };
        Self::with(layout, claim, bytes_max, stored, None)
    }

    /// Makes a spool of which nothing is kept that was read.
    pub(super) fn passing(layout: Layout, claim: &Arc<Claim>, bytes_max: u64) -> SpoolReader {
        let stored = Stored {
            passing: Some(VecDeque::new()),
            ..Stored::default()
        };
        Self::with(layout, claim, bytes_max, stored, None)
    }

    pub(super) fn of_whole(layout: Layout, claim: &Arc<Claim>, answer: WholeAnswer) -> SpoolReader {
        let stored = Stored {
            file: Some(answer.file),
            written: answer.len,
            ..Stored::default()
        };
        Self::with(layout, claim, 0, stored, Some(SpoolEnd::Whole))
    }

    fn with(layout: Layout, claim: &Arc<Claim>, bytes_max: u64, stored: Stored, end: Option<SpoolEnd>) -> SpoolReader {
        let written = stored.written;
        let (sender, progress) = watch::channel(SpoolProgress { written, end });
        let spool = Arc::new(Self {
            layout,
            claim: Arc::clone(claim),
            bytes_max,
            stored: Mutex::new(stored),
            progress: sender,
            taken: Notify::new(),
        });
        SpoolReader { spool, progress, at: 0 }
    }

    /// Adds the next bytes; `false`: there is no room for them before the reader has taken more. A disk that is full or
    /// fails is no room.
    pub(super) async fn offer(&self, bytes: &Bytes) -> bool {
        self.let_pass(bytes.len()).await;
        let Some((at, in_memory)) = self.reserve(bytes.len()) else {
            return false;
        };
        let rest = bytes.slice(in_memory..);
        let file_bytes = rest.len() as u64;
        let written = match rest.is_empty() {
            true => Ok(()),
            false => self.write(rest, at + in_memory as u64).await,
        };
        let mut stored = self.stored.lock();
        if let Err(error) = written {
            tracing::warn!(%error, "cannot spool a fetch");
            stored.file_bytes -= file_bytes;
            self.claim.give_back(file_bytes);
            stored.is_full = true;
            if stored.read == stored.written {
                // Nobody will take more, and there is room in memory.
                self.taken.notify_one();
            }
            return false;
        }
        match &mut stored.passing {
            Some(_) if in_memory == 0 => {}
            Some(passing) => passing.push_back(bytes.slice(..in_memory)),
            None => stored.memory.extend_from_slice(&bytes[..in_memory]),
        }
        stored.written += bytes.len() as u64;
        let written = stored.written;
        self.progress.send_modify(|progress| progress.written = written);
        true
    }

    /// Waits a moment for a reader that keeps up to take the bytes in memory, so that nothing comes to the disk. git
    /// holds a slot meanwhile, so all these moments together are short.
    async fn let_pass(&self, len: usize) {
        let begun = Instant::now();
        let left = PASSING_WAITS_MAX.saturating_sub(self.stored.lock().waited);
        let ends_at = begun + left.min(PASSING_WAIT_MAX);
        while self.stored.lock().is_passing_full(len) && timeout_at(ends_at, self.taken()).await.is_ok() {}
        self.stored.lock().waited += begun.elapsed();
    }

    /// Takes room for the next bytes. Returns their place, and how many of them go to memory; `None`: there is no room
    /// before more is read.
    fn reserve(&self, len: usize) -> Option<(u64, usize)> {
        let mut stored = self.stored.lock();
        loop {
            let is_read = stored.read == stored.written;
            if is_read && (stored.is_full || stored.is_to_be_reclaimed()) {
                self.claim.give_back(stored.begin_again());
            }
            if stored.is_full {
                return None;
            }
            let at = stored.written - stored.base;
            let room = stored.memory_bytes_max().saturating_sub(at);
            let in_memory = usize::try_from(room).map_or(len, |room| room.min(len));
            let file_bytes = (len - in_memory) as u64;
            if stored.file_bytes + file_bytes <= self.bytes_max && self.claim.grow(file_bytes).is_ok() {
                stored.file_bytes += file_bytes;
                return Some((at, in_memory));
            }
            stored.is_full = true;
            // What fits into memory comes in, once all is read.
            if !is_read || at == 0 {
                return None;
            }
        }
    }

    async fn write(&self, bytes: Bytes, at: u64) -> io::Result<()> {
        self.file().await?.write(bytes, at).await
    }

    async fn file(&self) -> io::Result<Arc<SpoolFile>> {
        let file = self.stored.lock().file.clone();
        if let Some(file) = file {
            return Ok(file);
        }
        let file = SpoolFile::make(&self.layout).await?;
        self.stored.lock().file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Waits until something was taken since the last call.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }

    pub(super) fn end(&self, end: SpoolEnd) {
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert(end);
        });
    }

    pub(super) async fn abandoned(&self) {
        self.progress.closed().await;
    }

    /// Returns whether others may get it; `None`: not any more. From now on its beginning stays.
    pub(super) fn take_writing(&self) -> Option<Writing> {
        self.stored.lock().writing.take()
    }

    /// Moves all of it to its file, for others, when nothing more comes and its beginning is here.
    pub(super) async fn whole(&self) -> io::Result<WholeAnswer> {
        let (memory, len) = {
            let stored = self.stored.lock();
            (Bytes::copy_from_slice(&stored.memory), stored.written)
        };
        let file = self.file().await?;
        file.write(memory, 0).await?;
        file.sync().await?;
        Ok(WholeAnswer { file, len })
    }

    pub(super) fn len(&self) -> u64 {
        self.progress.borrow().written
    }
}

impl Drop for FetchSpool {
    fn drop(&mut self) {
        SpoolFile::close(self.stored.lock().file.take());
    }
}

impl Stored {
    fn is_to_be_reclaimed(&self) -> bool {
        let bytes = self.written - self.base;
        let is_kept = self.writing.as_ref().is_some_and(|writing| writing.is_kept_with(bytes));
        bytes >= RECLAIM_BYTES && !is_kept
    }

    fn memory_bytes_max(&self) -> u64 {
        match self.passing {
            Some(_) => PASSING_BYTES_MAX,
            None => MEMORY_BYTES_MAX,
        }
    }

    /// Whether nothing is on disk, and no room in memory before more is read.
    fn is_passing_full(&self, len: usize) -> bool {
        let ahead = self.written - self.base;
        self.passing.is_some() && self.file_bytes == 0 && ahead > 0 && ahead + len as u64 > PASSING_BYTES_MAX
    }

    fn pass(&mut self) -> Option<Bytes> {
        let bytes = self.passing.as_mut()?.pop_front()?;
        // As long as something is on disk, positions are counted from where that began.
        if self.file_bytes == 0 {
            self.base += bytes.len() as u64;
        }
        Some(bytes)
    }

    /// Discards the bytes that were read. Returns how many of them were on disk.
    fn begin_again(&mut self) -> u64 {
        self.base = self.written;
        self.writing = None;
        self.memory = Vec::new();
        self.passing.get_or_insert_default();
        SpoolFile::close(self.file.take());
        self.is_full = false;
        std::mem::take(&mut self.file_bytes)
    }
}

impl SpoolReader {
    /// Waits for the next bytes; `None`: that was the end.
    ///
    /// # Errors
    /// The rest does not come.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let progress = *self.progress.borrow_and_update();
            if self.at < progress.written {
                let bytes = self.read().await?;
                self.at += bytes.len() as u64;
                self.spool.stored.lock().read = self.at;
                self.spool.taken.notify_one();
                return Ok(Some(bytes));
            }
            match progress.end {
                Some(SpoolEnd::Whole) => return Ok(None),
                Some(SpoolEnd::CutOff) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // Only the spool has the sender, and it is here.
                None => drop(self.progress.changed().await),
            }
        }
    }

    async fn read(&self) -> io::Result<Bytes> {
        let (file, at, len) = {
            let mut stored = self.spool.stored.lock();
            if let Some(bytes) = stored.pass() {
                return Ok(bytes);
            }
            let at = self.at - stored.base;
            let place = usize::try_from(at).unwrap_or(usize::MAX);
            if let Some(rest) = stored.memory.get(place..).filter(|rest| !rest.is_empty()) {
                return Ok(Bytes::copy_from_slice(&rest[..rest.len().min(READ_BYTES)]));
            }
            let len = (stored.written - self.at).min(READ_BYTES as u64);
            let file = stored.file.clone().ok_or(io::ErrorKind::UnexpectedEof)?;
            (file, at, usize::try_from(len).unwrap_or_default())
        };
        file.read(at, len).await
    }

    /// Goes back to the beginning of a complete spool of which nothing was discarded.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    pub(super) fn spool(&self) -> &Arc<FetchSpool> {
        &self.spool
    }
}

/// Of each spool. With the pipe in front and the socket behind, enough to keep both busy; and small answers never come
/// to the disk.
const MEMORY_BYTES_MAX: u64 = 128 << 10;

/// The same of what passes to a reader that has kept up for long: some large reads of a pipe.
const PASSING_BYTES_MAX: u64 = 256 << 10;

/// For a reader on a fast line to take some of it. A slower one has the rest from the disk.
const PASSING_WAIT_MAX: Duration = Duration::from_millis(10);

/// For all of an answer. A reader that really keeps up needs little of it.
const PASSING_WAITS_MAX: Duration = Duration::from_secs(1);

/// Read at once.
const READ_BYTES: usize = 128 << 10;

/// So much has to be read before the disk's space is given back: a reader that nearly keeps up needs no new file each
/// time.
const RECLAIM_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::fairness::shares::ShareLimits;
    use crate::fairness::shares::Shares;

    fn reader(layout: &Layout, shares: &Shares, bytes_max: u64) -> SpoolReader {
        let claim = shares.enter(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        FetchSpool::begin(layout.clone(), &Arc::new(claim), bytes_max, None)
    }

    fn shares(bytes_max: u64) -> Shares {
        Shares::new(ShareLimits {
            claims_max: 1,
            bytes_max,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Whatever the rhythm of both sides and wherever the bound is, the reader gets what was written.
        #[test]
        fn what_goes_in_comes_out(
            turns in proptest::collection::vec((any::<bool>(), 1..100_000_usize), 1..200),
            bytes_max in 50_000..20_000_000_u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(10_000_000));
                let mut reader = reader(&layout, &shares, bytes_max);
                let spool = Arc::clone(reader.spool());
                let (mut written, mut read) = (Vec::new(), Vec::new());
                for (count, (writes, len)) in turns.into_iter().enumerate() {
                    let chunk = Bytes::from(vec![u8::try_from(count % 251).unwrap(); len]);
                    if writes && spool.offer(&chunk).await {
                        written.extend_from_slice(&chunk);
                    } else if read.len() < written.len() {
                        read.extend_from_slice(&reader.next().await.unwrap().unwrap());
                    }
                }
                spool.end(SpoolEnd::Whole);
                while let Some(chunk) = reader.next().await.unwrap() {
                    read.extend_from_slice(&chunk);
                }
                assert!(read == written);
                drop((spool, reader));
                assert_eq!(shares.in_use(), (0, 0));
            });
        }
    }

    #[tokio::test]
    async fn a_full_spool_takes_more_when_its_reader_has_caught_up() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(1 << 20));
        let mut reader = reader(&layout, &shares, 1 << 20);
        let spool = Arc::clone(reader.spool());
        let chunk = Bytes::from_static(&[7; 64 << 10]);
        let mut count = 0;
        while spool.offer(&chunk).await {
            count += 1;
        }
        assert_eq!(count, 2 + 16);
        assert_eq!(shares.in_use(), (1, 1 << 20));

        let mut read = 0;
        while read < count * chunk.len() {
            read += reader.next().await.unwrap().unwrap().len();
        }

        assert!(spool.offer(&chunk).await);
        assert_eq!(shares.in_use(), (1, 0));
        assert!(reader.next().await.unwrap() == Some(chunk));
    }

    /// git wrote at the pace of such a reader, and held its slot for minutes.
    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_always_a_moment_late_has_the_rest_from_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(64 << 20));
        let mut reader = reader(&layout, &shares, 64 << 20);
        let spool = Arc::clone(reader.spool());
        let chunk = Bytes::from(vec![1; 64 << 10]);
        for _ in 0..=RECLAIM_BYTES / (64 << 10) {
            assert!(spool.offer(&chunk).await);
            assert!(reader.next().await.unwrap().is_some());
        }
        let late = PASSING_WAIT_MAX - Duration::from_millis(1);
        // Full, but for the next chunk.
        for _ in 0..PASSING_BYTES_MAX / (64 << 10) {
            assert!(spool.offer(&chunk).await);
        }

        let mut waits = 0;
        while shares.in_use().1 == 0 {
            waits += 1;
            assert!(late * waits < 2 * PASSING_WAITS_MAX, "git still waits for it");
            let reads = async {
                tokio::time::sleep(late).await;
                reader.next().await.unwrap()
            };
            let (is_added, read) = tokio::join!(spool.offer(&chunk), reads);
            assert!(is_added && read.is_some());
        }
        assert!(waits > 1, "it was waited for");
    }

    #[tokio::test]
    async fn of_a_reader_that_keeps_up_nothing_comes_to_the_disk_but_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(64 << 20));
        let mut reader = reader(&layout, &shares, 64 << 20);
        let spool = Arc::clone(reader.spool());
        let chunk = |part: u64| Bytes::from(vec![u8::try_from(part % 251).unwrap(); 64 << 10]);
        let parts = RECLAIM_BYTES / (64 << 10);
        for part in 0..=2 * parts {
            assert!(spool.offer(&chunk(part)).await);
            assert!(reader.next().await.unwrap() == Some(chunk(part)));
            assert_eq!(shares.in_use().1 > 0, (2..parts).contains(&part), "{part}");
        }

        // One that falls behind has the rest on the disk, and nothing is lost on the way there and back.
        for (part, lag) in [(0, 20), (20, 2), (22, 2 * parts), (22 + 2 * parts, 4)] {
            for part in part..part + lag {
                assert!(spool.offer(&chunk(part)).await);
            }
            let mut read = Vec::new();
            while read.len() < usize::try_from(lag).unwrap() << 16 {
                read.extend_from_slice(&reader.next().await.unwrap().unwrap());
            }
            let expected: Vec<u8> = (part..part + lag).flat_map(chunk).collect();
            assert!(read == expected, "{part}");
        }
        assert_eq!(shares.in_use(), (1, 0));
    }

    #[tokio::test]
    async fn who_has_gone_is_waited_for_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(1 << 20));
        let reader = reader(&layout, &shares, 1 << 20);
        let spool = Arc::clone(reader.spool());
        drop(reader);

        spool.abandoned().await;
    }

    #[tokio::test]
    async fn what_is_whole_is_read_again_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(1 << 20));
        let mut first = reader(&layout, &shares, 1 << 20);
        let (spool, claim) = (Arc::clone(first.spool()), Arc::clone(&first.spool().claim));
        for part in 0..8 {
            assert!(spool.offer(&Bytes::from(vec![part; 64 << 10])).await);
        }
        spool.end(SpoolEnd::Whole);
        let expected = all(&mut first).await.unwrap();
        first.rewind();
        assert!(all(&mut first).await.unwrap() == expected);

        let whole = spool.whole().await.unwrap();

        drop((spool, first));
        let again = || FetchSpool::of_whole(layout.clone(), &claim, whole.clone());
        let mut second = again();
        assert!(all(&mut second).await.unwrap() == expected);
        assert!(!whole.file.has_failed());
        whole.file.cut(7 * (64 << 10));
        assert!(all(&mut again()).await.is_err());
        assert!(whole.file.has_failed(), "it is for nobody");
    }

    async fn all(reader: &mut SpoolReader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}
