//! Bytes between a writer and readers of different speed, each way of a fetch: a request is here before git begins, and
//! git ends before a slow reader has its answer. The first ones are in memory, the rest in a file without a name, which
//! ends with the last who uses it, by a crash too. Readers read while it is written, and again when it is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::fairness::shares::Claim;
use crate::fetch::room::AnswerRoom;
use crate::repositories::layout::Layout;
use crate::repositories::layout::in_background;

/// The request or the answer of a fetch, with one writer and any number of readers.
#[derive(Debug)]
pub(super) struct FetchSpool {
    layout: Layout,
    bytes_max: u64,
    stored: Mutex<Stored>,
    progress: watch::Sender<SpoolProgress>,
    taken: Notify,
}

/// Reads a spool from its beginning.
#[derive(Debug)]
pub(super) struct SpoolReader {
    spool: Arc<FetchSpool>,
    progress: watch::Receiver<SpoolProgress>,
    at: u64,
}

/// Whose disk a spool takes.
#[derive(Debug)]
pub(super) struct Payer {
    /// Of the fetch that it was made for, until that has no part in it any more.
    pub(super) claim: Option<Arc<Claim>>,
    /// Among the answers that are kept for others; `None`: the fetch pays.
    pub(super) room: Option<AnswerRoom>,
}

#[derive(Debug, Clone, Copy, Default)]
struct SpoolProgress {
    written: u64,
    end: Option<SpoolEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpoolEnd {
    /// All of it is here.
    Whole,
    /// The rest does not come.
    CutOff,
}

/// What is still here, from `base` on.
#[derive(Debug)]
struct Stored {
    payer: Payer,
    base: u64,
    memory: Vec<u8>,
    /// What is not in memory; a byte has the same place in both.
    file: Option<Arc<File>>,
    file_bytes: u64,
    written: u64,
    /// Where the reader is that has read most.
    read: u64,
    /// There is no room for more before all is read.
    is_full: bool,
    /// There may be readers that have read less.
    is_shared: bool,
}

impl FetchSpool {
    /// Makes a spool with at most `bytes_max` on disk, and no more than `payer` has room for. Returns its first reader.
    pub(super) fn begin(layout: Layout, payer: Payer, bytes_max: u64) -> SpoolReader {
        let (sender, progress) = watch::channel(SpoolProgress::default());
        let spool = Arc::new(Self {
            layout,
            bytes_max,
            stored: Mutex::new(Stored {
                payer,
                base: 0,
                memory: Vec::new(),
                file: None,
                file_bytes: 0,
                written: 0,
                read: 0,
                is_full: false,
                is_shared: false,
            }),
            progress: sender,
            taken: Notify::new(),
        });
        SpoolReader { spool, progress, at: 0 }
    }

    /// Returns another reader, whose part of the disk is paid for by `room` from now on; `None`: the beginning is not
    /// here any more, the rest does not come, or there is no room.
    pub(super) fn share(self: &Arc<Self>, room: AnswerRoom) -> Option<SpoolReader> {
        let mut stored = self.stored();
        let is_cut_off = self.progress.borrow().end == Some(SpoolEnd::CutOff);
        if stored.base > 0 || is_cut_off || !stored.move_to(room) {
            return None;
        }
        stored.is_shared = true;
        Some(SpoolReader {
            spool: Arc::clone(self),
            progress: self.progress.subscribe(),
            at: 0,
        })
    }

    /// Adds the next bytes; `false`: there is no room for them before readers have taken more. A disk that is full or
    /// fails is no room.
    pub(super) async fn offer(&self, bytes: &Bytes) -> bool {
        let Some((at, in_memory)) = self.stored().reserve(bytes.len(), self.bytes_max) else {
            return false;
        };
        let rest = bytes.slice(in_memory..);
        let file_bytes = rest.len() as u64;
        let written = match rest.is_empty() {
            true => Ok(()),
            false => self.write(rest, at + in_memory as u64).await,
        };
        let mut stored = self.stored();
        if let Err(error) = written {
            tracing::warn!(%error, "cannot spool a fetch");
            stored.file_bytes -= file_bytes;
            stored.payer.give_back(file_bytes);
            stored.is_full = true;
            if stored.read == stored.written {
                // Nobody will take more, and there is room in memory.
                self.taken.notify_one();
            }
            return false;
        }
        stored.memory.extend_from_slice(&bytes[..in_memory]);
        stored.written += bytes.len() as u64;
        let written = stored.written;
        self.progress.send_modify(|progress| progress.written = written);
        true
    }

    async fn write(&self, bytes: Bytes, at: u64) -> io::Result<()> {
        let file = self.stored().file.clone();
        let file = match file {
            Some(file) => file,
            None => {
                let layout = self.layout.clone();
                let file = Arc::new(in_background(move || layout.nameless_file()).await?);
                self.stored().file = Some(Arc::clone(&file));
                file
            }
        };
        in_background(move || file.write_all_at(&bytes, at)).await
    }

    /// Waits until something was taken since the last call.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Says that nothing more comes. Only a reader that fails changes that later.
    pub(super) fn end(&self, end: SpoolEnd) {
        let _stored = self.stored();
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert(end);
        });
    }

    /// Waits until nobody reads it any more. From then on nobody can.
    pub(super) async fn abandoned(&self) {
        loop {
            self.progress.closed().await;
            let _stored = self.stored();
            if self.progress.receiver_count() == 0 {
                self.progress
                    .send_modify(|progress| progress.end = Some(SpoolEnd::CutOff));
                return;
            }
        }
    }

    /// Moves what is in memory to the file, for a whole answer that stays; `false`: it is not all here, or is not paid
    /// for as one that does.
    pub(super) async fn settle(&self) -> bool {
        let memory = {
            let mut stored = self.stored();
            if stored.payer.claim.is_none() {
                return true;
            }
            let bytes = stored.memory.len() as u64;
            let has_room = stored.payer.room.as_mut().is_some_and(|room| room.grow(bytes));
            if stored.base > 0 || !has_room {
                return false;
            }
            stored.payer.claim = None;
            Bytes::copy_from_slice(&stored.memory)
        };
        if let Err(error) = self.write(memory, 0).await {
            tracing::warn!(%error, "cannot keep an answer");
            return false;
        }
        self.stored().memory = Vec::new();
        true
    }

    /// Returns how many bytes were written.
    pub(super) fn len(&self) -> u64 {
        self.progress.borrow().written
    }

    /// Whether nothing more comes.
    pub(super) fn is_ended(&self) -> bool {
        self.progress.borrow().end.is_some()
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FetchSpool {
    fn drop(&mut self) {
        close(self.stored().file.take());
    }
}

impl Stored {
    /// Takes room for the next bytes. Returns their place, and how many of them go to memory; `None`: there is no room
    /// before more is read.
    fn reserve(&mut self, len: usize, file_bytes_max: u64) -> Option<(u64, usize)> {
        let is_read = self.read == self.written;
        let is_private = self.payer.room.is_none() && !self.is_shared;
        if is_read && (self.is_full || (is_private && self.written - self.base >= RECLAIM_BYTES)) {
            self.begin_again();
        }
        if self.is_full {
            return None;
        }
        let at = self.written - self.base;
        let in_memory = usize::try_from(MEMORY_BYTES_MAX.saturating_sub(at)).map_or(len, |room| room.min(len));
        let file_bytes = (len - in_memory) as u64;
        let is_room = self.file_bytes + file_bytes <= file_bytes_max && self.payer.grow(file_bytes);
        if !is_room {
            self.is_full = true;
            // What fits into memory comes in, once all is read.
            return match is_read && at > 0 {
                true => self.reserve(len, file_bytes_max),
                false => None,
            };
        }
        self.file_bytes += file_bytes;
        Some((at, in_memory))
    }

    /// Gives up what was read.
    fn begin_again(&mut self) {
        self.base = self.written;
        self.memory.clear();
        close(self.file.take());
        self.payer.give_back(self.file_bytes);
        self.file_bytes = 0;
        self.is_full = false;
    }

    fn move_to(&mut self, mut room: AnswerRoom) -> bool {
        if self.payer.room.is_none() {
            if !room.grow(self.file_bytes) {
                return false;
            }
            self.payer.give_back(self.file_bytes);
            self.payer.room = Some(room);
        }
        true
    }
}

impl Payer {
    /// The fetch pays, and nobody else gets what it has.
    pub(super) fn of_fetch(claim: &Arc<Claim>) -> Self {
        Self {
            claim: Some(Arc::clone(claim)),
            room: None,
        }
    }

    /// Returns whether there is room for more bytes. Where there is none among what is kept, the fetch pays for all.
    fn grow(&mut self, bytes: u64) -> bool {
        let has_room = self.room.as_mut().is_some_and(|room| room.grow(bytes));
        if has_room {
            return true;
        }
        let kept = self.room.as_ref().map_or(0, AnswerRoom::bytes);
        let is_paid = self
            .claim
            .as_ref()
            .is_some_and(|claim| claim.grow(kept + bytes).is_ok());
        if is_paid {
            self.room = None;
        }
        is_paid
    }

    fn give_back(&mut self, bytes: u64) {
        match &mut self.room {
            Some(room) => room.give_back(bytes),
            None => {
                if let Some(claim) = &self.claim {
                    claim.give_back(bytes);
                }
            }
        }
    }
}

impl SpoolReader {
    /// Waits for the next bytes; `None`: that was the end.
    ///
    /// # Errors
    /// The rest does not come, or others read so much faster that the disk had no room for what comes next here.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let progress = *self.progress.borrow_and_update();
            if self.at < progress.written {
                let bytes = self.read().await?;
                self.at += bytes.len() as u64;
                let mut stored = self.spool.stored();
                stored.read = stored.read.max(self.at);
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
            let stored = self.spool.stored();
            let overtaken =
                || io::Error::other("others read faster, and there is no room on disk for what lies between");
            let at = self.at.checked_sub(stored.base).ok_or_else(overtaken)?;
            let place = usize::try_from(at).unwrap_or(usize::MAX);
            if let Some(rest) = stored.memory.get(place..).filter(|rest| !rest.is_empty()) {
                return Ok(Bytes::copy_from_slice(&rest[..rest.len().min(READ_BYTES)]));
            }
            let len = (stored.written - self.at).min(READ_BYTES as u64);
            let file = stored.file.clone().ok_or(io::ErrorKind::UnexpectedEof)?;
            (file, at, usize::try_from(len).unwrap_or_default())
        };
        let read = in_background(move || {
            let mut bytes = BytesMut::zeroed(len);
            file.read_exact_at(&mut bytes, at)?;
            io::Result::Ok(bytes.freeze())
        });
        // What cannot be read is for nobody.
        read.await.inspect_err(|_| {
            let _stored = self.spool.stored();
            let cut_off = |progress: &mut SpoolProgress| progress.end = Some(SpoolEnd::CutOff);
            self.spool.progress.send_modify(cut_off);
        })
    }

    /// Returns what is read.
    pub(super) fn spool(&self) -> &Arc<FetchSpool> {
        &self.spool
    }
}

/// Closes a file where waiting for the disk keeps nobody.
fn close(file: Option<Arc<File>>) {
    if let (Some(file), Ok(runtime)) = (file, Handle::try_current()) {
        runtime.spawn_blocking(move || drop(file));
    }
}

/// Of each spool. With the pipe in front and the socket behind, enough to keep both busy; and small answers never come
/// to the disk.
const MEMORY_BYTES_MAX: u64 = 128 << 10;

/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// So much has to be read before the disk's space is given back: a reader that nearly keeps up needs no new file each
/// time, and who asks for the same a moment later finds the beginning.
const RECLAIM_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::net::Ipv4Addr;
    use std::path::Path;
    use std::sync::Weak;

    use proptest::prelude::*;

    use super::*;
    use crate::fairness::shares::ShareLimits;
    use crate::fairness::shares::Shares;
    use crate::fetch::room::AnswerDisk;
    use crate::fetch::room::Evict;
    use crate::fetch::room::GivesWay;

    fn reader(layout: &Layout, shares: &Shares, bytes_max: u64) -> SpoolReader {
        let claim = shares.enter(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        FetchSpool::begin(layout.clone(), Payer::of_fetch(&Arc::new(claim)), bytes_max)
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
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
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

        for _ in 0..count {
            assert_eq!(reader.next().await.unwrap(), Some(chunk.clone()));
        }

        assert!(spool.offer(&chunk).await);
        assert_eq!(shares.in_use(), (1, 0));
        assert_eq!(reader.next().await.unwrap(), Some(chunk));
    }

    #[tokio::test]
    async fn who_has_gone_is_waited_for_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(1 << 20));
        let reader = reader(&layout, &shares, 1 << 20);
        let spool = Arc::clone(reader.spool());
        drop(reader);

        spool.abandoned().await;

        assert!(spool.is_ended());
    }
    /// Returns a whole spool that is longer than what is kept in memory, and its first reader.
    async fn whole(layout: &Layout, shares: &Shares) -> (Arc<FetchSpool>, SpoolReader) {
        let reader = reader(layout, shares, 1 << 20);
        let spool = Arc::clone(reader.spool());
        for part in 0..8 {
            assert!(spool.offer(&Bytes::from(vec![part; 64 << 10])).await);
        }
        spool.end(SpoolEnd::Whole);
        (spool, reader)
    }

    async fn all(mut reader: SpoolReader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn what_is_kept_is_in_its_room_and_in_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(1 << 20));
        let (disk, nobody) = (AnswerDisk::new(4 << 20), Weak::<Nobody>::new());
        let (spool, first) = whole(&layout, &shares).await;
        assert_eq!(shares.in_use().1, 6 * (64 << 10));

        let second = spool.share(AnswerRoom::new(&disk, nobody, &Path::new("/r.git").into()));
        assert_eq!((shares.in_use().1, disk.bytes()), (0, 6 * (64 << 10)));
        assert!(spool.settle().await);

        assert_eq!((shares.in_use(), disk.bytes()), ((0, 0), 8 * (64 << 10)));
        assert!(spool.stored().memory.is_empty());
        let (first, second) = (all(first).await.unwrap(), all(second.unwrap()).await.unwrap());
        assert!(first == second && first.len() == 8 * (64 << 10));
        drop(spool);
        assert_eq!(disk.bytes(), 0);
    }

    #[tokio::test]
    async fn a_file_that_is_short_is_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(1 << 20));
        let disk = AnswerDisk::new(4 << 20);
        let room = || AnswerRoom::new(&disk, Weak::<Nobody>::new(), &Path::new("/r.git").into());
        let (spool, first) = whole(&layout, &shares).await;
        let second = spool.share(room()).unwrap();
        assert!(spool.settle().await);
        let file = spool.stored().file.clone().unwrap();
        file.set_len(7 * (64 << 10)).unwrap();

        let failed = all(first).await.unwrap_err();

        assert_eq!(failed.kind(), io::ErrorKind::UnexpectedEof);
        assert!(spool.share(room()).is_none());
        assert!(all(second).await.is_err());
    }

    #[derive(Debug)]
    struct Nobody;

    impl Evict for Nobody {
        fn evict(&self, _: &Path, _: GivesWay) -> bool {
            false
        }
    }
}
