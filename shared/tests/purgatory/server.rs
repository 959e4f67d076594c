//! A real redis-server for one test: a free port, a directory of its own, killed when dropped.

use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use shared::purgatory::RedisPlace;
use tempfile::TempDir;
use tests::harness::process::redis_program;
use tests::harness::redis_connection::connect;
use tests::harness::redis_topology::Mode;
use tests::harness::redis_topology::Topology;

pub(crate) struct RedisServer {
    /// The only one; `None`: it is several.
    child: Option<Child>,
    topology: Option<Topology>,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts an empty server without persistence.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts what the environment asks for: one server, or several that are one.
    pub(crate) async fn start_as_asked() -> Self {
        let Some(mode) = Mode::asked_for() else {
            return Self::start().await;
        };
        let dir = TempDir::new().unwrap();
        let topology = Topology::start(mode, dir.path(), None, 0).await;
        Self {
            child: None,
            port: topology.master_port(),
            topology: Some(topology),
            dir,
            arguments: Vec::new(),
        }
    }

    /// Returns where programs are told that it is.
    pub(crate) fn place(&self) -> RedisPlace {
        match &self.topology {
            None => RedisPlace::Single(self.url()),
            Some(topology) => topology_place(topology),
        }
    }

    /// Starts a server with arguments of its own; port, address and directory are added.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        // Somebody else may take the port between the look and the start.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .unwrap()
                .port();
            let mut child = spawn(port, dir.path(), &arguments);
            if is_answering(&mut child, port).await {
                return Self {
                    child: Some(child),
                    topology: None,
                    port,
                    dir,
                    arguments,
                };
            }
            child.kill().ok();
            child.wait().unwrap();
        }
        panic!("no redis-server came up");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// Ends the server as a crash would.
    pub(crate) fn kill(&mut self) {
        let child = self.child.as_mut().expect("it is one server");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again, on the same port, with what it has on disk.
    pub(crate) async fn start_again(&mut self) {
        let mut child = spawn(self.port, self.dir.path(), &self.arguments);
        assert!(is_answering(&mut child, self.port).await);
        self.child = Some(child);
    }

    /// Stops it in its tracks (`SIGSTOP`), or lets it go on (`SIGCONT`).
    #[expect(clippy::disallowed_methods, reason = "kill(1), not git")]
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it is one server").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Opens a connection of the test's own.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        connect(&self.url()).await.unwrap()
    }

    /// Runs one command, written as for redis-cli.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.connection().await;
        let mut asked = cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await.unwrap()
    }

    /// Returns the server's clock.
    pub(crate) async fn now(&self) -> u64 {
        now(&mut self.connection().await).await
    }
}

/// Returns the server's clock, over a connection that is open already.
pub(crate) async fn now(connection: &mut MultiplexedConnection) -> u64 {
    let (secs, _): (u64, u64) = cmd("TIME").query_async(connection).await.unwrap();
    secs
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Returns where programs are told that several servers are.
pub(crate) fn topology_place(topology: &Topology) -> RedisPlace {
    let urls = topology.urls();
    match topology.mode() {
        Mode::Sentinel => RedisPlace::Sentinel {
            urls,
            master_name: "mymaster".to_owned(),
        },
        Mode::Cluster => RedisPlace::Cluster(urls),
    }
}

#[expect(clippy::disallowed_methods, reason = "redis-server, not git")]
fn spawn(port: u16, dir: &Path, arguments: &[String]) -> Child {
    Command::new(redis_program())
        .args(arguments)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server 7.0 or newer is installed")
}

async fn is_answering(child: &mut Child, port: u16) -> bool {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
            let info: Result<String, _> = cmd("INFO").query_async(&mut connection).await;
            // Not somebody else's server on the same port, and not one that still loads its file: then INFO answers
            // already, and everything else is refused.
            let pid = format!("process_id:{}\r", child.id());
            if info.is_ok_and(|info| info.contains(&pid) && info.contains("\nloading:0\r")) {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
