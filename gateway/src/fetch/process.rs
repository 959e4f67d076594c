//! Serving fetches: `ls-refs` natively, packs by `git upload-pack`, whose input and output stream at the same time.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fetch::conversation::Chunk;
use crate::fetch::conversation::Conversation;
use crate::fetch::error::UploadPackError;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::ls_refs::is_ls_refs;
use crate::fetch::request::FetchRequest;
use crate::process::ChildLimits;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;
use wire::protocol::GitProtocol;
use wire::protocol::ProtocolVersion;

/// What a client fetches from.
#[derive(Debug, Clone)]
pub(crate) enum FetchSource {
    /// A virtual repository: announced and without refs.
    Empty,
    /// A repository on disk.
    Repository(Repository),
}

/// Serves fetches. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct UploadPack {
    store: RepositoryStore,
    limits: UploadPackLimits,
    children: Arc<Semaphore>,
}

impl UploadPack {
    /// Makes a server of fetches within `limits`.
    pub(crate) fn new(store: RepositoryStore, limits: UploadPackLimits) -> Self {
        Self {
            children: Arc::new(Semaphore::new(limits.children_max)),
            store,
            limits,
        }
    }

    /// Answers the fetch request `body`, which is not compressed (any more). Dropping the answer ends the git that
    /// writes it.
    ///
    /// # Errors
    /// [`UploadPackError`] until the first byte of the answer; later an item of the answer is an error, and the answer
    /// must then be cut off, not ended.
    pub(crate) async fn fetch<R>(
        &self,
        target: FetchSource,
        protocol: Option<GitProtocol>,
        body: R,
    ) -> Result<UploadPackAnswer, UploadPackError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let mut request = FetchRequest::new(body, &self.limits);
        let version = protocol.as_ref().map_or(ProtocolVersion::V0, GitProtocol::version);
        match request.first_line().await? {
            // A probe, or a client that wants nothing after all.
            None => Ok(UploadPackAnswer::whole(Bytes::new())),
            Some(line) if version == ProtocolVersion::V2 && is_ls_refs(&line) => {
                let ls_refs = request.ls_refs().await?;
                let answer = match &target {
                    FetchSource::Empty => ls_refs.answer(&RefSnapshot::empty()),
                    FetchSource::Repository(repository) => {
                        let refs = repository.cached_refs().await?;
                        ls_refs.answer(&*refs.ok_or(UploadPackError::NoRepository)?)
                    }
                };
                Ok(UploadPackAnswer::whole(answer))
            }
            Some(_) => self.spawn(target, protocol, request).await,
        }
    }

    async fn spawn<R>(
        &self,
        target: FetchSource,
        protocol: Option<GitProtocol>,
        request: FetchRequest<R>,
    ) -> Result<UploadPackAnswer, UploadPackError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let path = self.path_of(target).await?;
        let permit = Arc::clone(&self.children).acquire_owned();
        let permit = timeout(self.limits.queue_wait_max, permit).await;
        let Ok(Ok(permit)) = permit else {
            return Err(UploadPackError::Busy);
        };
        let mut invocation = self
            .store
            .git()
            .invoke("upload-pack")
            // Exactly this path: no `.git` tried behind it.
            .arg("--strict")
            // Its own limit on silence, should ours fail.
            .arg("--timeout=60")
            .arg("--stateless-rpc")
            .arg(path)
            .limits(ChildLimits {
                memory_bytes: self.limits.memory_bytes_max,
                cpu_secs: self.limits.cpu_secs_max,
                file_bytes: SCRATCH_BYTES_MAX,
            });
        if let Some(protocol) = &protocol {
            invocation = invocation.env("GIT_PROTOCOL", protocol.as_str());
        }
        let child = invocation.spawn(Stdio::piped())?;
        let (sender, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(
            Conversation {
                child,
                request,
                sender,
                permit,
            }
            .run(self.limits),
        );
        // Until the first bytes a failure can still be told as one.
        match chunks.recv().await {
            Some(Chunk::Data(first)) => Ok(UploadPackAnswer {
                first: Some(first),
                rest: Some(chunks),
            }),
            Some(Chunk::End) => Ok(UploadPackAnswer::whole(Bytes::new())),
            None => Err(UploadPackError::Failed(cut_off())),
        }
    }

    async fn path_of(&self, target: FetchSource) -> Result<PathBuf, UploadPackError> {
        match target {
            FetchSource::Empty => Ok(self.store.layout().empty_repository()),
            FetchSource::Repository(repository) if repository.exists().await => Ok(repository.path().to_owned()),
            FetchSource::Repository(_) => Err(UploadPackError::NoRepository),
        }
    }
}

/// The answer to a fetch. An error in it means that the rest is missing.
#[must_use = "dropping it ends the answer"]
#[derive(Debug)]
pub(crate) struct UploadPackAnswer {
    first: Option<Bytes>,
    rest: Option<mpsc::Receiver<Chunk>>,
}

impl UploadPackAnswer {
    fn whole(bytes: Bytes) -> Self {
        Self {
            first: Some(bytes).filter(|bytes| !bytes.is_empty()),
            rest: None,
        }
    }
}

impl Stream for UploadPackAnswer {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let Poll::Ready(chunk) = rest.poll_recv(context) else {
            return Poll::Pending;
        };
        match chunk {
            Some(Chunk::Data(bytes)) => Poll::Ready(Some(Ok(bytes))),
            Some(Chunk::End) => {
                self.rest = None;
                Poll::Ready(None)
            }
            None => {
                self.rest = None;
                Poll::Ready(Some(Err(cut_off())))
            }
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "git upload-pack was cut off")
}

/// With the pipe in front and the socket behind, enough to keep both busy.
const CHUNKS_AHEAD: usize = 4;
/// What upload-pack may write to disk: nothing of size.
const SCRATCH_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;
    use futures_util::StreamExt;
    use futures_util::stream;
    use shared::git::Oid;
    use tokio::io::AsyncReadExt;
    use tokio_util::io::StreamReader;

    use super::*;
    use crate::http::body::Body;
    use crate::repositories::testing::World;
    use wire::pkt_line::PktLine;
    use wire::protocol::GitProtocol;

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

    async fn whole(answer: UploadPackAnswer) -> io::Result<Vec<u8>> {
        let chunks: Vec<_> = answer.collect().await;
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
            let server = server(&world, UploadPackLimits::default());
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

                let target = FetchSource::Repository(repository.clone());
                let answer = server.fetch(target, protocol, body(&request)).await.unwrap();

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
        let none = UploadPackLimits {
            children_max: 0,
            queue_wait_max: Duration::ZERO,
            ..UploadPackLimits::default()
        };
        let server = server(&world, none);
        let ls_refs = lines(&["command=ls-refs\n", "0001", "unborn", "symrefs", "0000"]);

        let of_repository = server
            .fetch(FetchSource::Repository(repository.clone()), v2(), body(&ls_refs))
            .await;
        let of_virtual = server.fetch(FetchSource::Empty, v2(), body(&ls_refs)).await;
        let probe = server.fetch(FetchSource::Empty, None, body(b"0000")).await;
        let fetch = server
            .fetch(FetchSource::Repository(repository), v2(), body(&fetch_of(commit)))
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
        let server = server(&world, UploadPackLimits::default());

        let answer = server
            .fetch(FetchSource::Empty, v2(), body(&fetch_of(missing)))
            .await
            .unwrap();

        let answer = String::from_utf8(whole(answer).await.unwrap()).unwrap();
        assert!(answer.contains("ERR upload-pack: not our ref"), "{answer}");
    }

    #[tokio::test]
    async fn requests_that_are_none_are_refused() {
        let world = World::new().await;
        let limits = UploadPackLimits {
            request_bytes_max: 1000,
            stall_max: Duration::from_millis(200),
            ..UploadPackLimits::default()
        };
        let server = server(&world, limits);
        let long = [&lines(&["command=ls-refs", "0001"])[..], &lines(&["ref-prefix x"; 100])].concat();
        let start = || body(b"0014command=ls-re");
        let broken = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset));
        for (name, body, expected) in [
            ("empty", body(b""), "Truncated"),
            ("cut", start(), "Truncated"),
            ("other", body(b"GET /"), "PktLine"),
            ("delimiter", body(b"0001"), "LsRefs"),
            (
                "argument",
                body(&lines(&["command=ls-refs", "0001", "x", "0000"])),
                "LsRefs",
            ),
            ("long", body(&long), "Body(TooLong"),
            ("stalled", Box::pin(start().chain(pending())), "Body(Stalled"),
            (
                "broken",
                Box::pin(start().chain(StreamReader::new(stream::iter([broken])))),
                "Body(Broken",
            ),
        ] {
            let refused = server.fetch(FetchSource::Empty, v2(), body).await.unwrap_err();

            assert!(format!("{refused:?}").starts_with(expected), "{name}: {refused:?}");
        }
        let absent = FetchSource::Repository(world.repository("absent"));
        for request in [
            fetch_of("1".repeat(40).parse().unwrap()),
            lines(&["command=ls-refs", "0000"]),
        ] {
            let refused = server.fetch(absent.clone(), v2(), body(&request)).await.unwrap_err();
            assert!(matches!(refused, UploadPackError::NoRepository));
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_frees_its_place_at_once() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let one = UploadPackLimits {
            children_max: 1,
            queue_wait_max: Duration::ZERO,
            ..UploadPackLimits::default()
        };
        let server = server(&world, one);
        let fetch = || {
            server.fetch(
                FetchSource::Repository(repository.clone()),
                v2(),
                body(&fetch_of(commit)),
            )
        };

        let answer = fetch().await.unwrap();
        assert!(matches!(fetch().await, Err(UploadPackError::Busy)));
        drop(answer);

        let again = timeout(Duration::from_secs(10), async {
            loop {
                match fetch().await {
                    Err(UploadPackError::Busy) => tokio::task::yield_now().await,
                    other => return other,
                }
            }
        });
        assert!(again.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_sleeps_is_cut_off_and_can_tell() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let brief = UploadPackLimits {
            stall_max: Duration::from_millis(100),
            ..UploadPackLimits::default()
        };
        let server = server(&world, brief);
        let target = FetchSource::Repository(repository);
        let answer = server.fetch(target, v2(), body(&fetch_of(commit))).await.unwrap();

        let freed = timeout(Duration::from_secs(10), server.children.acquire_many(4)).await;
        let read = whole(answer).await;

        assert!(freed.is_ok());
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_client_that_stops_asking_is_cut_off() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let brief = UploadPackLimits {
            stall_max: Duration::from_millis(100),
            ..UploadPackLimits::default()
        };
        let request = fetch_of(commit);
        let half = AsyncReadExt::chain(body(&request[..request.len() - 9]), pending());
        let target = FetchSource::Repository(repository);

        let answer = server(&world, brief).fetch(target, v2(), half).await;

        assert!(matches!(answer, Err(UploadPackError::Failed(_))), "{answer:?}");
    }
}
