//! Bytes between a writer and a reader of different speed, each way of a fetch: a request is here before git begins,
//! and git ends before a slow reader has its answer. They are in memory while the reader keeps up, else in a file
//! without a name, which ends with them. The first bytes go out as they come.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::sync::Mutex;
use tokio::sync::Notify;

use crate::fairness::shares::Claim;
use crate::repositories::layout::Layout;
use crate::repositories::layout::in_background;

/// The request or the answer of one fetch, with one writer and one reader.
#[derive(Debug)]
pub(super) struct FetchSpool {
    layout: Layout,
    claim: Arc<Claim>,
    bytes_max: u64,
    backlog: Mutex<Backlog>,
    added: Notify,
    taken: Notify,
}

/// What is written and not yet read: first what is in memory, then what is in the file.
#[derive(Debug, Default)]
struct Backlog {
    memory: VecDeque<Bytes>,
    memory_bytes: usize,
    file: Option<Arc<File>>,
    read_at: u64,
    write_at: u64,
    is_ended: bool,
}

impl FetchSpool {
    /// Spools at most `bytes_max` on disk, and no more than the share of `claim`.
    pub(super) fn new(layout: Layout, claim: Arc<Claim>, bytes_max: u64) -> Self {
        Self {
            layout,
            claim,
            bytes_max,
            backlog: Mutex::default(),
            added: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Adds the next bytes; `false`: there is no room for them now. A disk that is full or fails is no room.
    pub(super) async fn offer(&self, bytes: &Bytes) -> bool {
        let mut backlog = self.backlog.lock().await;
        let is_file_read = backlog.read_at == backlog.write_at;
        if is_file_read && (backlog.memory.is_empty() || backlog.memory_bytes + bytes.len() <= MEMORY_BYTES_MAX) {
            backlog.memory_bytes += bytes.len();
            backlog.memory.push_back(bytes.clone());
        } else {
            let len = bytes.len() as u64;
            if backlog.write_at + len > self.bytes_max || self.claim.grow(len).is_err() {
                return false;
            }
            if let Err(error) = self.write(&mut backlog, bytes.clone()).await {
                tracing::warn!(%error, "cannot spool a fetch");
                self.claim.give_back(len);
                return false;
            }
            backlog.write_at += len;
        }
        self.added.notify_one();
        true
    }

    async fn write(&self, backlog: &mut Backlog, bytes: Bytes) -> io::Result<()> {
        let file = match &backlog.file {
            Some(file) => Arc::clone(file),
            None => {
                let layout = self.layout.clone();
                let file = Arc::new(in_background(move || layout.nameless_file()).await?);
                backlog.file = Some(Arc::clone(&file));
                file
            }
        };
        let at = backlog.write_at;
        in_background(move || file.write_all_at(&bytes, at)).await
    }

    /// Waits until something was taken since the last call.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Says that this was all.
    pub(super) async fn end(&self) {
        self.backlog.lock().await.is_ended = true;
        self.added.notify_one();
    }

    /// Waits for the next bytes; `None`: that was the end.
    ///
    /// # Errors
    /// The disk fails.
    pub(super) async fn next(&self) -> io::Result<Option<Bytes>> {
        loop {
            let mut backlog = self.backlog.lock().await;
            if let Some(bytes) = self.take(&mut backlog).await? {
                self.taken.notify_one();
                return Ok(Some(bytes));
            }
            if backlog.is_ended {
                return Ok(None);
            }
            drop(backlog);
            self.added.notified().await;
        }
    }

    async fn take(&self, backlog: &mut Backlog) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = backlog.memory.pop_front() {
            backlog.memory_bytes -= bytes.len();
            return Ok(Some(bytes));
        }
        let len = (backlog.write_at - backlog.read_at).min(READ_BYTES);
        let Some(file) = backlog.file.clone().filter(|_| len > 0) else {
            return Ok(None);
        };
        let at = backlog.read_at;
        let bytes = in_background(move || {
            let mut bytes = BytesMut::zeroed(usize::try_from(len).unwrap_or_default());
            file.read_exact_at(&mut bytes, at)?;
            io::Result::Ok(bytes.freeze())
        })
        .await?;
        backlog.read_at += len;
        // What was read stands on disk until all is read; a reader that nearly keeps up needs no new file each time.
        if backlog.read_at == backlog.write_at && backlog.read_at >= self.bytes_max.min(RECLAIM_BYTES) {
            let file = backlog.file.take();
            self.claim.give_back(backlog.write_at);
            (backlog.read_at, backlog.write_at) = (0, 0);
            in_background(move || drop(file)).await;
        }
        Ok(Some(bytes))
    }
}

/// Held in memory for a reader that keeps up: with the pipe in front and the socket behind, enough to keep both busy.
const MEMORY_BYTES_MAX: usize = 128 << 10;

/// Read from the file at once.
const READ_BYTES: u64 = 64 << 10;

/// So much has to be read before the disk's space is given back.
const RECLAIM_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::fairness::shares::ShareLimits;
    use crate::fairness::shares::Shares;

    fn spool(layout: &Layout, shares: &Shares, bytes_max: u64) -> FetchSpool {
        let claim = shares.enter(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        FetchSpool::new(layout.clone(), Arc::new(claim), bytes_max)
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
                let spool = spool(&layout, &shares, bytes_max);
                let (mut written, mut read) = (Vec::new(), Vec::new());
                for (count, (writes, len)) in turns.into_iter().enumerate() {
                    let chunk = Bytes::from(vec![u8::try_from(count % 251).unwrap(); len]);
                    if writes && spool.offer(&chunk).await {
                        written.extend_from_slice(&chunk);
                    } else if read.len() < written.len() {
                        read.extend_from_slice(&spool.next().await.unwrap().unwrap());
                    }
                }
                spool.end().await;
                while let Some(chunk) = spool.next().await.unwrap() {
                    read.extend_from_slice(&chunk);
                }
                assert!(read == written);
                assert!(shares.in_use().1 <= RECLAIM_BYTES);
                drop(spool);
                assert_eq!(shares.in_use(), (0, 0));
            });
        }
    }

    #[tokio::test]
    async fn a_full_spool_takes_more_when_its_reader_has_caught_up() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, shares) = (Layout::new(dir.path()).unwrap(), shares(1 << 20));
        let spool = spool(&layout, &shares, 1 << 20);
        let chunk = Bytes::from_static(&[7; 64 << 10]);
        let mut count = 0;
        while spool.offer(&chunk).await {
            count += 1;
        }
        assert_eq!(count, 2 + 16);
        assert_eq!(shares.in_use(), (1, 1 << 20));

        for _ in 0..count {
            assert_eq!(spool.next().await.unwrap(), Some(chunk.clone()));
        }

        assert_eq!(shares.in_use(), (1, 0));
        assert!(spool.offer(&chunk).await);
    }
}
