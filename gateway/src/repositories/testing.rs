//! What the tests of this folder share: a data directory, and real git to fill repositories with.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use shared::git::ObjectKind;
use shared::git::Oid;
use shared::nip34::Coordinate;
use tempfile::TempDir;

use crate::git::command::Git;
pub(crate) use crate::git::command::tests::every_git;
use crate::repositories::error::RepositoryError;
use crate::repositories::layout::Layout;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::object_kinds;
use crate::repositories::pack::IngestLimits;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::Repository;
use crate::repositories::repository::RepositoryStore;
use crate::repositories::walk::DiskWalk;
use crate::repositories::walk::WalkOf;

/// A data directory with its repositories, gone when dropped.
pub(crate) struct World {
    pub(crate) store: RepositoryStore,
    root: PathBuf,
    _dir: Option<TempDir>,
}

/// One object of each kind that refs can name.
pub(crate) struct Populated {
    pub(crate) commit: Oid,
    pub(crate) tree: Oid,
    pub(crate) tag: Oid,
}

pub(crate) fn coordinate(identifier: &str) -> Coordinate {
    format!("30617:{}:{identifier}", "11".repeat(32)).parse().unwrap()
}

/// Copies what `tips` need from the object directories `from` into `into`.
pub(crate) async fn copy_objects(
    from: &[PathBuf],
    tips: &[Oid],
    into: &Repository,
    limits: &IngestLimits,
) -> Result<(), RepositoryError> {
    let needed = Quarantine::copy(from, tips, into, None, limits).await?;
    Ok(needed.migrate().await?)
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::discover(dir.path()).await.unwrap();
        Self::with(git, dir).await
    }

    pub(crate) async fn of_every_git() -> Vec<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut worlds = Vec::new();
        for git in every_git(dir.path()).await {
            let own = tempfile::tempdir().unwrap();
            let git = Git::at(git.program().to_owned(), own.path()).await.unwrap();
            worlds.push(Self::with(git, own).await);
        }
        worlds
    }

    /// Its git does as [`World::fail_git`] has it.
    pub(crate) async fn whose_git_can_be_killed() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::discover(dir.path()).await.unwrap();
        let program = dir.path().join("git-that-fails");
        let script = format!(
            "#!/bin/sh\n[ -e \"$0.how\" ] && . \"$0.how\"\nexec {} \"$@\"\n",
            git.program().display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let git = Git::at(program, dir.path()).await.unwrap();
        Self::with(git, dir).await
    }

    /// Has the shell do something first whenever this subcommand is run.
    pub(crate) fn fail_git(&self, subcommand: &str, how: &str) {
        let script = format!("case \" $* \" in *\" {subcommand} \"*) {how};; esac\n");
        std::fs::write(self.path().join("git-that-fails.how"), script).unwrap();
    }

    pub(crate) async fn below(path: &Path) -> Self {
        let git = Git::discover(path).await.unwrap();
        Self::at(git, path.to_owned(), None).await
    }

    async fn with(git: Git, dir: TempDir) -> Self {
        Self::at(git, dir.path().to_owned(), Some(dir)).await
    }

    async fn at(git: Git, root: PathBuf, dir: Option<TempDir>) -> Self {
        let layout = Layout::new(&root).unwrap();
        let store = RepositoryStore::open(git, layout, 100_000).await.unwrap();
        Self { store, root, _dir: dir }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn repository(&self, identifier: &str) -> Repository {
        self.store.at(&coordinate(identifier))
    }

    /// Lists the repositories that are on disk.
    pub(crate) async fn hosted(&self) -> Vec<Coordinate> {
        self.walk(WalkOf::Repositories).await
    }

    /// Lists the coordinates for which objects are staged.
    pub(crate) async fn staged(&self) -> Vec<Coordinate> {
        self.walk(WalkOf::Staged).await
    }

    async fn walk(&self, of: WalkOf) -> Vec<Coordinate> {
        let mut walk = DiskWalk::new(self.store.layout().clone(), of);
        walk.next_page(usize::MAX).await.unwrap().unwrap_or_default()
    }

    /// Counts what lies in the quarantine beside the locks of instances.
    pub(crate) fn quarantine_entries(&self) -> usize {
        let entries = std::fs::read_dir(self.path().join("quarantine")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_none()).count()
    }

    /// Runs git in `repository`, which is made if need be.
    pub(crate) async fn git(&self, repository: &Repository, args: &[&str], input: &[u8]) -> Vec<u8> {
        repository.create().await.unwrap();
        self.git_at(repository.path(), args, input).await
    }

    pub(crate) async fn git_at(&self, path: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
        let (subcommand, rest) = args.split_first().unwrap();
        let mut invocation = self.store.git().invoke(subcommand).repository(path);
        for who in ["AUTHOR", "COMMITTER"] {
            invocation = invocation
                .env(&format!("GIT_{who}_NAME"), "A")
                .env(&format!("GIT_{who}_EMAIL"), "a@example.com")
                .env(&format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        for arg in rest {
            invocation = invocation.arg(arg);
        }
        invocation.output(input, Duration::from_secs(30)).await.unwrap()
    }

    pub(crate) async fn oid(&self, repository: &Repository, args: &[&str], input: &[u8]) -> Oid {
        let answer = self.git(repository, args, input).await;
        String::from_utf8(answer).unwrap().trim_end().parse().unwrap()
    }

    /// Writes a commit of one file that holds `message`.
    pub(crate) async fn commit(&self, repository: &Repository, message: &str, parents: &[Oid]) -> Oid {
        let blob = self
            .oid(repository, &["hash-object", "-w", "--stdin"], message.as_bytes())
            .await;
        let entry = format!("100644 blob {blob}\tfile\n");
        let tree = self.oid(repository, &["mktree"], entry.as_bytes()).await.to_string();
        let parents: Vec<_> = parents.iter().map(ToString::to_string).collect();
        let mut args = vec!["commit-tree", &tree, "-m", message];
        for parent in &parents {
            args.extend(["-p", parent]);
        }
        self.oid(repository, &args, b"").await
    }

    pub(crate) async fn two_commits(&self, repository: &Repository) -> [Oid; 2] {
        let one = self.commit(repository, "one", &[]).await;
        [one, self.commit(repository, "two", &[one]).await]
    }

    /// Writes an annotated tag object of `target`.
    pub(crate) async fn tag(&self, repository: &Repository, target: Oid, kind: &str) -> Oid {
        let tag = format!("object {target}\ntype {kind}\ntag t\ntagger A <a@example.com> 1700000000 +0000\n\nt\n");
        self.oid(repository, &["mktag"], tag.as_bytes()).await
    }

    pub(crate) async fn populate(&self, repository: &Repository) -> Populated {
        let commit = self.commit(repository, "x", &[]).await;
        let tree = format!("{commit}^{{tree}}");
        Populated {
            commit,
            tree: self.oid(repository, &["rev-parse", &tree], b"").await,
            tag: self.tag(repository, commit, "commit").await,
        }
    }

    /// Makes branches and tags of every sort, packed and loose, and refs of other sorts.
    pub(crate) async fn many_refs(&self, repository: &Repository) {
        let [one, two] = self.two_commits(repository).await;
        let tag = self.tag(repository, one, "commit").await;
        let nested = self.tag(repository, tag, "tag").await;
        let pull_request = format!("refs/nostr/{}", "ab".repeat(32));
        let set = async |refs: &[(&str, Oid)]| {
            let script: String = refs
                .iter()
                .map(|(name, oid)| format!("update {name} {oid}\n"))
                .collect();
            self.git(repository, &["update-ref", "--stdin"], script.as_bytes())
                .await;
        };
        set(&[
            ("refs/heads/main", one),
            ("refs/heads/a/b", one),
            ("refs/heads/a-b", two),
            ("refs/tags/a", tag),
            ("refs/tags/nested", nested),
            ("refs/tags/light", two),
        ])
        .await;
        self.git(repository, &["pack-refs", "--all"], b"").await;
        set(&[
            ("refs/heads/main", two),
            ("refs/heads/loose", one),
            ("refs/tags/loose", nested),
            (&pull_request, two),
        ])
        .await;
        self.git(repository, &["symbolic-ref", "HEAD", "refs/heads/main"], b"")
            .await;
    }

    /// Returns the files in the pack directory of `object_dir`.
    pub(crate) fn packs(object_dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(object_dir.join("pack"));
        let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut packs: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|e| e == "pack"))
            .collect();
        packs.sort();
        packs
    }
}

impl Repository {
    /// Returns the kinds of those of `oids` that are here.
    pub(crate) async fn object_kinds(&self, oids: &[Oid]) -> Result<BTreeMap<Oid, ObjectKind>, ReadError> {
        object_kinds(vec![self.object_dir()], oids.to_vec()).await
    }
}

/// Returns so many refs that are neither branches nor tags.
pub(crate) fn imported_refs(count: usize) -> RefSnapshot {
    let oid = Oid::from_bytes([7; Oid::LEN]).unwrap();
    let name = |number| format!("refs/imported/{number:06}").parse().unwrap();
    RefSnapshot {
        refs: (0..count).map(|number| (name(number), oid)).collect(),
        ..RefSnapshot::empty()
    }
}
