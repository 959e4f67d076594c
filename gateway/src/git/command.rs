//! The only file that spawns git: which binary, with which environment, limits and deadline.
//!
//! The environment is facts/git-http 6. Children are put into a process group of their own and killed as a group, so
//! that nothing they started outlives them. No `pre_exec`, uid or gid: std would then fork instead of posix_spawn
//! (50 times slower in a large process); limits are set on the running child, which waits for its input meanwhile.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::ChildStderr;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::time::timeout;

/// The git of this server: a binary of a known version and our configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    config: PathBuf,
    version: GitVersion,
}

/// A version of git, as far as behaviour depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitVersion {
    /// The `2` of 2.47.
    pub major: u32,
    /// The `47` of 2.47.
    pub minor: u32,
}

/// Why git could not be found or run.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// No `git` in any directory of `PATH`.
    #[error("no git found on PATH")]
    NotFound,
    /// Its version could not be read, or is too old.
    #[error("{} is of version {found:?}; {} or newer is needed", program.display(), GitVersion::MINIMUM)]
    Version {
        /// The binary asked.
        program: PathBuf,
        /// What `git version` printed.
        found: String,
    },
    /// The configuration could not be written.
    #[error("cannot write {}", path.display())]
    Config {
        /// Where it should be.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The child could not be started, written to or read from.
    #[error("cannot run git {command}")]
    Run {
        /// The subcommand.
        command: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The child did not end in time and was killed.
    #[error("git {command} was killed after {} s", deadline.as_secs())]
    Deadline {
        /// The subcommand.
        command: String,
        /// The time it had.
        deadline: Duration,
    },
    /// The child ended with another status than 0.
    #[error("git {command} failed ({status}): {message}")]
    Failed {
        /// The subcommand.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The first meaningful line that it wrote to stderr, without control characters.
        message: String,
    },
}

/// What one child may use. Reaching a limit ends the child, not the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChildLimits {
    /// Address space (`RLIMIT_AS`): turns a delta bomb into a failed allocation.
    pub(super) memory_bytes: u64,
    /// CPU time (`RLIMIT_CPU`).
    pub(super) cpu_secs: u64,
    /// Largest file written (`RLIMIT_FSIZE`).
    pub(super) file_bytes: u64,
}

impl GitVersion {
    /// Debian 12's, the oldest that is tested. What needs it: `upload-pack --http-backend-info-refs` (2.34),
    /// `core.fsync` (2.36), `safe.directory=*` (2.35.3).
    pub const MINIMUM: Self = Self { major: 2, minor: 39 };
    const SYMREF_UPDATE: Self = Self { major: 2, minor: 46 };
    const MULTI_PACK_REUSE: Self = Self { major: 2, minor: 44 };
    const REF_FORMAT: Self = Self { major: 2, minor: 45 };

    /// Tells whether `update-ref --stdin` knows `symref-update` (git 2.46 release notes).
    pub fn has_symref_update(self) -> bool {
        self >= Self::SYMREF_UPDATE
    }

    /// Tells whether `init` knows `--ref-format` (git 2.45 release notes).
    pub fn has_ref_format(self) -> bool {
        self >= Self::REF_FORMAT
    }

    /// Tells whether `pack.allowPackReuse` knows `multi` (git 2.44 release notes); an older git takes the word for a
    /// bad boolean and ends.
    fn has_multi_pack_reuse(self) -> bool {
        self >= Self::MULTI_PACK_REUSE
    }

    /// Parses the answer of `git version`, such as `git version 2.39.5 (Apple Git-154)`.
    fn parse(answer: &str) -> Option<Self> {
        let mut numbers = answer.strip_prefix("git version ")?.split(['.', ' ', '\n', '-']);
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

impl std::fmt::Display for GitVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Git {
    /// Finds git on `PATH`, checks its version and writes its configuration into `data_dir`.
    ///
    /// # Errors
    /// [`GitError`] if there is none, it is too old, or the configuration cannot be written.
    pub async fn discover(data_dir: &Path) -> Result<Self, GitError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(|candidate| is_executable(candidate))
            .ok_or(GitError::NotFound)?;
        Self::at(program, data_dir).await
    }

    /// Takes the git at the absolute path `program`.
    ///
    /// # Errors
    /// As [`Git::discover`].
    pub async fn at(program: PathBuf, data_dir: &Path) -> Result<Self, GitError> {
        let config = config_path(data_dir)?;
        let unknown = GitVersion { major: 0, minor: 0 };
        let new = |program, version| Self {
            inner: Arc::new(Inner {
                program,
                config: config.clone(),
                version,
            }),
        };
        let git = new(program.clone(), unknown);
        let answer = git.invoke("version").output(b"", Duration::from_secs(10)).await?;
        let found = String::from_utf8_lossy(&answer).trim_end().to_owned();
        match GitVersion::parse(&found) {
            Some(version) if version >= GitVersion::MINIMUM => {
                write_config(&config, version)?;
                Ok(new(program, version))
            }
            Some(_) | None => Err(GitError::Version { program, found }),
        }
    }

    /// Returns the version found.
    pub fn version(&self) -> GitVersion {
        self.inner.version
    }

    /// Returns the absolute path of the binary.
    pub fn program(&self) -> &Path {
        &self.inner.program
    }

    /// Prepares a run of `git <subcommand>`.
    pub(super) fn invoke(&self, subcommand: &str) -> Invocation {
        Invocation {
            command: self.command(subcommand),
            subcommand: subcommand.to_owned(),
            limits: None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where git is spawned")]
    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.inner.program);
        command
            .arg(subcommand)
            .env_clear()
            // git finds its own subcommands by its exec path; a shell for alternateRefsCommand needs no more.
            .env("PATH", "/usr/bin:/bin")
            // Messages are read by us and shown to pushers: one language, one time zone.
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            // No configuration but ours (protected scope, inherited by what git itself starts).
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", &self.inner.config)
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            // A pushed refs/replace must not change what an object id means.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            // Our ref reader knows the files format only (git 3.0 has another default).
            .env("GIT_DEFAULT_REF_FORMAT", "files")
            .env("GIT_DEFAULT_HASH", "sha1")
            // No transport: whatever a repository says, nothing is fetched while serving.
            .env("GIT_ALLOW_PROTOCOL", "")
            // Not the directory of the operator, which may be unreadable or a repository itself.
            .current_dir("/")
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// One run of git that has not begun.
#[must_use = "nothing runs before `output` or `spawn`"]
#[derive(Debug)]
pub(super) struct Invocation {
    command: Command,
    subcommand: String,
    limits: Option<ChildLimits>,
}

impl Invocation {
    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Works in the repository at `path`, found without looking around.
    pub(super) fn repository(self, path: &Path) -> Self {
        self.env("GIT_DIR", path)
    }

    /// Reads objects from `dirs` too.
    pub(super) fn alternates(self, dirs: &[PathBuf]) -> Self {
        self.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted_path_list(dirs))
    }

    pub(super) fn limits(mut self, limits: ChildLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Runs to the end with `input` on stdin and returns stdout.
    ///
    /// # Errors
    /// [`GitError::Failed`] on another status than 0, [`GitError::Deadline`] after `deadline`.
    pub(super) async fn output(self, input: &[u8], deadline: Duration) -> Result<Vec<u8>, GitError> {
        let mut child = self.spawn(Stdio::piped())?;
        let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take());
        let work = async {
            let mut answer = Vec::new();
            let write = async {
                if let Some(mut stdin) = stdin.take() {
                    // A child that ends before it has read everything says why on stderr.
                    ignore_broken_pipe(stdin.write_all(input).await)?;
                }
                Ok::<_, io::Error>(())
            };
            let read = async {
                match stdout.as_mut() {
                    Some(stdout) => stdout.read_to_end(&mut answer).await.map(drop),
                    None => Ok(()),
                }
            };
            let (ended, copied) = tokio::join!(child.wait(), async { tokio::try_join!(write, read) });
            let (status, stderr) = ended?;
            copied?;
            Ok::<_, io::Error>((status, stderr, answer))
        };
        let ended = timeout(deadline, work).await;
        let command = child.subcommand.clone();
        match ended {
            Err(_) => Err(GitError::Deadline { command, deadline }),
            Ok(Err(source)) => Err(GitError::Run { command, source }),
            Ok(Ok((status, _, answer))) if status.success() => Ok(answer),
            Ok(Ok((status, stderr, _))) => Err(GitError::Failed {
                command,
                status,
                message: stderr.summary(),
            }),
        }
    }

    /// Starts the child with pipes on stdout and stderr and `stdin` as its input.
    ///
    /// # Errors
    /// [`GitError::Run`] if it cannot be started.
    pub(super) fn spawn(mut self, stdin: Stdio) -> Result<GitChild, GitError> {
        let command = self.subcommand.clone();
        let failed = |source| GitError::Run { command, source };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let (Some(limits), Some(pid)) = (self.limits, pid_of(&child)) {
            limits.apply(pid);
        }
        Ok(GitChild {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            subcommand: self.subcommand,
            child,
        })
    }
}

/// A running git. Dropped, it and all that it started are killed.
#[must_use = "dropping it kills the child"]
#[derive(Debug)]
pub(super) struct GitChild {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) subcommand: String,
    stderr: Option<ChildStderr>,
    child: Child,
}

impl GitChild {
    /// Waits for the end while reading stderr.
    pub(super) async fn wait(&mut self) -> io::Result<(ExitStatus, Stderr)> {
        let mut kept = Vec::new();
        if let Some(mut stderr) = self.stderr.take() {
            let mut chunk = [0; 4096];
            loop {
                match stderr.read(&mut chunk).await? {
                    0 => break,
                    len if kept.len() < STDERR_BYTES_MAX => kept.extend_from_slice(&chunk[..len]),
                    _ => {}
                }
            }
        }
        Ok((self.child.wait().await?, Stderr(kept)))
    }
}

impl Drop for GitChild {
    fn drop(&mut self) {
        // No pid once the child was waited for: its number may belong to somebody else by now.
        if let Some(pid) = pid_of(&self.child)
            && let Err(error) = rustix::process::kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(%error, "could not kill a git that may have ended by itself");
        }
    }
}

/// What a child wrote to stderr, up to a bound.
#[derive(Debug, Default)]
pub(super) struct Stderr(Vec<u8>);

impl Stderr {
    /// Returns the lines, without control characters and paths of this machine.
    pub(super) fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0)
            .lines()
            .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect())
            .filter(|line: &String| !line.is_empty())
            .map(|line| without_paths(&line))
            .collect()
    }

    /// Returns the line that says what went wrong: the first `fatal:` or `error:`, else the first.
    pub(super) fn summary(&self) -> String {
        let lines = self.lines();
        let mark = |line: &&String| line.starts_with("fatal: ") || line.starts_with("error: ");
        lines
            .iter()
            .find(mark)
            .or(lines.first())
            .cloned()
            .unwrap_or_else(|| "no message".to_owned())
    }
}

impl ChildLimits {
    fn apply(self, pid: Pid) {
        let limits = [
            (Resource::As, self.memory_bytes, self.memory_bytes),
            // Apart, so that SIGXCPU comes before SIGKILL and says why.
            (Resource::Cpu, self.cpu_secs, self.cpu_secs + 1),
            (Resource::Fsize, self.file_bytes, self.file_bytes),
            (Resource::Core, 0, 0),
        ];
        for (resource, soft, hard) in limits {
            let limit = Rlimit {
                current: Some(soft),
                maximum: Some(hard),
            };
            // A child that has already ended needs no limit; a stricter limit of our own is kept by the kernel.
            if let Err(error) = rustix::process::prlimit(Some(pid), resource, limit) {
                tracing::debug!(%error, ?resource, "could not limit a git");
            }
        }
    }
}

/// Tells whether a signal ended a child that we still waited for: a limit (`SIGXCPU`, `SIGXFSZ`), or an allocation
/// that failed where git cannot say so.
pub(super) fn exceeded_limit(status: ExitStatus) -> bool {
    status.signal().is_some()
}

/// A child that ends early closes its stdin; that is no failure of ours.
pub(super) fn ignore_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Builds a value for `GIT_ALTERNATE_OBJECT_DIRECTORIES`: entries in C quotes, between colons (git
/// `environment(7)`), so that a data directory may have any name.
fn quoted_path_list(dirs: &[PathBuf]) -> OsString {
    let mut list = Vec::new();
    for dir in dirs {
        if !list.is_empty() {
            list.push(b':');
        }
        list.push(b'"');
        for byte in dir.as_os_str().as_bytes() {
            match byte {
                b'"' | b'\\' => list.extend([b'\\', *byte]),
                0..=0x1f | 0x7f => list.extend(format!("\\{byte:03o}").bytes()),
                _ => list.push(*byte),
            }
        }
        list.push(b'"');
    }
    OsString::from_vec(list)
}

/// Replaces quoted absolute paths, which tell an outsider about this machine and nothing about the push.
fn without_paths(line: &str) -> String {
    line.split('\'')
        .enumerate()
        .map(|(i, part)| {
            if i % 2 == 1 && part.starts_with('/') {
                "..."
            } else {
                part
            }
        })
        .collect::<Vec<_>>()
        .join("'")
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn config_path(data_dir: &Path) -> Result<PathBuf, GitError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .and_then(|()| fs::canonicalize(data_dir))
        .map(|dir| dir.join("serving.gitconfig"))
        .map_err(config_error(data_dir))
}

/// Writes the configuration beside its place and renames it: a running gateway may be reading it.
fn write_config(path: &Path, version: GitVersion) -> Result<(), GitError> {
    let mut config = CONFIG.to_owned();
    if version.has_multi_pack_reuse() {
        config.push_str("[pack]\n\tallowPackReuse = multi\n");
    }
    let beside = path.with_extension(format!("gitconfig.{}", std::process::id()));
    fs::write(&beside, config).map_err(config_error(&beside))?;
    fs::rename(&beside, path).map_err(config_error(path))
}

fn config_error(path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Config { path, source }
}

const CONFIG: &str = include_str!("../serving.gitconfig");
/// git says what is wrong in its first lines; a hostile pack can make it say a lot more.
const STDERR_BYTES_MAX: usize = 16 * 1024;
const LINE_CHARS_MAX: usize = 300;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The gits of this machine, so that what differs between versions is tested on each.
    pub(crate) async fn every_git(data_dir: &Path) -> Vec<Git> {
        let mut gits = vec![Git::discover(data_dir).await.unwrap()];
        let debian = PathBuf::from("/usr/bin/git");
        if is_executable(&debian) && gits[0].inner.program != debian {
            gits.push(Git::at(debian, data_dir).await.unwrap());
        }
        gits
    }

    #[tokio::test]
    async fn every_git_here_is_new_enough_and_reads_our_configuration() {
        let dir = tempfile::tempdir().unwrap();

        for git in every_git(dir.path()).await {
            let value = git
                .invoke("config")
                .arg("--get")
                .arg("transfer.hiderefs")
                .output(b"", Duration::from_secs(10))
                .await
                .unwrap();

            assert_eq!(value, b"refs/grasp\n");
            assert!(git.version() >= GitVersion::MINIMUM);
        }
    }

    #[test]
    fn versions_are_read_from_what_git_prints() {
        let parse = |text| GitVersion::parse(text).map(|version| (version.major, version.minor));

        assert_eq!(parse("git version 2.39.5"), Some((2, 39)));
        assert_eq!(parse("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse("git version 2.55-dev"), Some((2, 55)));
        assert_eq!(parse("git version 3.0.rc1"), Some((3, 0)));
        assert_eq!(parse("hub version 2.14"), None);
        assert_eq!(parse(""), None);
    }

    #[tokio::test]
    async fn a_child_that_is_dropped_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::discover(dir.path()).await.unwrap();
        // Without an input, `hash-object --stdin` waits for ever.
        let spawned = git.invoke("hash-object").arg("--stdin").spawn(Stdio::piped()).unwrap();
        let pid = pid_of(&spawned.child).unwrap();
        drop(spawned);

        let gone = async {
            while rustix::process::test_kill_process(pid).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(Duration::from_secs(10), gone).await.is_ok());
    }

    #[test]
    fn any_path_can_be_an_alternate() {
        let list = quoted_path_list(&["/a:b".into(), "/c\"d\\e\n".into()]);

        assert_eq!(list, OsStr::new("\"/a:b\":\"/c\\\"d\\\\e\\012\""));
    }

    #[test]
    fn messages_hold_neither_paths_nor_control_characters() {
        let stderr = Stderr(b"warning: x\nfatal: cannot open '/srv/data/x': \x1b[31mno\n".to_vec());

        assert_eq!(stderr.summary(), "fatal: cannot open '...': [31mno");
    }
}
