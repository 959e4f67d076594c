//! Receiving the request of a fetch: all of it, before git begins or waits for a slot, and what it asks for.

use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use shared::git::Oid;
use shared::live::Live;

use crate::fairness::shares::Claim;
use crate::fairness::shares::Shares;
use crate::fetch::advertised::Advertised;
use crate::fetch::answer_key::AnswerKey;
use crate::fetch::asked::AskedParser;
use crate::fetch::error::UploadPackError;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::ls_refs::LsRefs;
use crate::fetch::ls_refs::is_ls_refs;
use crate::fetch::request::FetchRequest;
use crate::fetch::slot::FetchKind;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::SpoolEnd;
use crate::fetch::spool::SpoolReader;
use crate::http::body::Body;
use crate::http::body::BodyLimits;
use crate::repositories::layout::Layout;
use crate::repositories::objects::object_kinds;
use wire::protocol::GitProtocol;
use wire::protocol::ProtocolVersion;

#[derive(Debug, Clone)]
pub(super) struct FetchReceiver {
    pub(super) layout: Layout,
    /// Fetches by address, with their bytes on disk.
    pub(super) fetches: Shares,
    pub(super) limits: Live<UploadPackLimits>,
}

pub(crate) enum ReceivedFetch {
    /// A probe, or of a client that wants nothing after all.
    Nothing,
    /// For refs, of a client at this address.
    LsRefs(LsRefs, IpAddr),
    Pack(PackRequest),
}

pub(crate) struct PackRequest {
    pub(super) address: IpAddr,
    pub(super) protocol: Option<GitProtocol>,
    pub(super) claim: Arc<Claim>,
    pub(super) bytes: SpoolReader,
}

/// A repository that can be read, as a client was told of it.
#[derive(Clone, Copy)]
pub(crate) struct ReadableRepository<'a> {
    pub(crate) path: &'a Path,
    pub(crate) advertised: &'a Advertised,
}

pub(super) struct PackFetch {
    pub(super) path: PathBuf,
    pub(super) request: PackRequest,
    pub(super) kind: FetchKind,
    /// `None`: the answer is for this client only.
    pub(super) key: Option<AnswerKey>,
}

impl FetchReceiver {
    /// Receives the fetch request `body`, which is not compressed (any more), of a client at `address`. git does not
    /// wait for a client that asks slowly.
    ///
    /// # Errors
    /// [`UploadPackError`]: the request does not arrive, is malformed, or there is no room for it.
    pub(super) async fn receive(
        &self,
        address: IpAddr,
        protocol: Option<GitProtocol>,
        body: Body,
    ) -> Result<ReceivedFetch, UploadPackError> {
        let limits = self.limits.get();
        let limits = BodyLimits {
            bytes_max: limits.request_bytes_max,
            stall_max: limits.stall_max,
            duration_max: limits.duration_max,
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
        let claim = self.enter(address)?;
        let bytes = tokio::select! {
            biased;
            () = claim.ended() => return Err(UploadPackError::GaveWay),
            bytes = self.receive_rest(request, &claim) => bytes?,
        };
        Ok(ReceivedFetch::Pack(PackRequest {
            address,
            protocol,
            claim,
            bytes,
        }))
    }

    /// Claims a share for a fetch of a client at `address`.
    ///
    /// # Errors
    /// [`UploadPackError::Busy`]
    pub(super) fn enter(&self, address: IpAddr) -> Result<Arc<Claim>, UploadPackError> {
        self.fetches
            .enter(address)
            .map(Arc::new)
            .map_err(|_| UploadPackError::Busy)
    }

    async fn receive_rest(
        &self,
        mut request: FetchRequest,
        claim: &Arc<Claim>,
    ) -> Result<SpoolReader, UploadPackError> {
        let limits = self.limits.get();
        let reader = FetchSpool::begin(self.layout.clone(), claim, limits.request_bytes_max, None);
        let mut patience = limits.least_rate.begin();
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
}

impl PackRequest {
    /// Finds out what it asks of `repository`.
    ///
    /// # Errors
    /// [`UploadPackError::Failed`]: it cannot be read back from disk; `Malformed`: its filter is long.
    pub(super) async fn understand(mut self, repository: ReadableRepository<'_>) -> Result<PackFetch, UploadPackError> {
        let ReadableRepository { path, advertised } = repository;
        let mut parser = AskedParser::new(path, advertised, self.protocol.as_ref());
        while let Some(bytes) = self.bytes.next().await.map_err(UploadPackError::Failed)? {
            parser.take(&bytes);
        }
        self.bytes.rewind();
        let asked = parser.asked(path);
        if asked.has_long_filter {
            return Err(UploadPackError::Malformed("its filter has more than 256 bytes"));
        }
        let has_part = !asked.wants_tip || has_any(path, asked.haves).await;
        Ok(PackFetch {
            path: path.to_owned(),
            request: self,
            kind: match has_part {
                true => FetchKind::Incremental,
                false => FetchKind::Clone,
            },
            key: asked.key,
        })
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::stream;
    use tokio::io::AsyncReadExt;
    use tokio_util::io::StreamReader;

    use super::*;
    use crate::fetch::testing::READER;
    use crate::fetch::testing::body;
    use crate::fetch::testing::fetch_of;
    use crate::fetch::testing::large;
    use crate::fetch::testing::lines;
    use crate::fetch::testing::none;
    use crate::fetch::testing::pending;
    use crate::fetch::testing::readable;
    use crate::fetch::testing::refs;
    use crate::fetch::testing::server;
    use crate::fetch::testing::v2;
    use crate::repositories::testing::World;

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
            ("stalled", Body::plain(start().chain(pending())), "Body(Stalled"),
            (
                "broken",
                Body::plain(start().chain(StreamReader::new(stream::iter([broken])))),
                "Body(Broken",
            ),
        ] {
            let refused = server
                .fetch(readable(&empty, &none()), READER, v2(), body)
                .await
                .err()
                .unwrap();

            assert!(format!("{refused:?}").starts_with(expected), "{name}: {refused:?}");
        }
    }

    /// git asks each part of a filter about each object: a request of 64 KiB had ten thousand.
    #[tokio::test]
    async fn a_filter_of_many_parts_is_refused_before_git_begins() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let no_git = UploadPackLimits {
            children_max: 0,
            queue_wait_max: Duration::ZERO,
            ..UploadPackLimits::DEFAULT
        };
        let (server, refs, want) = (
            server(&world, no_git),
            refs(&repository).await,
            format!("want {commit}\n"),
        );
        for (parts, expected) in [(2, "Busy"), (9_000, "Malformed(\"its filter")] {
            let filter = format!("filter combine:{}\n", vec!["tree:1"; parts].join("+"));
            let request = lines(&["command=fetch", "0001", &want, &filter, "done", "0000"]);

            let answer = server
                .fetch(readable(repository.path(), &refs), READER, v2(), body(&request))
                .await;

            let refused = answer.err().unwrap();
            assert!(format!("{refused:?}").starts_with(expected), "{parts}: {refused:?}");
        }
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
            .fetch(readable(repository.path(), &none()), READER, v2(), half)
            .await;

        assert!(matches!(answer, Err(UploadPackError::Body(_))));
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
                FetchKind::Incremental,
            ),
            (
                vec!["command=fetch", "0001", &object, "done", "0000"],
                FetchKind::Incremental,
            ),
        ] {
            let request = server
                .receiver
                .receive(READER, v2(), body(&lines(&lines_of)))
                .await
                .unwrap();
            let ReceivedFetch::Pack(request) = request else {
                panic!()
            };
            let fetch = request.understand(readable(repository.path(), &refs)).await.unwrap();
            assert_eq!(fetch.kind, expected, "{lines_of:?}");
        }
    }
}
