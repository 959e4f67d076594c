//! Serving fetches: `ls-refs` natively, packs by `git upload-pack`, or from its kept answers to the same requests. A
//! slot is taken when the request is complete, and freed when git has ended, however slow the client is.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use shared::live::Live;
use tokio::time::timeout;

use crate::fairness::shares::Shares;
use crate::fairness::slots::Slot;
use crate::fairness::slots::SlotLoad;
use crate::fetch::answers::AnswerCache;
use crate::fetch::answers::AnswerLoad;
use crate::fetch::error::UploadPackError;
use crate::fetch::git_run::GitEnd;
use crate::fetch::git_run::let_git_answer;
use crate::fetch::git_run::start_git;
use crate::fetch::keeping::AnswerKeeper;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::outcome::FETCH_OUTCOMES;
use crate::fetch::receive::FetchReceiver;
use crate::fetch::receive::PackFetch;
use crate::fetch::receive::ReadableRepository;
use crate::fetch::receive::ReceivedFetch;
use crate::fetch::ref_answer::RefAnswer;
use crate::fetch::sending::FetchAnswer;
use crate::fetch::sending::Filling;
use crate::fetch::sending::send;
use crate::fetch::sending::spool_refs;
use crate::fetch::slot::FetchSlots;
use crate::fetch::slot::YieldingSlot;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::SpoolReader;
use crate::fetch::waiting::Awaited;
use crate::fetch::waiting::slot_or_answer;
use crate::git::error::GitError;
use crate::meter::Meter;
use crate::repositories::disk_use::Spare;
use crate::repositories::layout::in_background;
use crate::repositories::packs::pack_bytes;
use crate::repositories::repository::RepositoryStore;

/// Serves fetches. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct UploadPack {
    store: RepositoryStore,
    limits: Live<UploadPackLimits>,
    pub(super) receiver: FetchReceiver,
    slots: FetchSlots,
    /// Git processes, and lists of refs, that wait for slow readers.
    pub(super) paused: Shares,
    /// What other clients get, too.
    answers: AnswerCache,
    pub(super) outcomes: Meter<{ FETCH_OUTCOMES.len() }>,
    pub(super) sent_bytes: Meter<1>,
}

impl UploadPack {
    pub(crate) fn new(store: RepositoryStore, limits: UploadPackLimits) -> Self {
        let live = Live::new(limits);
        Self {
            receiver: FetchReceiver {
                layout: store.layout().clone(),
                fetches: Shares::new(limits.of_transfers()),
                limits: live.clone(),
            },
            slots: FetchSlots::new(limits.children_max),
            answers: AnswerCache::new(limits.kept_bytes_max),
            paused: Shares::new(limits.of_paused()),
            outcomes: Meter::default(),
            sent_bytes: Meter::default(),
            store,
            limits: live,
        }
    }

    /// Changes what fetches may cost: those from now on, and of those that run how many may be added.
    pub(crate) fn set_limits(&self, limits: UploadPackLimits) {
        self.limits.set(limits);
        self.receiver.fetches.set_limits(limits.of_transfers());
        self.paused.set_limits(limits.of_paused());
        self.slots.set_max(limits.children_max);
        self.answers.set_bytes_max(limits.kept_bytes_max);
    }

    pub(crate) fn counts(&self) -> ([u64; FETCH_OUTCOMES.len()], u64) {
        let [sent_bytes] = self.sent_bytes.counts();
        (self.outcomes.counts(), sent_bytes)
    }

    /// Returns how often the limits of transfers and of their bytes were reached.
    pub(crate) fn hits(&self) -> [u64; 2] {
        self.receiver.fetches.hits()
    }

    pub(crate) fn load(&self) -> SlotLoad {
        self.slots.load()
    }

    pub(crate) fn answer_load(&self) -> AnswerLoad {
        self.answers.load()
    }

    /// Returns the disk space that can be freed for pushes.
    pub(crate) fn spare(&self) -> Arc<dyn Spare> {
        Arc::new(self.answers.clone())
    }

    /// Answers a request from `repository`.
    ///
    /// # Errors
    /// [`UploadPackError`] until the first byte of the answer.
    pub(crate) async fn answer(
        &self,
        repository: ReadableRepository<'_>,
        request: ReceivedFetch,
    ) -> Result<FetchAnswer, UploadPackError> {
        let request = match request {
            ReceivedFetch::Nothing => return Ok(FetchAnswer::Whole(Bytes::new())),
            ReceivedFetch::LsRefs(request, address) => {
                return self.send_refs(address, repository.advertised.ls_refs(request)).await;
            }
            ReceivedFetch::Pack(request) => request,
        };
        let claim = Arc::clone(&request.claim);
        let opened = async { self.open(request.understand(repository).await?).await };
        let reader = tokio::select! {
            biased;
            () = claim.ended() => return Err(UploadPackError::GaveWay),
            opened = opened => opened?,
        };
        send(reader, None, claim, self.limits.get()).await
    }

    /// Answers a client at `address` with a list of refs.
    ///
    /// # Errors
    /// [`UploadPackError`]: it is long, and there is no room for it.
    pub(super) async fn send_refs(&self, address: IpAddr, answer: RefAnswer) -> Result<FetchAnswer, UploadPackError> {
        if let Some(short) = answer.short() {
            return Ok(FetchAnswer::Whole(short.clone()));
        }
        let claim = self.receiver.enter(address)?;
        let len = answer.made().map(Bytes::len);
        let reader = FetchSpool::passing(self.store.layout().clone(), &claim, self.limits.get().answer_bytes_max);
        spool_refs(answer, Arc::clone(reader.spool()), self.paused.clone(), address);
        send(reader, len, claim, self.limits.get()).await
    }

    /// Returns the answer from its beginning: one that is kept, or one that git begins.
    async fn open(&self, fetch: PackFetch) -> Result<SpoolReader, UploadPackError> {
        let limits = self.limits.get();
        let awaited = slot_or_answer(&fetch, &self.slots, &self.answers, limits.another_wait_max);
        let awaited = timeout(limits.queue_wait_max, awaited).await;
        let layout = self.store.layout().clone();
        let (slot, writing) = match awaited.map_err(|_| UploadPackError::Busy)? {
            Awaited::Kept(answer) => return Ok(FetchSpool::of_whole(layout, &fetch.request.claim, answer)),
            Awaited::Slot(slot, writing) => (slot, writing),
        };
        if fetch.key.is_some() {
            self.answers.count_git();
        }
        let reader = FetchSpool::begin(layout, &fetch.request.claim, limits.answer_bytes_max, writing);
        let path = fetch.path.clone();
        let limits = limits.of_packs(in_background(move || pack_bytes(&path)).await.unwrap_or(u64::MAX));
        self.begin_git(fetch, slot, limits, Filling(Arc::clone(reader.spool())))?;
        Ok(reader)
    }

    fn begin_git(
        &self,
        fetch: PackFetch,
        slot: Slot,
        limits: UploadPackLimits,
        answer: Filling,
    ) -> Result<(), GitError> {
        let protocol = fetch.request.protocol.as_ref();
        let child = start_git(self.store.git(), &fetch.path, protocol, &limits)?;
        child.be_nice(slot.niceness());
        let (slots, reader) = (self.slots.clone(), fetch.request.address);
        let slot = YieldingSlot::new(slots, fetch.kind, slot, self.paused.clone(), reader);
        let keeper = AnswerKeeper {
            store: self.store.clone(),
            answers: self.answers.clone(),
            limits,
        };
        // A task of its own: keeping the answer does not depend on its first reader.
        tokio::spawn(async move {
            match let_git_answer(child, fetch.request.bytes, &answer.0, slot, limits.duration_max).await {
                Ok(GitEnd::Abandoned) => {}
                Ok(end @ (GitEnd::Answered | GitEnd::Refused)) => {
                    keeper.finish(fetch.key.as_ref(), &answer.0, end).await;
                }
                Err(error) => tracing::warn!(%error, "git could not answer a fetch"),
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use shared::git::Oid;

    use super::*;
    use crate::fetch::advertised::Advertised;
    use crate::fetch::testing::READER;
    use crate::fetch::testing::body;
    use crate::fetch::testing::fetch_of;
    use crate::fetch::testing::joined;
    use crate::fetch::testing::large;
    use crate::fetch::testing::lines;
    use crate::fetch::testing::none;
    use crate::fetch::testing::readable;
    use crate::fetch::testing::server;
    use crate::fetch::testing::v2;
    use crate::fetch::testing::whole;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn answers_are_gits_own() {
        for world in World::of_every_git().await {
            let (repository, commit) = large(&world).await;
            let server = server(&world, UploadPackLimits::DEFAULT);
            let v0 = lines(&[&format!("want {commit} ofs-delta no-progress\n"), "0000", "done\n"]);
            for (protocol, request) in [(v2(), fetch_of(commit)), (None, v0)] {
                let version = protocol.as_ref().map_or("", |protocol| protocol.as_str()).to_owned();
                let git = world.store.git().invoke("upload-pack").env("GIT_PROTOCOL", version);
                let expected = git
                    .arg("--stateless-rpc")
                    .arg(repository.path())
                    .output(&request, Duration::from_secs(30))
                    .await
                    .unwrap();

                let refs = none();
                let found = readable(repository.path(), &refs);
                let answer = server.fetch(found, READER, protocol, body(&request)).await;
                let answer = answer.unwrap();

                let answer = whole(answer).await.unwrap();
                assert!(answer.len() > 3 << 20);
                // How git cuts the pack into packets depends on when it reads which bytes.
                assert!(joined(&answer) == joined(&expected));
            }
        }
    }

    #[tokio::test]
    async fn ls_refs_and_probes_need_no_git() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let no_git = UploadPackLimits {
            children_max: 0,
            queue_wait_max: Duration::ZERO,
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, no_git);
        let ls_refs = lines(&["command=ls-refs\n", "0001", "unborn", "symrefs", "0000"]);

        let refs = repository.refs().await.unwrap().unwrap();
        let (path, refs) = (repository.path(), Advertised::new(Arc::new(refs)));
        let of_repository = server.fetch(readable(path, &refs), READER, v2(), body(&ls_refs)).await;
        let of_virtual = server
            .fetch(readable(path, &none()), READER, v2(), body(&ls_refs))
            .await;
        let probe = server.fetch(readable(path, &refs), READER, None, body(b"0000")).await;
        let fetch = server
            .fetch(readable(path, &refs), READER, v2(), body(&fetch_of(commit)))
            .await;

        let of_repository = String::from_utf8(whole(of_repository.unwrap()).await.unwrap()).unwrap();
        assert!(of_repository.contains(&format!("{commit} HEAD symref-target:refs/heads/master")));
        let unborn = "0030unborn HEAD symref-target:refs/heads/master\n0000";
        assert_eq!(whole(of_virtual.unwrap()).await.unwrap(), unborn.as_bytes());
        assert!(whole(probe.unwrap()).await.unwrap().is_empty());
        assert!(matches!(fetch, Err(UploadPackError::Busy)));
    }

    #[tokio::test]
    async fn what_git_refuses_it_says_itself() {
        let world = World::new().await;
        let missing: Oid = "1234567890123456789012345678901234567890".parse().unwrap();
        let server = server(&world, UploadPackLimits::DEFAULT);

        let empty = world.store.layout().empty_repository();
        let answer = server
            .fetch(readable(&empty, &none()), READER, v2(), body(&fetch_of(missing)))
            .await;
        let answer = answer.unwrap();

        let answer = String::from_utf8(whole(answer).await.unwrap()).unwrap();
        assert!(answer.contains("ERR upload-pack: not our ref"), "{answer}");
    }

    /// Four sockets that read a clone slowly gave every other clone 503, for up to 6 h.
    #[tokio::test]
    async fn clients_that_read_nothing_hold_no_slot_and_leave_nothing_behind() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let stranger = IpAddr::from([192, 0, 2, 1]);
        // The answers fit on disk, or git waits for its readers.
        for spool_bytes_max in [1 << 30, 1 << 20] {
            let one = UploadPackLimits {
                children_max: 1,
                spool_bytes_max,
                ..UploadPackLimits::DEFAULT
            };
            let server = server(&world, one);
            let refs = none();
            let fetch = |address| {
                server.fetch(
                    readable(repository.path(), &refs),
                    address,
                    v2(),
                    body(&fetch_of(commit)),
                )
            };
            let expected = whole(fetch(READER).await.unwrap()).await.unwrap();

            let mut slow = vec![fetch(stranger).await.unwrap(), fetch(stranger).await.unwrap()];
            let quick = whole(fetch(READER).await.unwrap()).await.unwrap();
            let late = whole(slow.remove(0)).await;

            assert!(joined(&quick) == joined(&expected));
            // Where all of the disk's share is in use, the stranger's answers may end for the other reader's.
            assert!(spool_bytes_max == 1 << 20 || joined(&late.unwrap()) == joined(&expected));
            drop(slow);
            let freed = timeout(Duration::from_secs(10), async {
                while (server.receiver.fetches.in_use(), server.slots.in_use()) != ((0, 0), 0) {
                    tokio::task::yield_now().await;
                }
            });
            assert!(freed.await.is_ok());
            assert_eq!(server.paused.in_use(), (0, 0));
        }
    }

    #[tokio::test]
    async fn a_slow_reader_gives_way_where_its_address_has_most() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let few = UploadPackLimits {
            transfers_max: 3,
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, few);
        let refs = none();
        let fetch = |last| {
            let address = IpAddr::from([192, 0, 2, last]);
            server.fetch(
                readable(repository.path(), &refs),
                address,
                v2(),
                body(&fetch_of(commit)),
            )
        };
        let first = fetch(1).await.unwrap();
        let slow = [fetch(1).await.unwrap(), fetch(1).await.unwrap()];
        assert!(matches!(fetch(1).await, Err(UploadPackError::Busy)));

        let quick = whole(fetch(2).await.unwrap()).await;

        assert!(quick.is_ok());
        let [second, third] = slow;
        assert!(whole(first).await.is_ok() && whole(second).await.is_ok());
        assert_eq!(whole(third).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
