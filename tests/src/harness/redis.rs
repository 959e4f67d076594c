//! The Redis of a world: a real one with the shipped configuration, which can be killed, and reached through a proxy;
//! or several that are one (`redis_topology.rs`).

use std::io;
use std::path::Path;
use std::path::PathBuf;

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::faults::clock::MovableClock;
use crate::faults::frames::Wire;
use crate::faults::tcp_proxy::TcpProxy;
use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::process::redis_program;
use crate::harness::redis_connection::connect;
use crate::harness::redis_topology::Mode;
use crate::harness::redis_topology::Topology;
use crate::harness::wait::eventually;

/// Which Redis a world has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisSetup {
    /// One server, or what `GRASP_TEST_REDIS` asks for.
    AsAsked,
    /// One server, for tests that do to it what several do not survive.
    Alone,
    /// One server, whose clock the test can move.
    MovableClock,
    /// Several, of which the first can be killed.
    Failover(Mode),
}

/// A Redis, and the proxy before it if there is one.
pub struct RedisServer {
    servers: Servers,
    port: u16,
    folder: PathBuf,
    proxy: Option<TcpProxy>,
    clock: Option<MovableClock>,
    /// How many replicas programs wait for. None where nothing fails: on a busy machine they are late.
    confirming: usize,
}

enum Servers {
    One(Process),
    Several(Topology),
}

impl RedisServer {
    /// Starts what a world has; behind a proxy there is only one.
    pub async fn start_as(setup: RedisSetup, folder: &Path, is_behind_proxy: bool) -> Self {
        let (mode, replicas, confirming) = match (setup, Mode::asked_for()) {
            (RedisSetup::Failover(mode), _) => (mode, 2, 1),
            (RedisSetup::AsAsked, Some(mode)) if !is_behind_proxy => (mode, 1, 0),
            (RedisSetup::MovableClock, _) => {
                let clock = MovableClock::in_folder(folder).await;
                return Self::start_with(folder, is_behind_proxy, Some(clock)).await;
            }
            (RedisSetup::AsAsked | RedisSetup::Alone, _) => return Self::start(folder, is_behind_proxy).await,
        };
        let topology = Topology::start(mode, folder, Some(Path::new(SHIPPED)), replicas).await;
        Self {
            port: topology.master_port(),
            servers: Servers::Several(topology),
            folder: folder.to_owned(),
            proxy: None,
            clock: None,
            confirming,
        }
    }

    /// Returns the options that tell programs where it is, and when they may rely on it.
    pub fn options(&self) -> Vec<String> {
        let url = format!("--redis-url={}", self.url());
        match &self.servers {
            Servers::One(_) => vec![url],
            Servers::Several(topology) => vec![
                url,
                format!("--redis-mode={}", topology.mode().name()),
                format!("--redis-replicas={}", self.confirming),
                "--redis-wait-ms=500".to_owned(),
            ],
        }
    }

    /// Returns the several servers.
    ///
    /// # Panics
    /// It is one.
    pub fn topology(&mut self) -> &mut Topology {
        match &mut self.servers {
            Servers::One(_) => panic!("it is one server"),
            Servers::Several(topology) => topology,
        }
    }

    fn only(&mut self) -> &mut Process {
        match &mut self.servers {
            Servers::One(process) => process,
            Servers::Several(_) => panic!("it is several servers"),
        }
    }

    /// Starts one that keeps its data in `folder`.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn start(folder: &Path, is_behind_proxy: bool) -> Self {
        Self::start_with(folder, is_behind_proxy, None).await
    }

    async fn start_with(folder: &Path, is_behind_proxy: bool, clock: Option<MovableClock>) -> Self {
        let port = free_port();
        Self {
            servers: Servers::One(start(folder, port, clock.as_ref()).await),
            port,
            clock,
            folder: folder.to_owned(),
            proxy: match is_behind_proxy {
                true => Some(TcpProxy::start(port, Wire::Redis).await),
                false => None,
            },
            confirming: 0,
        }
    }

    /// Returns the port of Redis itself.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL that programs are given.
    pub fn url(&self) -> String {
        if let Servers::Several(topology) = &self.servers {
            return topology.urls().join(",");
        }
        let port = self.proxy.as_ref().map_or(self.port, TcpProxy::port);
        format!("redis://127.0.0.1:{port}")
    }

    /// Returns the proxy that programs come through.
    ///
    /// # Panics
    /// There is none.
    pub fn proxy(&self) -> &TcpProxy {
        self.proxy.as_ref().expect("this Redis is reached without a proxy")
    }

    /// Returns its clock.
    ///
    /// # Panics
    /// It has the system's.
    pub fn clock(&self) -> &MovableClock {
        self.clock.as_ref().expect("this Redis has the system's clock")
    }

    /// Kills it as `kill -9` does.
    pub async fn kill(&mut self) {
        self.only().kill().await;
    }

    /// Stops it in its tracks (`STOP`), or lets it go on (`CONT`).
    pub async fn signal(&mut self, name: &str) {
        self.only().signal(name).await;
    }

    /// Starts it again, after it was killed, with what it has on disk.
    pub async fn start_again(&mut self) {
        self.servers = Servers::One(start(&self.folder, self.port, self.clock.as_ref()).await);
    }

    /// Starts it again, after it was killed, with nothing.
    ///
    /// # Panics
    /// Its data cannot be removed.
    pub async fn start_empty(&mut self) {
        std::fs::remove_dir_all(self.folder.join(DATA)).unwrap();
        self.start_again().await;
    }

    /// Tells whether it runs.
    pub fn is_running(&mut self) -> bool {
        match &mut self.servers {
            Servers::One(process) => process.is_running(),
            // They end with what started them.
            Servers::Several(_) => true,
        }
    }

    /// Returns what it has logged.
    pub fn output(&self) -> String {
        match &self.servers {
            Servers::One(process) => process.output(),
            Servers::Several(_) => String::new(),
        }
    }

    /// Opens a connection of the test's own, past the proxy.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect(&format!("redis://127.0.0.1:{}", self.port)).await.unwrap()
    }

    /// Runs one command, written as for redis-cli.
    ///
    /// # Panics
    /// It is refused.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut self.connection().await).await.unwrap()
    }
}

async fn start(folder: &Path, port: u16, clock: Option<&MovableClock>) -> Process {
    let log = folder.join("redis.log");
    let environment = clock.map(MovableClock::environment).unwrap_or_default();
    let mut redis = Process::start_with(&redis_program(), &arguments(folder, port), &log, &environment);
    eventually("Redis answers", async || {
        assert!(redis.is_running(), "Redis has ended:\n{}", redis.output());
        has_loaded(port).await.unwrap_or(false)
    })
    .await;
    redis
}

/// Whether it does not read its file any more, whatever else it answers: it may want a password.
async fn has_loaded(port: u16) -> io::Result<bool> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(b"PING\r\n").await?;
    let mut answer = [0; 8];
    connection.read_exact(&mut answer[..1]).await?;
    let read = connection.read(&mut answer[1..]).await?;
    Ok(!answer[..=read].starts_with(b"-LOADIN"))
}

/// Returns the arguments of a Redis with the shipped configuration that keeps its data in `folder`.
///
/// # Panics
/// Its directory cannot be made.
pub fn arguments(folder: &Path, port: u16) -> Vec<String> {
    let data = folder.join(DATA);
    std::fs::create_dir_all(&data).unwrap();
    let (port, data) = (port.to_string(), data.display().to_string());
    [SHIPPED, "--port", &port, "--dir", &data].map(str::to_owned).into()
}

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../strfry-config/redis.conf");

/// Where it keeps what it has, below its folder.
const DATA: &str = "redis";
