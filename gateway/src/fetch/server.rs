//! Serving fetches: `ls-refs` natively, packs by `git upload-pack`, or from its kept answers to the same requests. A
//! slot is taken when the request is complete, and freed when git has ended, however slow the client is.

use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::git::Oid;
use tokio::io::AsyncRead;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::fairness::shares::Claim;
use crate::fairness::shares::ShareLimits;
use crate::fairness::shares::Shares;
use crate::fairness::slots::SlotLoad;
use crate::fetch::advertised::Advertised;
use crate::fetch::advertised::tags_of;
use crate::fetch::answer_key::AnswerKey;
use crate::fetch::answers::AnswerCache;
use crate::fetch::answers::AnswerLoad;
use crate::fetch::answers::Sought;
use crate::fetch::answers::WholeAnswer;
use crate::fetch::answers::Writing;
use crate::fetch::asked::AskedParser;
use crate::fetch::error::UploadPackError;
use crate::fetch::git_run::GitEnd;
use crate::fetch::git_run::GitRun;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::ls_refs::LsRefs;
use crate::fetch::ls_refs::is_ls_refs;
use crate::fetch::outcome::FETCH_OUTCOMES;
use crate::fetch::ref_answer::RefAnswer;
use crate::fetch::request::FetchRequest;
use crate::fetch::sending::FetchAnswer;
use crate::fetch::sending::Filling;
use crate::fetch::sending::send;
use crate::fetch::sending::spool_refs;
use crate::fetch::slot::FetchKind;
use crate::fetch::slot::FetchSlot;
use crate::fetch::slot::FetchSlots;
use crate::fetch::slot::FetchTurn;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::SpoolEnd;
use crate::fetch::spool::SpoolReader;
use crate::git::error::GitError;
use crate::http::body::BodyLimits;
use crate::meter::Meter;
use crate::process::ChildLimits;
use crate::process::ChildProcess;
use crate::repositories::disk_use::Spare;
use crate::repositories::disk_use::bytes_free;
use crate::repositories::layout::in_background;
use crate::repositories::objects::object_kinds;
use crate::repositories::repository::RepositoryStore;
use wire::protocol::GitProtocol;
use wire::protocol::ProtocolVersion;

/// Serves fetches. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct UploadPack {
    store: RepositoryStore,
    limits: UploadPackLimits,
    /// Fetches by address, with their bytes on disk.
    fetches: Shares,
    /// Gits that run.
    slots: FetchSlots,
    /// Gits that wait for slow readers.
    paused: Shares,
    /// What other clients get, too.
    answers: AnswerCache,
    /// The outcomes of requests.
    pub(super) outcomes: Meter<{ FETCH_OUTCOMES.len() }>,
    /// How many bytes were sent.
    pub(super) sent_bytes: Meter<1>,
}

/// A request that is here.
pub(crate) enum ReceivedFetch {
    /// A probe, or of a client that wants nothing after all.
    Nothing,
    /// For refs, of a client at this address.
    LsRefs(LsRefs, IpAddr),
    /// For a pack.
    Pack(PackRequest),
}

/// A request for a pack.
pub(crate) struct PackRequest {
    address: IpAddr,
    protocol: Option<GitProtocol>,
    claim: Arc<Claim>,
    /// All that the client asks.
    bytes: SpoolReader,
}

/// A request for a pack that was understood.
struct Fetch {
    path: PathBuf,
    request: PackRequest,
    kind: FetchKind,
    /// `None`: the answer is for this client only.
    key: Option<AnswerKey>,
}

/// What a fetch has waited for.
enum Awaited {
    /// An answer that was kept.
    Kept(WholeAnswer),
    /// A git process of its own, and whether its answer may be kept for others.
    Git(FetchTurn, Option<Writing>),
}

impl UploadPack {
    /// Makes a server of fetches within `limits`.
    pub(crate) fn new(store: RepositoryStore, limits: UploadPackLimits) -> Self {
        let fetches = ShareLimits {
            claims_max: limits.transfers_max,
            bytes_max: limits.spool_bytes_max,
        };
        let paused = ShareLimits {
            claims_max: PAUSED_PER_SLOT * limits.children_max,
            bytes_max: 0,
        };
        Self {
            fetches: Shares::new(fetches),
            slots: FetchSlots::new(limits.children_max),
            answers: AnswerCache::new(limits.kept_bytes_max),
            paused: Shares::new(paused),
            outcomes: Meter::default(),
            sent_bytes: Meter::default(),
            store,
            limits,
        }
    }

    /// Returns how many requests there were of each outcome, and how many bytes were sent.
    pub(crate) fn counts(&self) -> ([u64; FETCH_OUTCOMES.len()], u64) {
        let [sent_bytes] = self.sent_bytes.counts();
        (self.outcomes.counts(), sent_bytes)
    }

    /// Returns how much the slots of git are used.
    pub(crate) fn load(&self) -> SlotLoad {
        self.slots.load()
    }

    /// Returns how much answers are shared.
    pub(crate) fn answer_load(&self) -> AnswerLoad {
        self.answers.load()
    }

    /// Returns the disk space that can be freed for pushes.
    pub(crate) fn spare(&self) -> Arc<dyn Spare> {
        Arc::new(self.answers.clone())
    }

    /// Receives the fetch request `body`, which is not compressed (any more), of a client at `address`. git does not
    /// wait for a client that asks slowly.
    ///
    /// # Errors
    /// [`UploadPackError`]: the request does not arrive, is malformed, or there is no room for it.
    pub(crate) async fn receive<R>(
        &self,
        address: IpAddr,
        protocol: Option<GitProtocol>,
        body: R,
    ) -> Result<ReceivedFetch, UploadPackError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let limits = BodyLimits {
            bytes_max: self.limits.request_bytes_max,
            stall_max: self.limits.stall_max,
            duration_max: self.limits.duration_max,
        };
        let mut request = FetchRequest::new(body, limits);
        let version = protocol.as_ref().map_or(ProtocolVersion::V0, GitProtocol::version);
        match request.first_line().await? {
            None => return Ok(ReceivedFetch::Nothing),
            Some(line) if version == ProtocolVersion::V2 && is_ls_refs(&line) => {
                return Ok(ReceivedFetch::LsRefs(request.ls_refs().await?, address));
            }
            Some(_) => {}
        }
        let claim = self.fetches.enter(address).map_err(|_| UploadPackError::Busy)?;
        let claim = Arc::new(claim);
        let bytes = tokio::select! {
            bytes = self.receive_rest(request, &claim) => bytes?,
            () = claim.ended() => return Err(UploadPackError::Busy),
        };
        Ok(ReceivedFetch::Pack(PackRequest {
            address,
            protocol,
            claim,
            bytes,
        }))
    }

    async fn receive_rest<R>(
        &self,
        mut request: FetchRequest<R>,
        claim: &Arc<Claim>,
    ) -> Result<SpoolReader, UploadPackError>
    where
        R: AsyncRead + Unpin,
    {
        let layout = self.store.layout().clone();
        let reader = FetchSpool::begin(layout, claim, self.limits.request_bytes_max, None);
        let mut patience = self.limits.least_rate.begin();
        let mut chunk = Some(request.take_start());
        while let Some(bytes) = chunk {
            if !reader.spool().offer(&bytes).await {
                return Err(UploadPackError::Busy);
            }
            patience.moved(bytes.len());
            chunk = patience.wait(request.next()).await??;
        }
        reader.spool().end(SpoolEnd::Whole);
        Ok(reader)
    }

    /// Answers a request from the repository at `path`, of which `advertised` are the refs.
    ///
    /// # Errors
    /// [`UploadPackError`] until the first byte of the answer.
    pub(crate) async fn answer(
        &self,
        (path, advertised): (&Path, &Advertised),
        request: ReceivedFetch,
    ) -> Result<FetchAnswer, UploadPackError> {
        let request = match request {
            ReceivedFetch::Nothing => return Ok(FetchAnswer::Whole(Bytes::new())),
            ReceivedFetch::LsRefs(request, address) => {
                return self.send_refs(address, advertised.ls_refs(request)).await;
            }
            ReceivedFetch::Pack(request) => request,
        };
        let claim = Arc::clone(&request.claim);
        let opened = async { self.open(self.understand((path, advertised), request).await?).await };
        let reader = tokio::select! {
            opened = opened => opened?,
            () = claim.ended() => return Err(UploadPackError::Busy),
        };
        send((reader, None), claim, self.limits).await
    }

    /// Answers a client at `address` with a list of refs.
    ///
    /// # Errors
    /// [`UploadPackError`]: it is long, and there is no room for it.
    pub(super) async fn send_refs(&self, address: IpAddr, answer: RefAnswer) -> Result<FetchAnswer, UploadPackError> {
        if let Some(short) = answer.short() {
            return Ok(FetchAnswer::Whole(short.clone()));
        }
        let claim = Arc::new(self.fetches.enter(address).map_err(|_| UploadPackError::Busy)?);
        let len = answer.made().map(Bytes::len);
        let reader = FetchSpool::passing(self.store.layout().clone(), &claim, self.limits.answer_bytes_max);
        spool_refs(answer, Arc::clone(reader.spool()), (self.paused.clone(), address));
        send((reader, len), claim, self.limits).await
    }

    /// Receives a request, and answers it by the refs of before.
    #[cfg(test)]
    pub(super) async fn fetch<R>(
        &self,
        found: (&Path, &Advertised),
        address: IpAddr,
        protocol: Option<GitProtocol>,
        body: R,
    ) -> Result<FetchAnswer, UploadPackError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        self.answer(found, self.receive(address, protocol, body).await?).await
    }

    /// Finds out what a request asks for.
    async fn understand(
        &self,
        (path, advertised): (&Path, &Advertised),
        mut request: PackRequest,
    ) -> Result<Fetch, UploadPackError> {
        let mut parser = AskedParser::new(path, advertised, request.protocol.as_ref());
        while let Some(bytes) = request.bytes.next().await.map_err(UploadPackError::Failed)? {
            parser.take(&bytes);
        }
        request.bytes.rewind();
        let asked = parser.asked(path);
        let has_part = !asked.wants_tip || has_any(path, asked.haves).await;
        Ok(Fetch {
            path: path.to_owned(),
            request,
            kind: match has_part {
                true => FetchKind::Part,
                false => FetchKind::Clone,
            },
            key: asked.key,
        })
    }

    /// Returns the answer from its beginning: one that is kept, or one that git begins.
    async fn open(&self, fetch: Fetch) -> Result<SpoolReader, UploadPackError> {
        let turn = timeout(self.limits.queue_wait_max, self.turn(&fetch)).await;
        let layout = self.store.layout().clone();
        let (turn, writing) = match turn.map_err(|_| UploadPackError::Busy)? {
            Awaited::Kept(answer) => return Ok(FetchSpool::of_whole(layout, &fetch.request.claim, answer)),
            Awaited::Git(turn, writing) => (turn, writing),
        };
        if fetch.key.is_some() {
            self.answers.count_git();
        }
        let reader = FetchSpool::begin(layout, &fetch.request.claim, self.limits.answer_bytes_max, writing);
        self.let_git_answer(fetch, turn, Filling(Arc::clone(reader.spool())))?;
        Ok(reader)
    }

    /// Waits for a slot, or for the answer. If another request's git process writes that answer, waits a moment for it,
    /// outside the queue.
    async fn turn(&self, fetch: &Fetch) -> Awaited {
        let acquired = self.slots.acquire(fetch.kind, fetch.request.address);
        let Some(key) = fetch.key.as_ref().filter(|_| self.answers.per_repository_max() > 0) else {
            return Awaited::Git(acquired.await, None);
        };
        let mut news = self.answers.news();
        let patience = sleep(self.limits.another_wait_max);
        tokio::pin!(acquired, patience);
        let writing = loop {
            match self.answers.seek(key) {
                Sought::Kept(answer) => return Awaited::Kept(answer),
                Sought::Nowhere(writing) => break writing,
                Sought::WrittenForAnother => {}
            }
            tokio::select! {
                // The sender is here as well.
                _ = news.changed() => {}
                () = &mut patience => break self.answers.begin(key),
            }
        };
        loop {
            tokio::select! {
                biased;
                _ = news.changed() => {
                    if let Some(answer) = self.answers.find(key) {
                        return Awaited::Kept(answer);
                    }
                }
                turn = &mut acquired => return Awaited::Git(turn, Some(writing)),
            }
        }
    }

    /// Whether there is room for an answer to keep; if not, kept answers are dropped. If the free space is unknown,
    /// there is no room.
    async fn is_disk_free(&self) -> bool {
        let layout = self.store.layout().clone();
        let needed = self.limits.disk_free_min.saturating_add(self.limits.answer_bytes_max);
        let answers = self.answers.clone();
        let is_free = in_background(move || {
            let is_free = bytes_free(layout.root()).is_ok_and(|free| free >= needed);
            if !is_free {
                answers.give_way();
            }
            is_free
        });
        is_free.await
    }

    fn let_git_answer(&self, fetch: Fetch, turn: FetchTurn, answer: Filling) -> Result<(), GitError> {
        let git_run = GitRun {
            child: self.spawn(&fetch.path, fetch.request.protocol.as_ref())?,
            request: fetch.request.bytes,
            answer: Arc::clone(&answer.0),
            slot: FetchSlot {
                slots: self.slots.clone(),
                kind: fetch.kind,
                paused: self.paused.clone(),
                reader: fetch.request.address,
                slot: Some(turn),
                waited: Duration::ZERO,
            },
        };
        let this = self.clone();
        // A task of its own: keeping the answer does not depend on its first reader.
        tokio::spawn(async move {
            match git_run.run(this.limits.duration_max).await {
                Ok(GitEnd::Abandoned) => {}
                Ok(end @ (GitEnd::Answered | GitEnd::Refused)) => this.finish(fetch.key.as_ref(), &answer.0, end).await,
                Err(error) => tracing::warn!(%error, "git could not answer a fetch"),
            }
        });
        Ok(())
    }

    /// Ends an answer that git has written, and keeps it if it is worth it.
    async fn finish(&self, key: Option<&AnswerKey>, answer: &FetchSpool, end: GitEnd) {
        let writing = answer.take_writing();
        answer.end(SpoolEnd::Whole);
        let (Some(key), len) = (key, answer.len()) else {
            return;
        };
        self.answers.note_len(key, len);
        let writing = writing.filter(|writing| end == GitEnd::Answered && writing.is_kept_with(len));
        let Some(writing) = writing else { return };
        if self.has_tags_of(key).await && self.is_disk_free().await {
            match answer.whole().await {
                Ok(answer) => writing.keep(answer).await,
                Err(error) => tracing::warn!(%error, "cannot keep an answer"),
            }
        }
    }

    /// Whether the tags are those that a key names. git may have seen others than this process before.
    async fn has_tags_of(&self, key: &AnswerKey) -> bool {
        let Some(tags) = key.tags else {
            return true;
        };
        let refs = self.store.cached_refs_of(key.repository.to_path_buf()).await;
        refs.is_ok_and(|refs| refs.is_some_and(|refs| tags_of(&refs) == tags))
    }

    fn spawn(&self, path: &Path, protocol: Option<&GitProtocol>) -> Result<ChildProcess, GitError> {
        let mut invocation = self
            .store
            .git()
            .invoke("upload-pack")
            // Exactly this path: no `.git` tried behind it.
            .arg("--strict")
            .arg("--stateless-rpc")
            .arg(path)
            .limits(ChildLimits {
                memory_bytes: self.limits.memory_bytes_max,
                cpu_secs: self.limits.cpu_secs_max,
                file_bytes: SCRATCH_BYTES_MAX,
            });
        if let Some(protocol) = protocol {
            invocation = invocation.env("GIT_PROTOCOL", protocol.as_str());
        }
        invocation.spawn(Stdio::piped())
    }
}

/// Whether any of these objects is in the repository at `path`: a client that has one already has a part of it. If this
/// cannot be determined: no.
async fn has_any(path: &Path, oids: Vec<Oid>) -> bool {
    if oids.is_empty() {
        return false;
    }
    let found = object_kinds(vec![path.join("objects")], oids).await;
    found.is_ok_and(|found| !found.is_empty())
}

/// A git that waits for its reader costs the memory of its list of objects and no CPU.
const PAUSED_PER_SLOT: usize = 2;
/// What upload-pack may write to disk: nothing of size.
const SCRATCH_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use bytes::BytesMut;
    use futures_util::StreamExt;
    use futures_util::future::join_all;
    use futures_util::stream;
    use tokio::io::AsyncReadExt;
    use tokio_util::io::StreamReader;

    use super::*;
    use crate::fetch::advertised::Offer;
    use crate::http::body::Body;
    use crate::repositories::refs::RefSnapshot;
    use crate::repositories::repository::Repository;
    use crate::repositories::testing::World;
    use crate::repositories::testing::imported_refs;
    use wire::path::GitService;
    use wire::pkt_line::PktLine;

    const READER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A request that comes in pieces.
    fn body(request: &[u8]) -> Body {
        let chunks: Vec<io::Result<_>> = request
            .chunks(11)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        Box::pin(StreamReader::new(stream::iter(chunks)))
    }

    /// A request that does not end.
    fn pending() -> Body {
        Box::pin(StreamReader::new(stream::pending::<io::Result<Bytes>>()))
    }

    /// The refs of a virtual repository.
    fn none() -> Advertised {
        Advertised::new(Arc::new(RefSnapshot::empty()))
    }

    fn v2() -> Option<GitProtocol> {
        GitProtocol::parse("version=2")
    }

    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut out = BytesMut::new();
        for line in lines {
            match *line {
                "0000" => PktLine::Flush.encode(&mut out),
                "0001" => PktLine::Delimiter.encode(&mut out),
                line => PktLine::Data(line.as_bytes()).encode(&mut out),
            }
        }
        out.to_vec()
    }

    fn fetch_of(oid: Oid) -> Vec<u8> {
        let want = format!("want {oid}\n");
        lines(&[
            "command=fetch\n",
            "object-format=sha1",
            "0001",
            "no-progress\n",
            &want,
            "done\n",
            "0000",
        ])
    }

    fn server(world: &World, limits: UploadPackLimits) -> UploadPack {
        UploadPack::new(world.store.clone(), limits)
    }

    /// Returns what the packets of an answer carry, less band numbers, and what follows without packets.
    fn joined(mut answer: &[u8]) -> Vec<u8> {
        let mut joined = Vec::new();
        while let Ok(Some((frame, len))) = PktLine::decode(answer) {
            if let PktLine::Data(data) = frame {
                joined.extend_from_slice(data.strip_prefix(b"\x01").unwrap_or(data));
            }
            answer = &answer[len..];
        }
        joined.extend_from_slice(answer);
        joined
    }

    async fn whole(answer: FetchAnswer) -> io::Result<Vec<u8>> {
        let chunks: Vec<_> = answer.into_stream().collect().await;
        chunks.into_iter().try_fold(Vec::new(), |mut whole, chunk| {
            whole.extend_from_slice(&chunk?);
            Ok(whole)
        })
    }

    /// A repository whose pack is too large for all buffers on the way.
    async fn large(world: &World) -> (Repository, Oid) {
        let repository = world.repository("large");
        let seed = std::iter::successors(Some(1u32), |x| {
            Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
        });
        let noise: Vec<u8> = seed.take(3 << 20).map(|x| (x >> 24) as u8).collect();
        let blob = world.oid(&repository, &["hash-object", "-w", "--stdin"], &noise).await;
        let tree = world
            .oid(&repository, &["mktree"], format!("100644 blob {blob}\tx\n").as_bytes())
            .await;
        let commit = world
            .oid(&repository, &["commit-tree", "-m", "x", &tree.to_string()], b"")
            .await;
        world
            .git(
                &repository,
                &["update-ref", "refs/heads/master", &commit.to_string()],
                b"",
            )
            .await;
        (repository, commit)
    }

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

                let found = (repository.path(), &none());
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
        let of_repository = server.fetch((path, &refs), READER, v2(), body(&ls_refs)).await;
        let of_virtual = server.fetch((path, &none()), READER, v2(), body(&ls_refs)).await;
        let probe = server.fetch((path, &refs), READER, None, body(b"0000")).await;
        let fetch = server.fetch((path, &refs), READER, v2(), body(&fetch_of(commit))).await;

        let of_repository = String::from_utf8(whole(of_repository.unwrap()).await.unwrap()).unwrap();
        assert!(of_repository.contains(&format!("{commit} HEAD symref-target:refs/heads/master")));
        let unborn = "0030unborn HEAD symref-target:refs/heads/master\n0000";
        assert_eq!(whole(of_virtual.unwrap()).await.unwrap(), unborn.as_bytes());
        assert!(whole(probe.unwrap()).await.unwrap().is_empty());
        assert!(matches!(fetch, Err(UploadPackError::Busy)));
    }

    /// Advertisements of version 1 and unusual lists of refs were in memory for as long as their readers took nothing:
    /// 7 MB for each connection, where there are 100,000 refs.
    #[tokio::test]
    async fn what_nobody_reads_of_long_lists_is_on_disk_and_the_refs_are_not_kept_for_it() {
        let world = World::new().await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let refs = Arc::new(imported_refs(20_000));
        let advertised = Advertised::new(Arc::clone(&refs));
        let usual = lines(&["command=ls-refs", "0001", "peel", "symrefs", "unborn", "0000"]);
        let unusual = lines(&["command=ls-refs", "0001", "symrefs", "unborn", "0000"]);
        let mut answers = Vec::new();
        for request in [usual, unusual] {
            let (path, protocol) = (world.store.layout().empty_repository(), v2());
            let answer = server
                .fetch((&path, &advertised), READER, protocol, body(&request))
                .await;
            answers.push((answer.unwrap(), RefAnswer::whole(&refs, LsRefs::all())));
        }
        for service in [GitService::UploadPack, GitService::ReceivePack] {
            for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
                let (answer, expected) = match advertised.info_refs(service, version) {
                    Offer::Kept(body) => (RefAnswer::from(body.bytes.clone()), body.bytes),
                    Offer::Made(answer) => {
                        let Offer::Made(same) = advertised.info_refs(service, version) else {
                            panic!()
                        };
                        (answer, same.collect::<Vec<_>>().concat().into())
                    }
                };
                answers.push((server.send_refs(READER, answer).await.unwrap(), expected));
            }
        }
        let long: u64 = answers.iter().map(|(_, expected)| expected.len() as u64).sum();
        drop(advertised);

        let written = timeout(Duration::from_secs(30), async {
            while Arc::strong_count(&refs) > 1 {
                tokio::task::yield_now().await;
            }
        });

        assert!(written.await.is_ok(), "the refs are kept for those who read nothing");
        let (claims, on_disk) = server.fetches.in_use();
        assert_eq!(claims, answers.len());
        assert!(on_disk > long / 2, "{on_disk} of {long} bytes");
        for (answer, expected) in answers {
            assert!(matches!(answer, FetchAnswer::Streamed { .. }));
            assert!(whole(answer).await.unwrap() == expected);
        }
        assert_eq!(server.fetches.in_use(), (0, 0));
    }

    #[tokio::test]
    async fn long_lists_for_which_there_is_no_room_on_disk_come_as_they_are_read() {
        let world = World::new().await;
        let no_disk = UploadPackLimits {
            spool_bytes_max: 0,
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, no_disk);
        let refs = Arc::new(imported_refs(20_000));
        let list = || RefAnswer::begin(&refs, LsRefs::all());
        let slow = server.send_refs(READER, list()).await.unwrap();

        let quick = server.send_refs(READER, list()).await.unwrap();

        let expected = RefAnswer::whole(&refs, LsRefs::all());
        assert!(whole(quick).await.unwrap() == expected);
        assert!(whole(slow).await.unwrap() == expected);
        assert_eq!((server.fetches.in_use(), server.paused.in_use()), ((0, 0), (0, 0)));
    }

    #[tokio::test]
    async fn what_git_refuses_it_says_itself() {
        let world = World::new().await;
        let missing: Oid = "1234567890123456789012345678901234567890".parse().unwrap();
        let server = server(&world, UploadPackLimits::DEFAULT);

        let empty = world.store.layout().empty_repository();
        let answer = server
            .fetch((&empty, &none()), READER, v2(), body(&fetch_of(missing)))
            .await;
        let answer = answer.unwrap();

        let answer = String::from_utf8(whole(answer).await.unwrap()).unwrap();
        assert!(answer.contains("ERR upload-pack: not our ref"), "{answer}");
    }

    #[tokio::test]
    async fn requests_that_are_none_are_refused() {
        let world = World::new().await;
        let limits = UploadPackLimits {
            request_bytes_max: 1000,
            stall_max: Duration::from_millis(200),
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, limits);
        let empty = world.store.layout().empty_repository();
        let long = [&lines(&["command=ls-refs", "0001"])[..], &lines(&["ref-prefix x"; 100])].concat();
        let start = || body(b"0014command=ls-re");
        let broken = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset));
        for (name, body, expected) in [
            ("empty", body(b""), "Malformed(\"it ends too early"),
            ("cut", start(), "Malformed(\"it ends too early"),
            ("other", body(b"GET /"), "PktLine"),
            ("delimiter", body(b"0001"), "Malformed(\"unexpected"),
            (
                "argument",
                body(&lines(&["command=ls-refs", "0001", "x", "0000"])),
                "Malformed(\"unexpected",
            ),
            ("long", body(&long), "Body(TooLong"),
            ("stalled", Box::pin(start().chain(pending())), "Body(Stalled"),
            (
                "broken",
                Box::pin(start().chain(StreamReader::new(stream::iter([broken])))),
                "Body(Broken",
            ),
        ] {
            let refused = server.fetch((&empty, &none()), READER, v2(), body).await.err().unwrap();

            assert!(format!("{refused:?}").starts_with(expected), "{name}: {refused:?}");
        }
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
            let fetch = |address| server.fetch((repository.path(), &refs), address, v2(), body(&fetch_of(commit)));
            let expected = whole(fetch(READER).await.unwrap()).await.unwrap();

            let mut slow = vec![fetch(stranger).await.unwrap(), fetch(stranger).await.unwrap()];
            let quick = whole(fetch(READER).await.unwrap()).await.unwrap();
            let late = whole(slow.remove(0)).await;

            assert!(joined(&quick) == joined(&expected));
            // Where all of the disk's share is in use, the stranger's answers may end for the other reader's.
            assert!(spool_bytes_max == 1 << 20 || joined(&late.unwrap()) == joined(&expected));
            drop(slow);
            let freed = timeout(Duration::from_secs(10), async {
                while (server.fetches.in_use(), server.slots.in_use()) != ((0, 0), 0) {
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
            server.fetch((repository.path(), &refs), address, v2(), body(&fetch_of(commit)))
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

    #[tokio::test]
    async fn a_client_that_sleeps_is_cut_off_and_can_tell() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let brief = UploadPackLimits {
            stall_max: Duration::from_millis(100),
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, brief);
        let answer = server
            .fetch((repository.path(), &none()), READER, v2(), body(&fetch_of(commit)))
            .await;
        let answer = answer.unwrap();

        let freed = timeout(Duration::from_secs(10), async {
            while server.fetches.in_use() != (0, 0) {
                tokio::task::yield_now().await;
            }
        });
        assert!(freed.await.is_ok());
        let read = whole(answer).await;

        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_client_that_stops_asking_is_cut_off() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let brief = UploadPackLimits {
            stall_max: Duration::from_millis(100),
            ..UploadPackLimits::DEFAULT
        };
        let request = fetch_of(commit);
        let half = AsyncReadExt::chain(body(&request[..request.len() - 9]), pending());

        let answer = server(&world, brief)
            .fetch((repository.path(), &none()), READER, v2(), half)
            .await;

        assert!(matches!(answer, Err(UploadPackError::Body(_))));
    }
    /// Returns the refs of a repository as readers find them. A client that has read the beginning of an answer must
    /// see that the rest is missing, and no other client gets it.
    #[tokio::test]
    async fn an_answer_whose_git_dies_is_cut_off_and_not_kept() {
        let world = World::whose_git_can_be_killed().await;
        let (repository, commit) = large(&world).await;
        let (server, advertised) = (server(&world, UploadPackLimits::DEFAULT), refs(&repository).await);
        let request = fetch_of(commit);
        world.fail_git("upload-pack", "git \"$@\" | head -c 1000000; kill -KILL $$");

        for _ in 0..3 {
            let found = (repository.path(), &advertised);
            let answer = server.fetch(found, READER, v2(), body(&request)).await.unwrap();
            let chunks: Vec<_> = answer.into_stream().collect().await;

            let (last, before) = chunks.split_last().unwrap();
            assert!(last.is_err() && before.iter().all(Result::is_ok));
            assert!(before.iter().flatten().map(Bytes::len).sum::<usize>() <= 1_000_000);
        }
        assert_eq!((sources(&server), server.answer_load().bytes), ([3, 0], 0));
    }

    async fn refs(repository: &Repository) -> Advertised {
        Advertised::new(repository.cached_refs().await.unwrap().unwrap())
    }

    /// How many answers came from git, and from one that was kept.
    fn sources(server: &UploadPack) -> [u64; 2] {
        server.answer_load().sources
    }

    async fn cloned(server: &UploadPack, repository: &Repository, request: &[u8]) -> Vec<u8> {
        let refs = refs(repository).await;
        let answer = server
            .fetch((repository.path(), &refs), READER, v2(), body(request))
            .await;
        joined(&whole(answer.unwrap()).await.unwrap())
    }

    #[tokio::test]
    async fn clones_at_once_cost_one_git_and_the_next_none() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let patient = UploadPackLimits {
            another_wait_max: Duration::from_secs(60),
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, patient);
        let request = fetch_of(commit);

        let all = join_all((0..8).map(|_| cloned(&server, &repository, &request))).await;

        assert!(all.iter().all(|answer| *answer == all[0] && answer.len() > 3 << 20));
        assert_eq!(sources(&server), [1, 7]);
        assert!(cloned(&server, &repository, &request).await == all[0]);
        assert_eq!(sources(&server), [1, 8]);
        assert_eq!(server.fetches.in_use(), (0, 0), "what is kept is in nobody's share");
    }

    #[tokio::test]
    async fn what_was_asked_for_twice_is_kept_and_nothing_else_is() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let once = cloned(&server, &repository, &fetch_of(commit)).await;
        assert_eq!(server.answer_load().bytes, 0);

        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(cloned(&server, &repository, &fetch_of(commit)).await);
        }

        assert!(answers.iter().all(|answer| *answer == once));
        assert_eq!(sources(&server), [2, 2]);
        assert!(server.answer_load().bytes > 3 << 20);
    }

    /// A client that declines tags gets the kept answer; one that takes them does not, once there are other tags.
    #[tokio::test]
    async fn other_refs_are_another_answer() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let want = format!("want {commit}\n");
        let with_tags = lines(&["command=fetch", "0001", "include-tag\n", &want, "done\n", "0000"]);
        for request in [&with_tags, &fetch_of(commit)] {
            for _ in 0..2 {
                cloned(&server, &repository, request).await;
            }
        }
        world
            .git(&repository, &["tag", "-a", "-m", "x", "one", &commit.to_string()], b"")
            .await;

        cloned(&server, &repository, &with_tags).await;
        assert_eq!(sources(&server), [5, 0]);
        cloned(&server, &repository, &fetch_of(commit)).await;
        assert_eq!(sources(&server), [5, 1]);

        // It is not a ref any more: git is asked, which may have it still.
        world
            .git(&repository, &["update-ref", "-d", "refs/heads/master"], b"")
            .await;
        world.git(&repository, &["tag", "-d", "one"], b"").await;
        cloned(&server, &repository, &fetch_of(commit)).await;
        assert_eq!(sources(&server), [5, 1]);
    }

    #[tokio::test]
    async fn a_repository_keeps_no_more_than_its_part() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let want = format!("want {commit}\n");
        let shallow = lines(&["command=fetch", "0001", "deepen 1\n", &want, "done\n", "0000"]);
        let limits = |kept_bytes_max| UploadPackLimits {
            kept_bytes_max,
            ..UploadPackLimits::DEFAULT
        };
        // Room for one of two.
        let one = server(&world, limits(16 << 20));
        for request in [&fetch_of(commit), &shallow] {
            for _ in 0..3 {
                cloned(&one, &repository, request).await;
            }
        }
        assert_eq!(sources(&one), [4, 2]);
        cloned(&one, &repository, &fetch_of(commit)).await;
        assert_eq!(sources(&one), [5, 2]);
        assert!(one.answer_load().bytes <= 4 << 20);

        for too_few in [8 << 20, 0] {
            let server = server(&world, limits(too_few));
            let request = fetch_of(commit);
            let answers = join_all((0..4).map(|_| cloned(&server, &repository, &request))).await;
            assert!(answers.iter().all(|answer| *answer == answers[0]));
            for _ in 0..3 {
                assert!(cloned(&server, &repository, &request).await == answers[0]);
            }
            assert_eq!((sources(&server)[1], server.answer_load().bytes), (0, 0));
        }
    }

    #[tokio::test]
    async fn who_waits_for_the_git_of_a_slow_one_has_its_own_in_the_end() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let limits = UploadPackLimits {
            another_wait_max: Duration::from_millis(10),
            answer_bytes_max: 1 << 20,
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, limits);
        let (refs, request) = (refs(&repository).await, fetch_of(commit));
        let slow = server.fetch((repository.path(), &refs), READER, v2(), body(&request));
        let slow = slow.await.unwrap();

        for _ in 0..3 {
            assert!(cloned(&server, &repository, &request).await.len() > 3 << 20);
        }

        assert!(whole(slow).await.unwrap().len() > 3 << 20);
        assert_eq!(
            (sources(&server)[1], server.answer_load().bytes),
            (0, 0),
            "no beginning was left"
        );
    }

    /// A clone with a word that git does not know took the slot that is not for clones.
    #[tokio::test]
    async fn a_clone_is_one_whatever_else_it_says() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let refs = refs(&repository).await;
        let tree = world.oid(&repository, &["rev-parse", "HEAD^{tree}"], b"").await;
        let (want, missing) = (format!("want {commit}\n"), format!("have {}1\n", "0".repeat(39)));
        let (have, object) = (format!("have {commit}\n"), format!("want {tree}\n"));
        for (lines_of, expected) in [
            (vec!["command=fetch", "0001", &want, "done", "0000"], FetchKind::Clone),
            (
                vec!["command=fetch", "0001", &want, &missing, "done", "0000"],
                FetchKind::Clone,
            ),
            (
                vec!["command=fetch", "server-option=x", "0001", &want, "0000"],
                FetchKind::Clone,
            ),
            (
                vec!["command=fetch", "0001", &object, &want, "wait-for-done", "0000"],
                FetchKind::Clone,
            ),
            (
                vec!["command=fetch", "0001", &want, &missing, &have, "0000"],
                FetchKind::Part,
            ),
            (vec!["command=fetch", "0001", &object, "done", "0000"], FetchKind::Part),
        ] {
            let request = server.receive(READER, v2(), body(&lines(&lines_of))).await.unwrap();
            let ReceivedFetch::Pack(request) = request else {
                panic!()
            };
            let fetch = server.understand((repository.path(), &refs), request).await.unwrap();
            assert_eq!(fetch.kind, expected, "{lines_of:?}");
        }
    }

    #[tokio::test]
    async fn who_comes_when_the_first_has_gone_gets_all_of_it() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let (refs, request) = (refs(&repository).await, fetch_of(commit));
        for _ in 0..3 {
            let gone = server.fetch((repository.path(), &refs), READER, v2(), body(&request));
            drop(gone.await.unwrap());

            assert!(cloned(&server, &repository, &request).await.len() > 3 << 20);
        }
    }
}
