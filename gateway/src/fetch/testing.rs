//! What tests of fetches share: requests as clients send them, a repository with a large pack, and whole answers.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream;
use shared::git::Oid;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::fetch::advertised::Advertised;
use crate::fetch::error::UploadPackError;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::receive::ReadableRepository;
use crate::fetch::sending::FetchAnswer;
use crate::fetch::server::UploadPack;
use crate::http::body::Body;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::Repository;
use crate::repositories::testing::World;
use wire::pkt_line::PktLine;
use wire::protocol::GitProtocol;

pub(super) const READER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A request that comes in pieces.
pub(super) fn body(request: &[u8]) -> Body {
    let chunks: Vec<io::Result<_>> = request
        .chunks(11)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    Body::plain(StreamReader::new(stream::iter(chunks)))
}

/// A request that does not end.
pub(super) fn pending() -> Body {
    Body::plain(StreamReader::new(stream::pending::<io::Result<Bytes>>()))
}

/// The refs of a virtual repository.
pub(super) fn none() -> Advertised {
    Advertised::new(Arc::new(RefSnapshot::empty()))
}

pub(super) fn v2() -> Option<GitProtocol> {
    GitProtocol::parse("version=2")
}

pub(super) fn lines(lines: &[&str]) -> Vec<u8> {
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

pub(super) fn fetch_of(oid: Oid) -> Vec<u8> {
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

pub(super) fn server(world: &World, limits: UploadPackLimits) -> UploadPack {
    UploadPack::new(world.store.clone(), limits)
}

/// Returns what the packets of an answer carry, less band numbers, and what follows without packets.
pub(super) fn joined(mut answer: &[u8]) -> Vec<u8> {
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

pub(super) async fn whole(answer: FetchAnswer) -> io::Result<Vec<u8>> {
    let chunks: Vec<_> = answer.into_stream().collect().await;
    chunks.into_iter().try_fold(Vec::new(), |mut whole, chunk| {
        whole.extend_from_slice(&chunk?);
        Ok(whole)
    })
}

/// A repository whose pack is too large for all buffers on the way.
pub(super) async fn large(world: &World) -> (Repository, Oid) {
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

/// Returns the refs of a repository as readers find them.
pub(super) async fn refs(repository: &Repository) -> Advertised {
    Advertised::new(repository.cached_refs().await.unwrap().unwrap())
}

/// How many answers came from git, and from one that was kept.
pub(super) fn sources(server: &UploadPack) -> [u64; 2] {
    server.answer_load().sources
}

pub(super) async fn cloned(server: &UploadPack, repository: &Repository, request: &[u8]) -> Vec<u8> {
    let refs = refs(repository).await;
    let answer = server
        .fetch(readable(repository.path(), &refs), READER, v2(), body(request))
        .await;
    joined(&whole(answer.unwrap()).await.unwrap())
}

/// Returns a repository with the refs that a client was told of.
pub(super) fn readable<'a>(path: &'a Path, advertised: &'a Advertised) -> ReadableRepository<'a> {
    ReadableRepository { path, advertised }
}

impl UploadPack {
    /// Receives a request, and answers it by the refs of before.
    pub(super) async fn fetch(
        &self,
        repository: ReadableRepository<'_>,
        address: IpAddr,
        protocol: Option<GitProtocol>,
        body: impl AsyncRead + Send + Sync + 'static,
    ) -> Result<FetchAnswer, UploadPackError> {
        let request = self.receiver.receive(address, protocol, Body::plain(body)).await?;
        self.answer(repository, request).await
    }
}
