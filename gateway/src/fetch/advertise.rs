//! What a repository offers: the answers to `info/refs`, written natively and byte for byte as git writes them
//! (docs/facts/git-http.md 2.1).
//!
//! What git can do is asked of the git that will do it, once, at start.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use shared::git::Oid;
use shared::git::RefName;

use crate::git::command::Git;
use crate::git::error::GitError;
use crate::repositories::layout::in_background;
use crate::repositories::refs::Head;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::RepositoryStore;
use wire::pkt_line::PktLine;
use wire::protocol::ProtocolVersion;

/// The capabilities of this server's git, in the form of each protocol version.
#[derive(Debug, Clone)]
pub(crate) struct Advertisements {
    /// The capabilities of upload-pack in version 0, up to where `symref=` goes, and the rest.
    upload_pack: (String, String),
    /// The whole advertisement of upload-pack in version 2, the same for every repository.
    upload_pack_v2: Bytes,
    receive_pack: String,
}

/// Why git could not be asked what it can do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Its advertisement has another form than git's.
    #[error("git advertises nothing that could be understood")]
    Form,
}

impl Advertisements {
    /// Asks git for its capabilities, with the configuration that it will serve with.
    ///
    /// # Errors
    /// [`CaptureError`]
    pub(crate) async fn capture(repositories: &RepositoryStore) -> Result<Self, CaptureError> {
        // A repository with a ref: before git 2.41 an empty one advertises no capabilities in version 0.
        let path = repositories.layout().fresh_quarantine();
        let captured = capture_from(repositories.git(), &path).await;
        in_background(move || {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(%error, "cannot remove a scratch repository; the next start sweeps it");
            }
        })
        .await;
        let (v0, upload_pack_v2) = captured?;
        let (first, _) = PktLine::decode(&v0).ok().flatten().ok_or(CaptureError::Form)?;
        let PktLine::Data(line) = first else {
            return Err(CaptureError::Form);
        };
        let line = std::str::from_utf8(line).map_err(|_| CaptureError::Form)?;
        let (_, capabilities) = line.trim_end().split_once('\0').ok_or(CaptureError::Form)?;
        let agent = capabilities
            .split(' ')
            .find(|word| word.starts_with("agent="))
            .ok_or(CaptureError::Form)?;
        let symref = format!(" symref=HEAD:{CAPTURE_REF}");
        let (before, after) = capabilities.split_once(&symref).ok_or(CaptureError::Form)?;
        Ok(Self {
            receive_pack: format!("{RECEIVE_PACK} {agent}"),
            upload_pack: (before.to_owned(), after.to_owned()),
            upload_pack_v2: upload_pack_v2.into(),
        })
    }

    /// Returns what clients that fetch are told first.
    pub(crate) fn upload_pack(&self, version: ProtocolVersion, refs: &RefSnapshot) -> Bytes {
        if version == ProtocolVersion::V2 {
            return self.upload_pack_v2.clone();
        }
        let (before, after) = &self.upload_pack;
        let head = refs.head_oid();
        let symref = match (&refs.head, head) {
            (Head::Symbolic(name), Some(_)) => format!(" symref=HEAD:{name}"),
            (Head::Symbolic(_) | Head::Detached(_), _) => String::new(),
        };
        let mut writer = Writer::new("git-upload-pack", version, format!("{before}{symref}{after}"));
        if let Some(oid) = head {
            writer.line(oid, "HEAD");
        }
        for (name, oid) in visible(refs) {
            writer.line(*oid, name.as_str());
            if let Some(peeled) = refs.peeled.get(name) {
                writer.line(*peeled, &format!("{name}^{{}}"));
            }
        }
        writer.finish()
    }

    /// Returns what clients that push are told first. There is no version 2 of pushing: git answers such a client in
    /// version 0, and so does this.
    pub(crate) fn receive_pack(&self, version: ProtocolVersion, refs: &RefSnapshot) -> Bytes {
        let mut writer = Writer::new("git-receive-pack", version, self.receive_pack.clone());
        for (name, oid) in visible(refs) {
            writer.line(*oid, name.as_str());
        }
        writer.finish()
    }
}

/// Returns the refs that clients may see, in git's order.
pub(crate) fn visible(refs: &RefSnapshot) -> impl Iterator<Item = (&RefName, &Oid)> {
    let hidden = |name: &RefName| name.as_str().starts_with(HIDDEN);
    refs.refs.iter().filter(move |(name, _)| !hidden(name))
}

struct Writer {
    out: BytesMut,
    /// Goes behind the first ref, or behind a line that stands for none.
    capabilities: Option<String>,
}

impl Writer {
    fn new(service: &str, version: ProtocolVersion, capabilities: String) -> Self {
        let mut out = BytesMut::new();
        PktLine::Data(format!("# service={service}\n").as_bytes()).encode(&mut out);
        PktLine::Flush.encode(&mut out);
        if version == ProtocolVersion::V1 {
            PktLine::Data(b"version 1\n").encode(&mut out);
        }
        Self {
            out,
            capabilities: Some(capabilities),
        }
    }

    fn line(&mut self, oid: Oid, name: &str) {
        let line = match self.capabilities.take() {
            Some(capabilities) => format!("{oid} {name}\0{capabilities}\n"),
            None => format!("{oid} {name}\n"),
        };
        PktLine::Data(line.as_bytes()).encode(&mut self.out);
    }

    fn finish(mut self) -> Bytes {
        if let Some(capabilities) = self.capabilities.take() {
            let null = "0".repeat(2 * Oid::LEN);
            let line = format!("{null} capabilities^{{}}\0{capabilities}\n");
            PktLine::Data(line.as_bytes()).encode(&mut self.out);
        }
        PktLine::Flush.encode(&mut self.out);
        self.out.freeze()
    }
}

/// Makes a repository with one commit at `path` and returns git's advertisements of it, version 0 and 2.
async fn capture_from(git: &Git, path: &Path) -> Result<(Vec<u8>, Vec<u8>), GitError> {
    git.invoke("init")
        .arg("--quiet")
        .arg("--bare")
        .arg("--template=")
        .arg("--initial-branch=master")
        .arg(path)
        .output(b"", DEADLINE)
        .await?;
    let write = async |kind: &str, content: &str| {
        let write = git.invoke("hash-object").repository(path);
        let oid = write
            .arg("-w")
            .arg("--stdin")
            .arg("-t")
            .arg(kind)
            .output(content.as_bytes(), DEADLINE)
            .await?;
        Ok::<_, GitError>(String::from_utf8_lossy(&oid).trim_end().to_owned())
    };
    let tree = write("tree", "").await?;
    let who = "x <x> 0 +0000";
    let commit = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n");
    let commit = write("commit", &commit).await?;
    git.invoke("update-ref")
        .repository(path)
        .arg(CAPTURE_REF)
        .arg(commit)
        .output(b"", DEADLINE)
        .await?;
    let advertise = async |protocol: &str| {
        git.invoke("upload-pack")
            .env("GIT_PROTOCOL", protocol)
            .arg("--strict")
            .arg("--http-backend-info-refs")
            .arg(path)
            .output(b"", DEADLINE)
            .await
    };
    Ok((advertise("").await?, advertise("version=2").await?))
}

const CAPTURE_REF: &str = "refs/heads/master";
/// What this server's own receive-pack can do. No `push-options` and no `push-cert`: see command_list.rs.
const RECEIVE_PACK: &str =
    "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta object-format=sha1";
/// `transfer.hideRefs` in serving.gitconfig.
const HIDDEN: &str = "refs/grasp/";
const DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
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
            .arg("--http-backend-info-refs")
            .arg(path)
            .output(b"", DEADLINE)
            .await
            .unwrap();
        let service = format!("# service=git-{service}\n");
        let prefix = format!("{:04x}{service}0000", service.len() + 4);
        match (protocol, &refs[..]) {
            ("version=2", refs) if refs.starts_with(b"000eversion 2") => refs.to_vec(),
            (_, refs) => [prefix.as_bytes(), refs].concat(),
        }
    }

    async fn assert_same(world: &World, repository: &Repository) {
        let advertisements = Advertisements::capture(&world.store).await.unwrap();
        let refs = repository.refs().await.unwrap().unwrap();
        for (version, protocol) in VERSIONS {
            let expected = gits_own(world, repository.path(), "upload-pack", protocol).await;
            assert_eq!(advertisements.upload_pack(version, &refs), expected, "{protocol}");
            let expected = gits_own(world, repository.path(), "receive-pack", protocol).await;
            assert_eq!(advertisements.receive_pack(version, &refs), expected, "{protocol}");
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
            assert_eq!(world.quarantine_entries(), 0);
        }
    }

    #[tokio::test]
    async fn the_empty_repository_is_advertised_as_git_does() {
        for world in World::of_every_git().await {
            let advertisements = Advertisements::capture(&world.store).await.unwrap();
            let empty = world.store.layout().empty_repository();
            // Before 2.41 git says nothing at all of an empty repository in version 0; the later form is understood
            // by every client.
            let says_capabilities = world.store.git().version() >= GitVersion { major: 2, minor: 41 };

            for (version, protocol) in VERSIONS {
                let refs = RefSnapshot::empty();
                let expected = gits_own(&world, &empty, "receive-pack", protocol).await;
                assert_eq!(advertisements.receive_pack(version, &refs), expected);
                if says_capabilities || version == ProtocolVersion::V2 {
                    let expected = gits_own(&world, &empty, "upload-pack", protocol).await;
                    assert_eq!(advertisements.upload_pack(version, &refs), expected);
                }
            }
        }
    }
}
