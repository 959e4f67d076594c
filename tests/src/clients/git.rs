//! A person's git: the real one, without anybody's configuration.

use std::path::Path;
use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A working directory with a repository in it.
#[derive(Debug, Clone)]
pub struct GitClient {
    directory: PathBuf,
}

/// What git said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Whether it succeeded.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
    /// What it said to the person.
    pub stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            ok: output.status.success(),
            // `--porcelain` writes the results of a push to standard output.
            stderr: text(&output.stderr) + &text(&output.stdout),
            stdout: text(&output.stdout),
        }
    }

    /// Returns standard output.
    ///
    /// # Panics
    /// git failed.
    pub fn expect_ok(self) -> String {
        assert!(self.ok, "git failed:\n{}", self.stderr);
        self.stdout
    }

    /// Returns what git said to the person.
    ///
    /// # Panics
    /// git succeeded.
    pub fn expect_refused(self) -> String {
        assert!(!self.ok, "git succeeded:\n{}", self.stderr);
        self.stderr
    }
}

impl GitClient {
    /// Makes a repository on branch `main`.
    pub async fn init(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let client = Self {
            directory: directory.to_owned(),
        };
        client
            .run(&["init", "--quiet", "--initial-branch=main"])
            .await
            .expect_ok();
        client
    }

    /// Clones; `None` if that fails.
    pub async fn clone_from(url: &str, directory: &Path) -> Option<Self> {
        let parent = Self {
            directory: directory.parent().unwrap().to_owned(),
        };
        let said = parent
            .run(&["clone", "--quiet", url, directory.to_str().unwrap()])
            .await;
        said.ok.then(|| Self {
            directory: directory.to_owned(),
        })
    }

    /// Makes a commit with a file of that name and returns its id.
    pub async fn commit(&self, name: &str) -> String {
        self.commit_file(name, name.as_bytes()).await
    }

    /// Makes a commit with a file of that name and content and returns its id.
    ///
    /// # Panics
    /// The file cannot be written.
    pub async fn commit_file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.directory.join(name), content).unwrap();
        self.run(&["add", "--all"]).await.expect_ok();
        self.run(&["commit", "--quiet", "--message", name]).await.expect_ok();
        self.rev_parse("HEAD").await
    }

    /// Returns the object that a name stands for.
    pub async fn rev_parse(&self, name: &str) -> String {
        self.run(&["rev-parse", name]).await.expect_ok().trim().to_owned()
    }

    /// Pushes refspecs.
    pub async fn push(&self, url: &str, refspecs: &[&str]) -> Said {
        let mut arguments = vec!["push", "--porcelain", url];
        arguments.extend(refspecs);
        self.run(&arguments).await
    }

    /// Returns the refs of a remote repository as `oid name` lines, with HEAD and peeled tags.
    pub async fn ls_remote(&self, url: &str) -> Vec<(String, String)> {
        let said = self.run(&["ls-remote", url]).await.expect_ok();
        said.lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(oid, name)| (name.to_owned(), oid.to_owned()))
            .collect()
    }

    /// Runs git.
    ///
    /// # Panics
    /// It takes more than a minute.
    pub async fn run(&self, arguments: &[&str]) -> Said {
        self.run_within(Duration::from_secs(60), arguments).await
    }

    /// Runs git for so long at most.
    ///
    /// # Panics
    /// It takes longer.
    pub async fn run_within(&self, time: Duration, arguments: &[&str]) -> Said {
        let output = tokio::time::timeout(time, self.command(arguments).output()).await;
        let output = output.unwrap_or_else(|_| panic!("git {arguments:?} does not end"));
        Said::of(output.unwrap())
    }

    /// Runs git on an input that is made piece by piece.
    ///
    /// # Panics
    /// It cannot be run.
    pub async fn run_on(&self, input: impl IntoIterator<Item = Vec<u8>>, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let write = async move {
            for piece in input {
                // One that has ended already says why.
                if stdin.write_all(&piece).await.is_err() {
                    break;
                }
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        Said::of(output.unwrap())
    }

    /// Lets refs name an object.
    pub async fn set_refs(&self, names: &[String], oid: &str) {
        let lines = names.iter().map(|name| format!("update {name} {oid}\n").into_bytes());
        self.run_on(lines, &["update-ref", "--stdin"]).await.expect_ok();
    }

    /// Returns the branches and tags, as `(name, oid)`.
    pub async fn refs(&self) -> Vec<(String, String)> {
        let list = [
            "for-each-ref",
            "--format=%(refname) %(objectname)",
            "refs/heads",
            "refs/tags",
        ];
        let said = self.run(&list).await.expect_ok();
        let refs = said.lines().filter_map(|line| line.split_once(' '));
        refs.map(|(name, oid)| (name.to_owned(), oid.to_owned())).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the client's git, not the server's")]
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env("HOME", &self.directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "somebody")
            .env("GIT_AUTHOR_EMAIL", "somebody@localhost")
            .env("GIT_COMMITTER_NAME", "somebody")
            .env("GIT_COMMITTER_EMAIL", "somebody@localhost")
            .env_remove("GIT_DIR")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}
