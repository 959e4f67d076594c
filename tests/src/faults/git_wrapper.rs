//! A git that is found before the real one and asks its test before and after each run: so a test can kill whoever
//! runs git, or git itself, between any two of its children, or let some fail as if the disk did.
//!
//! The program is `tests/src/bin/git-wrapper.rs`; this is the test's end of it.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::harness::gateway::Detour;
use crate::harness::process::harness_program;
use crate::harness::wait::eventually;
use crate::harness::world::World;

/// The socket that the wrapper asks at, beside it.
pub const SOCKET: &str = "git.sock";
/// The name under which the real git lies beside it.
pub const REAL: &str = "real-git";

/// When a run of git stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GitMoment {
    /// It has not begun.
    Before,
    /// It has ended, and whoever ran it does not know.
    After,
}

/// A run of git that waits.
#[derive(Debug)]
#[must_use = "dropping it lets git go on"]
pub struct StoppedGit {
    /// Its process, which leads a group.
    pub pid: u32,
    /// Its subcommand.
    pub subcommand: String,
    _go_on: oneshot::Sender<()>,
}

struct Trap {
    /// Of which runs; `None`: of all.
    subcommand: Option<String>,
    countdown: u64,
    moment: GitMoment,
    sprung: oneshot::Sender<StoppedGit>,
}

/// Which runs fail.
struct Failing {
    one_in: u64,
    moment: GitMoment,
    runs: u64,
    failed: u64,
}

/// What awaits a run of git.
#[derive(Default)]
struct Traps {
    trap: Option<Trap>,
    failing: Option<Failing>,
    /// How often each subcommand has run.
    runs: BTreeMap<String, u64>,
}

/// Starts the gateway of a world with a wrapper before git.
pub async fn wrap_git(world: &mut World) -> GitWrapper {
    let wrapper = GitWrapper::install(&world.folder().join("bin"));
    let detour = Detour {
        path: Some(wrapper.path()),
        ..Detour::default()
    };
    let logged = world.gateway_log().len();
    world.send_gateway_round(detour).await;
    // It listens before it has asked git all that it asks at the start.
    eventually("it serves", async || world.gateway_log()[logged..].contains("serving")).await;
    wrapper
}

/// A directory to put first in `PATH`.
pub struct GitWrapper {
    directory: PathBuf,
    traps: Arc<Mutex<Traps>>,
    accept: AbortHandle,
}

impl GitWrapper {
    /// Makes the directory, with the wrapper in it.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn install(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        symlink_fresh(&real_git(), &directory.join(REAL));
        std::fs::copy(harness_program("git-wrapper"), directory.join("git")).unwrap();
        let listener = UnixListener::bind(directory.join(SOCKET)).unwrap();
        let traps = Arc::new(Mutex::new(Traps::default()));
        let accept = tokio::spawn(accept(listener, Arc::clone(&traps))).abort_handle();
        Self {
            directory: directory.to_owned(),
            traps,
            accept,
        }
    }

    /// Returns a `PATH` in which it comes first.
    pub fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{}:{path}", self.directory.display())
    }

    /// Stops the run behind the next `skip` ones at that moment. A trap that was set before is taken away.
    ///
    /// # Panics
    /// Another thread panicked while it set one.
    pub fn stop_at(&self, skip: u64, moment: GitMoment) -> oneshot::Receiver<StoppedGit> {
        self.set_trap(None, skip, moment)
    }

    /// Returns how often git was run, whatever its subcommand.
    ///
    /// # Panics
    /// Another thread panicked while it set a trap.
    pub fn all_runs(&self) -> u64 {
        self.traps.lock().unwrap().runs.values().sum()
    }

    /// Waits until a run of this subcommand stops at that moment. All others go on, and one that is killed before is
    /// none.
    ///
    /// # Panics
    /// Another thread panicked while it set a trap.
    pub async fn run_of(&self, subcommand: &str, moment: GitMoment) -> StoppedGit {
        loop {
            let stopped = self.set_trap(Some(subcommand.to_owned()), 0, moment);
            if let Ok(run) = stopped.await {
                return run;
            }
        }
    }

    fn set_trap(&self, subcommand: Option<String>, countdown: u64, moment: GitMoment) -> oneshot::Receiver<StoppedGit> {
        let (sprung, stopped) = oneshot::channel();
        self.traps.lock().unwrap().trap = Some(Trap {
            subcommand,
            countdown,
            moment,
            sprung,
        });
        stopped
    }

    /// Returns how often a subcommand has run.
    ///
    /// # Panics
    /// Another thread panicked while it counted.
    pub fn runs(&self, subcommand: &str) -> u64 {
        let traps = self.traps.lock().unwrap();
        traps.runs.get(subcommand).copied().unwrap_or_default()
    }

    /// Takes the trap away.
    ///
    /// # Panics
    /// Another thread panicked while it set one.
    pub fn disarm(&self) {
        self.traps.lock().unwrap().trap = None;
    }

    /// Lets one in so many runs fail with `EIO`, before or after they have done their work.
    ///
    /// # Panics
    /// Another thread panicked while it changed that.
    pub fn fail(&self, one_in: u64, moment: GitMoment) {
        self.traps.lock().unwrap().failing = Some(Failing {
            one_in,
            moment,
            runs: 0,
            failed: 0,
        });
    }

    /// Lets runs succeed again. Returns how many failed.
    ///
    /// # Panics
    /// Another thread panicked while it changed that.
    pub fn stop_failing(&self) -> u64 {
        let failing = self.traps.lock().unwrap().failing.take();
        failing.map_or(0, |failing| failing.failed)
    }
}

impl Drop for GitWrapper {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

fn symlink_fresh(original: &Path, link: &Path) {
    std::fs::remove_file(link).ok();
    symlink(original, link).unwrap();
}

fn real_git() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join("git"));
    found.into_iter().find(|git| git.is_file()).expect("git is installed")
}

async fn accept(listener: UnixListener, traps: Arc<Mutex<Traps>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let traps = Arc::clone(&traps);
        tokio::spawn(async move {
            // A wrapper that was killed says nothing more.
            answer(stream, &traps).await.ok();
        });
    }
}

/// What becomes of a run.
enum Awaits {
    Nothing,
    Trap(Trap),
    Failure(GitMoment),
}

impl Traps {
    fn take(&mut self, subcommand: &str) -> Awaits {
        *self.runs.entry(subcommand.to_owned()).or_default() += 1;
        let is_meant = |trap: &&mut Trap| trap.subcommand.as_ref().is_none_or(|meant| meant == subcommand);
        match self.trap.as_mut().filter(is_meant) {
            Some(armed) if armed.countdown > 0 => armed.countdown -= 1,
            Some(_) => {
                if let Some(trap) = self.trap.take() {
                    return Awaits::Trap(trap);
                }
            }
            None => {}
        }
        let Some(failing) = self.failing.as_mut() else {
            return Awaits::Nothing;
        };
        failing.runs += 1;
        if failing.runs % failing.one_in != 0 {
            return Awaits::Nothing;
        }
        failing.failed += 1;
        Awaits::Failure(failing.moment)
    }
}

/// The wrapper says `<pid> <subcommand>` and a line feed. It hears `x` to become git, `f` to fail, or `w` to run it and
/// to say when it has ended; then `x` again to say so itself, or `f` to fail.
async fn answer(mut stream: UnixStream, traps: &Mutex<Traps>) -> std::io::Result<()> {
    let line = line(&mut stream).await?;
    let (pid, subcommand) = line.trim_end().split_once(' ').unwrap_or_default();
    let awaits = traps.lock().unwrap().take(subcommand);
    let trap = match awaits {
        Awaits::Nothing => return stream.write_all(b"x").await,
        Awaits::Failure(GitMoment::Before) => return stream.write_all(b"f").await,
        Awaits::Failure(GitMoment::After) => {
            stream.write_all(b"w").await?;
            stream.read_u8().await?;
            return stream.write_all(b"f").await;
        }
        Awaits::Trap(trap) => trap,
    };
    if trap.moment == GitMoment::After {
        stream.write_all(b"w").await?;
        stream.read_u8().await?;
    }
    let (sender, go_on) = oneshot::channel();
    let stopped = StoppedGit {
        pid: pid.parse().unwrap_or_default(),
        subcommand: subcommand.to_owned(),
        _go_on: sender,
    };
    if trap.sprung.send(stopped).is_ok() {
        // Dropped is as good.
        go_on.await.ok();
    }
    stream.write_all(b"x").await
}

async fn line(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
