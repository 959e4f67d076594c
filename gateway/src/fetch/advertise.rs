//! What a repository offers: the bodies of answers to `GET info/refs` (`gitprotocol-http(5)`, "Smart Server Response"),
//! but for the agent byte for byte as git writes them (docs/facts/git-http.md 2.1). Pure.

use std::fmt::Display;

use bytes::Bytes;
use bytes::BytesMut;
use shared::git::Oid;
use shared::git::RefName;

use crate::fetch::ref_answer::RefFormat;
use crate::repositories::refs::Head;
use crate::repositories::refs::RefSnapshot;
use wire::path::GitService;
use wire::pkt_line::PktLine;
use wire::protocol::ProtocolVersion;

/// The advertisement of a service by versions 0 and 1.
pub(crate) struct Advertisement {
    service: GitService,
    version: ProtocolVersion,
    /// What a push need not send either (`gitprotocol-pack(5)`, ".have").
    haves: Vec<Oid>,
    /// Follows the first ref, or a line that stands for none; `None`: it was written.
    capabilities: Option<String>,
}

impl Advertisement {
    pub(crate) fn to_fetch(version: ProtocolVersion, refs: &RefSnapshot) -> Self {
        let symref = match (&refs.head, refs.head_oid()) {
            (Head::Symbolic(name), Some(_)) => format!(" symref=HEAD:{name}"),
            (Head::Symbolic(_) | Head::Detached(_), _) => String::new(),
        };
        let capabilities = format!("{UPLOAD_PACK}{symref} filter object-format=sha1 {AGENT}");
        Self {
            service: GitService::UploadPack,
            version,
            haves: Vec::new(),
            capabilities: Some(capabilities),
        }
    }

    /// For clients that push. There is no version 2 of pushing: git answers such a client in version 0, and so does
    /// this. `haves` are additional objects that it need not send.
    pub(crate) fn to_push(version: ProtocolVersion, haves: Vec<Oid>) -> Self {
        Self {
            service: GitService::ReceivePack,
            version,
            haves,
            capabilities: Some(format!("{RECEIVE_PACK} {AGENT}")),
        }
    }

    fn line(&mut self, oid: Oid, name: impl Display, out: &mut BytesMut) {
        match self.capabilities.take() {
            Some(capabilities) => PktLine::encode_text(format_args!("{oid} {name}\0{capabilities}\n"), out),
            None => PktLine::encode_text(format_args!("{oid} {name}\n"), out),
        }
    }
}

impl RefFormat for Advertisement {
    fn begin(&mut self, refs: &RefSnapshot, out: &mut BytesMut) {
        PktLine::encode_text(format_args!("# service={}\n", self.service.as_str()), out);
        PktLine::Flush.encode(out);
        if self.version == ProtocolVersion::V1 {
            PktLine::Data(b"version 1\n").encode(out);
        }
        for oid in std::mem::take(&mut self.haves) {
            self.line(oid, ".have", out);
        }
        let head = refs.head_oid().filter(|_| self.service == GitService::UploadPack);
        if let Some(oid) = head {
            self.line(oid, "HEAD", out);
        }
    }

    fn add(&mut self, refs: &RefSnapshot, name: &RefName, oid: Oid, out: &mut BytesMut) {
        self.line(oid, name, out);
        let peeled = refs.peeled.get(name);
        if let Some(peeled) = peeled.filter(|_| self.service == GitService::UploadPack) {
            self.line(*peeled, format_args!("{name}^{{}}"), out);
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        if let Some(capabilities) = self.capabilities.take() {
            let null = "0".repeat(2 * Oid::LEN);
            PktLine::encode_text(format_args!("{null} capabilities^{{}}\0{capabilities}\n"), out);
        }
        PktLine::Flush.encode(out);
    }
}

/// Returns what is advertised to clients that fetch by version 2, the same for every repository.
pub(crate) fn capabilities() -> Bytes {
    let mut out = BytesMut::new();
    for line in UPLOAD_PACK_V2 {
        PktLine::encode_text(format_args!("{line}\n"), &mut out);
    }
    PktLine::Flush.encode(&mut out);
    out.freeze()
}

/// What every supported git can do with serving.gitconfig (`upload-pack.c`), up
/// to where `symref=` goes. A test compares it with what git itself advertises.
const UPLOAD_PACK: &str = "multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not \
                           deepen-relative no-progress include-tag multi_ack_detailed allow-tip-sha1-in-want \
                           allow-reachable-sha1-in-want no-done";
/// The same in version 2, for every repository (`serve.c`).
const UPLOAD_PACK_V2: [&str; 6] = [
    "version 2",
    AGENT,
    "ls-refs=unborn",
    "fetch=shallow wait-for-done filter",
    "server-option",
    "object-format=sha1",
];
/// What this server's own receive-pack can do, in git's order. Push options are ignored, but git aborts a push with
/// some where they are not offered. No `push-cert`: see command_list.rs.
const RECEIVE_PACK: &str = "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta \
                            push-options object-format=sha1";
/// What clients may log about this server.
const AGENT: &str = concat!("agent=grasp-gateway/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::fetch::ref_answer::RefAnswer;
    use crate::git::version::GitVersion;
    use crate::repositories::repository::Repository;
    use crate::repositories::testing::World;

    const VERSIONS: [(ProtocolVersion, &str); 3] = [
        (ProtocolVersion::V0, ""),
        (ProtocolVersion::V1, "version=1"),
        (ProtocolVersion::V2, "version=2"),
    ];

    /// What `git http-backend` would answer; it leaves the prefix out for version 2.
    async fn gits_own(world: &World, path: &Path, service: &str, protocol: &str) -> Vec<u8> {
        let git = world.store.git().invoke(service);
        let refs = git
            .env("GIT_PROTOCOL", protocol)
            .env("GIT_USER_AGENT", AGENT.trim_start_matches("agent="))
            .arg("--http-backend-info-refs")
            .arg(path)
            .output(b"", Duration::from_secs(30))
            .await
            .unwrap();
        let service = format!("# service=git-{service}\n");
        let prefix = format!("{:04x}{service}0000", service.len() + 4);
        match (protocol, &refs[..]) {
            // git 2.39 offers `object-info` too, which no client of git's asks for.
            ("version=2", refs) if refs.starts_with(b"000eversion 2") => {
                String::from_utf8_lossy(refs).replace("0010object-info\n", "").into()
            }
            (_, refs) => [prefix.as_bytes(), refs].concat(),
        }
    }

    fn upload_pack(version: ProtocolVersion, refs: &Arc<RefSnapshot>) -> Bytes {
        match version {
            ProtocolVersion::V2 => capabilities(),
            ProtocolVersion::V0 | ProtocolVersion::V1 => RefAnswer::whole(refs, Advertisement::to_fetch(version, refs)),
        }
    }

    fn receive_pack(version: ProtocolVersion, refs: &Arc<RefSnapshot>) -> Bytes {
        RefAnswer::whole(refs, Advertisement::to_push(version, Vec::new()))
    }

    async fn assert_same(world: &World, repository: &Repository) {
        let refs = Arc::new(repository.refs().await.unwrap().unwrap());
        for (version, protocol) in VERSIONS {
            let expected = gits_own(world, repository.path(), "upload-pack", protocol).await;
            assert_eq!(upload_pack(version, &refs), expected, "{protocol}");
            let expected = gits_own(world, repository.path(), "receive-pack", protocol).await;
            assert_eq!(receive_pack(version, &refs), expected, "{protocol}");
        }
    }

    #[tokio::test]
    async fn advertisements_are_gits_own_byte_for_byte() {
        for world in World::of_every_git().await {
            let repository = world.repository("a");
            world.many_refs(&repository).await;
            assert_same(&world, &repository).await;

            // HEAD unborn beside refs, then detached.
            world
                .git(&repository, &["symbolic-ref", "HEAD", "refs/heads/none"], b"")
                .await;
            assert_same(&world, &repository).await;
            let oid = world.oid(&repository, &["rev-parse", "refs/heads/main"], b"").await;
            fs::write(repository.path().join("HEAD"), format!("{oid}\n")).unwrap();
            assert_same(&world, &repository).await;
        }
    }

    #[tokio::test]
    async fn the_empty_repository_is_advertised_as_git_does() {
        for world in World::of_every_git().await {
            let empty = world.store.layout().empty_repository();
            // Before 2.41 git sends nothing for an empty repository in version 0; every client understands the later
            // form.
            let says_capabilities = world.store.git().version() >= GitVersion::of(2, 41, 0);

            for (version, protocol) in VERSIONS {
                let refs = Arc::new(RefSnapshot::empty());
                let expected = gits_own(&world, &empty, "receive-pack", protocol).await;
                assert_eq!(receive_pack(version, &refs), expected);
                if says_capabilities || version == ProtocolVersion::V2 {
                    let expected = gits_own(&world, &empty, "upload-pack", protocol).await;
                    assert_eq!(upload_pack(version, &refs), expected);
                }
            }
        }
    }
}
