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
use tempfile::TempDir;

pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts an empty server without persistence.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
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
                    child,
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
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on the same port, with what it has on disk.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.port, self.dir.path(), &self.arguments);
        assert!(is_answering(&mut self.child, self.port).await);
    }

    /// Stops it in its tracks (`SIGSTOP`), or lets it go on (`SIGCONT`).
    #[expect(clippy::disallowed_methods, reason = "kill(1), not git")]
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Opens a connection of the test's own.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
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
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "redis-server, not git")]
fn spawn(port: u16, dir: &Path, arguments: &[String]) -> Child {
    Command::new("redis-server")
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
