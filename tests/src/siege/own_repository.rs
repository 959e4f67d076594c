//! A repository of the attacker's own, and packs of his making.

use std::fmt::Write as _;
use std::path::PathBuf;

use nostr::key::Keys;

use crate::clients::git::GitClient;
use crate::clients::nostr::now;
use crate::clients::nostr::tag;
use crate::harness::process::shell;
use crate::harness::repository::Repository;
use crate::siege::attacker::Attacker;
use crate::siege::attacker::Command;
use crate::siege::websocket::send_all;

/// A repository that an attacker works on, and may have served.
#[derive(Debug, Clone)]
pub(super) struct OwnRepository {
    pub(super) repository: Repository,
    pub(super) git: GitClient,
    directory: PathBuf,
}

impl OwnRepository {
    /// Makes one with an empty history.
    pub(super) async fn new(attacker: &Attacker, identifier: &str) -> Self {
        let repository = Repository::new(identifier);
        let directory = attacker.folder.join(repository.npub());
        Self {
            git: GitClient::init(&directory).await,
            repository,
            directory,
        }
    }

    /// Returns the path of its URL.
    pub(super) fn path(&self) -> String {
        wire::path::repository_path(&self.repository.coordinate())
    }

    /// Announces it.
    pub(super) async fn announce(&self, attacker: &Attacker, created_at: u64, more: &[Vec<String>]) {
        let Repository { owner, identifier } = &self.repository;
        let announcement = attacker.announcement(owner, identifier, created_at, more);
        send_all(attacker, &[announcement]).await;
    }

    /// Declares refs and pushes them, as far as the server does not have them at `old`.
    ///
    /// # Panics
    /// The server does not take them.
    pub(super) async fn push(&self, attacker: &Attacker, refs: &[(&str, &str)], old: Option<&str>, created_at: u64) {
        send_all(attacker, &[self.repository.state(created_at, refs)]).await;
        let mut revisions: String = refs.iter().map(|(_, oid)| format!("{oid}\n")).collect();
        revisions.extend(old.map(|old| format!("^{old}\n")));
        let pack = self.pack(&revisions, "").await;
        let commands: Vec<_> = refs
            .iter()
            .map(|(name, new)| match *name {
                "refs/heads/main" => Command::update(old, new, name),
                _ => Command::update(None, new, name),
            })
            .collect();
        let answer = attacker.push(&self.path(), &commands, &pack).await;
        let answer = answer.expect("the attacker is answered");
        assert!(answer.contains("unpack ok") && !answer.contains("ng "), "{answer}");
    }

    /// Announces it, and pushes a first small commit. Returns the commit.
    pub(super) async fn serve(&self, attacker: &Attacker, more: &[Vec<String>]) -> String {
        self.announce(attacker, now() - 100, more).await;
        let commit = self.git.commit("one").await;
        self.push(attacker, &[("refs/heads/main", &commit)], None, now() - 100)
            .await;
        commit
    }

    /// Packs what revisions reach, one a line, those with `^` left out.
    ///
    /// # Panics
    /// git does not.
    pub(super) async fn pack(&self, revisions: &str, options: &str) -> Vec<u8> {
        let file = self.directory.join(".git/to-push.pack");
        let (directory, file_name) = (self.directory.display(), file.display());
        // Deeper trees than git takes by itself; of attributes in them it tells at length.
        let git = format!("git -c core.maxTreeDepth=100000 -C {directory}");
        let command = format!("{git} pack-objects --quiet --revs {options} --stdout >{file_name} 2>/dev/null");
        shell(&command, revisions).await;
        std::fs::read(file).unwrap()
    }

    /// Makes a history of commits with so many files in one folder, of which each changes another one. Returns the last
    /// hundred commits.
    ///
    /// # Panics
    /// git does not.
    pub(super) async fn with_wide_trees(&self, files: usize, commits: usize) -> Vec<String> {
        let mut stream = "blob\nmark :1\ndata 1\na\nblob\nmark :2\ndata 1\nb\n".to_owned();
        for commit in 0..commits {
            let head = "commit refs/heads/wide\ncommitter A <a@example.com> 1 +0000\ndata 1\nm\n";
            stream.push_str(head);
            match commit {
                0 => (0..files).for_each(|file| writeln!(stream, "M 100644 :1 {file:06}").unwrap()),
                _ => writeln!(stream, "M 100644 :2 {commit:06}").unwrap(),
            }
        }
        let git = format!("git -C {}", self.directory.display());
        shell(&format!("{git} fast-import --quiet"), &stream).await;
        let last = shell(&format!("{git} rev-list --max-count=100 wide"), "").await;
        last.lines().map(str::to_owned).collect()
    }

    /// Writes an object, and returns its id.
    pub(super) async fn object(&self, kind: &str, content: &str) -> String {
        let directory = self.directory.display();
        let command = format!("git -C {directory} hash-object -w --literally -t {kind} --stdin");
        shell(&command, content).await.trim().to_owned()
    }
}

/// Returns an id that no event has.
pub(super) fn random_id() -> String {
    Keys::generate().public_key().to_hex()
}

/// A tag that names a repository's coordinate.
pub(super) fn address_of(coordinate: &shared::nip34::Coordinate) -> Vec<String> {
    tag(&["a", &coordinate.to_string()])
}
