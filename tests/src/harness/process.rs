//! Programs under test: where they are, and children that do not outlive their test.

use std::fs::File;
use std::io::Read;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::Command;

/// A program of this workspace, built now if it is not up to date.
///
/// # Panics
/// It cannot be built.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let directory = program_directory();
        let mut cargo = std_command(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--offline",
            "--package=gateway",
            "--package=plugin",
            "--bins",
        ]);
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the programs cannot be built");
        directory
    });
    directory.join(name)
}

/// A program of this package, which is built with every test.
pub fn harness_program(name: &str) -> PathBuf {
    program_directory().join(name)
}

/// Returns where the programs are that belong to the running one: a test is in `deps` below.
fn program_directory() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let directory = own.parent().unwrap();
    match directory.ends_with("deps") {
        true => directory.parent().unwrap().to_owned(),
        false => directory.to_owned(),
    }
}

/// The program of a Redis: Redis' own, or another one that `REDIS_SERVER_BIN` names, such as Valkey's.
pub fn redis_program() -> PathBuf {
    std::env::var_os("REDIS_SERVER_BIN").map_or_else(|| "redis-server".into(), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "cargo is no git")]
fn std_command(program: &str) -> std::process::Command {
    std::process::Command::new(program)
}

/// A child process whose output goes to a log file, killed when it is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; both of its outputs go to `log`, behind what is there.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> Self {
        Self::start_with(program, arguments, log, &[])
    }

    /// Starts `program` with more environment variables.
    ///
    /// # Panics
    /// It cannot be started.
    #[expect(clippy::disallowed_methods, reason = "servers are no git")]
    pub fn start_with(program: &Path, arguments: &[String], log: &Path, environment: &[(&str, String)]) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Starts `program` with a socket that it finds as systemd hands it over (`sd_listen_fds(3)`).
    ///
    /// # Panics
    /// It cannot be started.
    #[expect(clippy::disallowed_methods, reason = "servers are no git")]
    pub fn start_on(socket: &TcpListener, program: &Path, arguments: &[String], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        // The shell has the number of the process that it becomes.
        let hand_over = r#"exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@""#;
        let child = Command::new("/bin/sh")
            .args(["-c", hand_over])
            .arg(program)
            .args(arguments)
            .stdin(OwnedFd::from(socket.try_clone().unwrap()))
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Tells whether it still runs.
    ///
    /// # Panics
    /// The system does not know.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal, such as `STOP`.
    ///
    /// # Panics
    /// It has ended.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs");
        shell(&format!("kill -s {name} {id}"), "").await;
    }

    /// Kills it as `kill -9` does, and waits for its end.
    ///
    /// # Panics
    /// It cannot be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Returns its number.
    ///
    /// # Panics
    /// It has ended and was waited for.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it has ended")
    }

    /// Asks it to end, as systemd does.
    ///
    /// # Panics
    /// It has ended.
    pub async fn terminate(&self) {
        shell(&format!("kill -s TERM {}", self.id()), "").await;
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// The system does not know.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// Returns what it has written.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Runs a command line to its end and returns its standard output.
///
/// # Panics
/// It does not end, or fails.
#[expect(clippy::disallowed_methods, reason = "what is run here is no git")]
pub async fn shell(command: &str, input: &str) -> String {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(SHELL_MAX, child.wait_with_output()).await;
    let output = output.expect("it does not end").unwrap();
    assert!(output.status.success(), "{command}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The doctor waits for a minute and a half where a test wants long time-outs found.
const SHELL_MAX: Duration = Duration::from_secs(180);

/// Returns a port that is free, and that the system gives to nobody else for a minute: a connection to it was closed
/// here first, and waits (TIME_WAIT). Whoever names the port, as servers do with `SO_REUSEADDR`, can have it.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end comes first from this side");
    address.port()
}

/// Sends a signal to a process, or to a group, which has a `-` before its number. One that is gone already is as good.
pub fn signal(name: &str, target: &str) {
    #[expect(clippy::disallowed_methods, reason = "kill is no git")]
    let killed = std::process::Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$0" -- "$1""#, name, target])
        .stderr(Stdio::null())
        .status();
    if let Err(error) = killed {
        tracing::error!(%error, "cannot send a signal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_to_one_only_who_can_listen_at_it() {
        let ports: Vec<u16> = (0..500).map(|_| free_port()).collect();
        let different: std::collections::BTreeSet<&u16> = ports.iter().collect();
        assert_eq!(different.len(), ports.len());
        assert!(ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()));
    }
}
