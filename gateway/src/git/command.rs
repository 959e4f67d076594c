//! The git of this server: which binary, with which environment and configuration (docs/facts/git-http.md 6).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use crate::git::error::GitError;
use crate::git::invocation::Invocation;
use crate::git::permits::CommandPermits;
use crate::git::version::GitVersion;
use crate::process;

/// The git of this server: a binary of a known version and our configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    inner: Arc<GitProgram>,
    permits: CommandPermits,
}

#[derive(Debug)]
struct GitProgram {
    program: PathBuf,
    config: PathBuf,
    version: GitVersion,
}

impl Git {
    /// Returns the program, for tests that run the same one elsewhere.
    #[cfg(test)]
    pub(crate) fn program(&self) -> &Path {
        &self.inner.program
    }

    /// Finds git on `PATH`, checks its version and writes its configuration into `data_dir`.
    pub(crate) async fn discover(data_dir: &Path) -> Result<Self, GitError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(|candidate| is_executable(candidate))
            .ok_or(GitError::NotFound)?;
        Self::at(program, data_dir).await
    }

    /// Takes the git at the absolute path `program`.
    pub(crate) async fn at(program: PathBuf, data_dir: &Path) -> Result<Self, GitError> {
        let config = config_path(data_dir)?;
        let unknown = GitVersion::default();
        let new = |program, version| Self {
            inner: Arc::new(GitProgram {
                program,
                config: config.clone(),
                version,
            }),
            permits: CommandPermits::new(GIT_COMMANDS_MAX),
        };
        let git = new(program.clone(), unknown);
        let answer = git.invoke("version").output(b"", Duration::from_secs(10)).await?;
        let found = String::from_utf8_lossy(&answer).trim_end().to_owned();
        match GitVersion::parse(&found) {
            Some(version) if version >= GitVersion::MINIMUM => {
                if let Some(mended) = version.mended_in() {
                    tracing::warn!(
                        git.version = found,
                        "git has known faults that a client can reach (docs/operations.md, \"Git processes\"): upgrade to \
                         {mended} or newer, unless your distribution has fixed this version"
                    );
                }
                write_config(&config, version)?;
                Ok(new(program, version))
            }
            Some(_) | None => Err(GitError::Version { program, found }),
        }
    }

    /// Limits how many git commands run under locks at the same time (rev-list, pack-objects). The git processes of
    /// pushes and fetches are counted where they are started.
    pub(crate) fn set_commands_max(&self, count: usize) {
        self.permits.set_max(count);
    }

    pub(crate) fn version(&self) -> GitVersion {
        self.inner.version
    }

    pub(crate) fn invoke(&self, subcommand: &str) -> Invocation {
        Invocation::new(self.command(subcommand), subcommand)
    }

    pub(crate) fn permits(&self) -> &CommandPermits {
        &self.permits
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = process::command(&self.inner.program);
        command
            .arg(subcommand)
            .env_clear()
            // git finds its own subcommands by its exec path; the shell for alternateRefsCommand needs nothing else.
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
            // No transport: whatever a repository's configuration names, nothing is fetched while serving.
            .env("GIT_ALLOW_PROTOCOL", "")
            // Not the directory of the operator, which may be unreadable or a repository itself.
            .current_dir("/");
        command
    }
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

/// Writes the configuration to another file and renames it: a running gateway may be reading it.
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

/// Default of `--git-commands-max`.
pub(crate) const GIT_COMMANDS_MAX: usize = 16;

const CONFIG: &str = include_str!("serving.gitconfig");

#[cfg(test)]
pub(crate) mod tests {
    use std::process::Stdio;

    use super::*;

    /// Every git of this machine, so that what differs between versions is tested on each.
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
                .arg("core.hookspath")
                .output(b"", Duration::from_secs(10))
                .await
                .unwrap();

            assert_eq!(value, b"/dev/null\n");
            // git reports to every client what it does not understand in it.
            let hash = git.invoke("hash-object").arg("--stdin").spawn(Stdio::piped()).unwrap();
            let output = hash.output(b"", 100, Duration::from_secs(10)).await.unwrap().unwrap();
            assert_eq!(output.stderr.text(), "");
            // With another tree, the attributes of the pushed files would apply.
            let attribute = git.invoke("config").arg("--get").arg("attr.tree");
            let value = attribute.output(b"", Duration::from_secs(10)).await.unwrap();
            let empty_tree = git.invoke("hash-object").arg("-t").arg("tree").arg("--stdin");
            assert_eq!(value, empty_tree.output(b"", Duration::from_secs(10)).await.unwrap());
            assert!(git.version() >= GitVersion::MINIMUM);
        }
    }
}
