//! Several real redis-servers that are one Redis: a cluster, or a master with replicas and sentinels. Killed when
//! dropped.

use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use redis::FromRedisValue;
use redis::RedisResult;
use redis::cmd;

use crate::harness::process::redis_program;
use crate::harness::redis_connection::connect;

/// How several servers are one Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A master with replicas, and three sentinels that put one of these in its place.
    Sentinel,
    /// Three masters that share the keys, and replicas of the one with the purgatory.
    Cluster,
}

impl Mode {
    /// Returns what the environment asks for: `GRASP_TEST_REDIS=cluster` or `=sentinel`; `None`: one server.
    ///
    /// # Panics
    /// It asks for something else.
    pub fn asked_for() -> Option<Self> {
        match std::env::var("GRASP_TEST_REDIS").ok()?.as_str() {
            "sentinel" => Some(Self::Sentinel),
            "cluster" => Some(Self::Cluster),
            "" | "single" => None,
            other => panic!("GRASP_TEST_REDIS is {other:?}: it must be sentinel or cluster"),
        }
    }

    /// Returns the value of `--redis-mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// Several servers that are one Redis.
pub struct Topology {
    mode: Mode,
    nodes: Vec<Node>,
    sentinels: Vec<Node>,
    master: usize,
}

struct Node {
    child: Child,
    port: u16,
}

impl Topology {
    /// Starts one with so many replicas. The servers keep what they have below `folder`, each
    /// with a copy of `config`: servers that fail over write theirs anew.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn start(mode: Mode, folder: &Path, config: Option<&Path>, replicas: usize) -> Self {
        match mode {
            Mode::Sentinel => Self::sentinel(folder, config, replicas).await,
            Mode::Cluster => Self::cluster(folder, config, replicas).await,
        }
    }

    async fn sentinel(folder: &Path, config: Option<&Path>, replicas: usize) -> Self {
        let mut nodes = vec![Node::start(&folder.join("redis-0"), config, &[]).await];
        let master = nodes[0].port.to_string();
        for number in 1..=replicas {
            let own = ["--replicaof", "127.0.0.1", &master];
            let node = Node::start(&folder.join(format!("redis-{number}")), config, &own).await;
            node.until("it follows its master", &["INFO", "replication"], |info| {
                info.contains("master_link_status:up")
            })
            .await;
            nodes.push(node);
        }
        let mut sentinels = Vec::new();
        for number in 0..3 {
            sentinels.push(Node::start_sentinel(&folder.join(format!("sentinel-{number}")), &master).await);
        }
        for sentinel in &sentinels {
            let known = format!("slaves={replicas},sentinels=3");
            sentinel
                .until("the sentinels know each other", &["INFO", "sentinel"], |info| {
                    info.contains(&known)
                })
                .await;
        }
        Self {
            mode: Mode::Sentinel,
            nodes,
            sentinels,
            master: 0,
        }
    }

    async fn cluster(folder: &Path, config: Option<&Path>, replicas: usize) -> Self {
        let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let mut nodes = Vec::new();
        for number in 0..MASTERS + replicas {
            nodes.push(Node::start(&folder.join(format!("redis-{number}")), config, &own).await);
        }
        let first_port = nodes[0].port.to_string();
        for (number, node) in nodes.iter().enumerate() {
            // Two nodes that begin with the same epoch settle that first, which takes long.
            let epoch = (number + 1).to_string();
            let _: String = node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await.unwrap();
            if number < MASTERS {
                let (first, last) = (SLOTS * number / MASTERS, SLOTS * (number + 1) / MASTERS - 1);
                let slots = ["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()];
                let _: String = node.ask(&slots).await.unwrap();
            }
            if number > 0 {
                let _: String = node.ask(&["CLUSTER", "MEET", "127.0.0.1", &first_port]).await.unwrap();
            }
        }
        let slot: usize = nodes[0].ask(&["CLUSTER", "KEYSLOT", "{purgatory}"]).await.unwrap();
        let master = (0..MASTERS)
            .find(|number| slot < SLOTS * (number + 1) / MASTERS)
            .unwrap();
        let all = format!("cluster_known_nodes:{}\r", nodes.len());
        for node in &nodes {
            node.until("the cluster is whole", &["CLUSTER", "INFO"], |info| {
                info.contains("cluster_state:ok") && info.contains(&all)
            })
            .await;
        }
        let id: String = nodes[master].ask(&["CLUSTER", "MYID"]).await.unwrap();
        for replica in &nodes[MASTERS..] {
            let _: String = replica.ask(&["CLUSTER", "REPLICATE", &id]).await.unwrap();
            replica
                .until("it follows its master", &["INFO", "replication"], |info| {
                    info.contains("master_link_status:up")
                })
                .await;
        }
        Self {
            mode: Mode::Cluster,
            nodes,
            sentinels: Vec::new(),
            master,
        }
    }

    /// Returns the value of `--redis-mode`.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the values of `--redis-url`, the one with the purgatory last.
    pub fn urls(&self) -> Vec<String> {
        let asked = match self.mode {
            Mode::Sentinel => &self.sentinels,
            Mode::Cluster => &self.nodes,
        };
        let mut ports: Vec<u16> = asked.iter().map(|node| node.port).collect();
        ports.sort_by_key(|port| *port == self.master_port());
        ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect()
    }

    /// Returns the port of the server that had the purgatory at first.
    pub fn master_port(&self) -> u16 {
        self.nodes[self.master].port
    }

    /// Has every server ask for a password, and the sentinels know it.
    ///
    /// # Panics
    /// A server refuses it.
    pub async fn set_password(&self, password: &str) {
        for sentinel in &self.sentinels {
            let set = ["SENTINEL", "SET", "mymaster", "auth-pass", password];
            let _: String = sentinel.ask(&set).await.unwrap();
        }
        for node in &self.nodes {
            let _: String = node
                .ask(&["CONFIG", "SET", "masterauth", password, "requirepass", password])
                .await
                .unwrap();
        }
    }

    /// Kills that server as `kill -9` does.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill_master(&mut self) {
        let master = &mut self.nodes[self.master].child;
        master.kill().unwrap();
        master.wait().unwrap();
    }

    /// Waits until another server has the purgatory, and returns its port.
    ///
    /// # Panics
    /// None has it within a minute.
    pub async fn successor(&self) -> u16 {
        let start = Instant::now();
        loop {
            for (number, node) in self.nodes.iter().enumerate() {
                // The other masters of a cluster refuse to be asked for it.
                let has_it = node.ask::<u64>(&["DEL", "{purgatory}:none"]).await.is_ok();
                if number != self.master && has_it {
                    return node.port;
                }
            }
            assert!(start.elapsed() < PATIENCE, "nobody takes over");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Node {
    async fn start(folder: &Path, config: Option<&Path>, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let own_config = folder.join("redis.conf");
        match config {
            Some(config) => drop(std::fs::copy(config, &own_config).unwrap()),
            None => std::fs::write(&own_config, "appendonly no\n").unwrap(),
        }
        // Replicas follow at once, and not after waiting for others to follow together.
        let own = [
            own_config.to_str().unwrap(),
            "--repl-diskless-sync-delay",
            "0",
            "--save",
            "",
        ];
        Self::spawn(folder, &[&own, arguments].concat()).await
    }

    async fn start_sentinel(folder: &Path, master_port: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let config: PathBuf = folder.join("sentinel.conf");
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {master_port} 2\n\
             sentinel down-after-milliseconds mymaster 1000\n\
             sentinel failover-timeout mymaster 5000\n"
        );
        std::fs::write(&config, text).unwrap();
        Self::spawn(folder, &[config.to_str().unwrap(), "--sentinel"]).await
    }

    #[expect(clippy::disallowed_methods, reason = "redis-server, not git")]
    async fn spawn(folder: &Path, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        // Somebody else may take the port between the look and the start; a cluster also needs the one 10,000 above.
        for _ in 0..50 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (port, bus) = match port > BUS_OFFSET + 1024 {
                true => (port - BUS_OFFSET, port),
                false => continue,
            };
            drop(listener);
            if [port, bus]
                .iter()
                .any(|port| TcpListener::bind(("127.0.0.1", *port)).is_err())
            {
                continue;
            }
            let child = Command::new(redis_program())
                .args(arguments)
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
                .arg(folder)
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server 7.0 or newer is installed");
            let mut node = Self { child, port };
            if node.is_up().await {
                return node;
            }
        }
        panic!("no redis-server came up");
    }

    async fn is_up(&mut self) -> bool {
        let pid = format!("process_id:{}\r", self.child.id());
        let start = Instant::now();
        while start.elapsed() < PATIENCE && self.child.try_wait().unwrap().is_none() {
            if let Ok(info) = self.ask::<String>(&["INFO"]).await {
                return info.contains(&pid);
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut connection = connect(&format!("redis://127.0.0.1:{}", self.port)).await?;
        let mut asked = cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await
    }

    async fn until(&self, what: &str, command: &[&str], holds: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            let text: String = self.ask(command).await.unwrap();
            if holds(&text) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "not {what}: {text}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;
/// How far above its port a node of a cluster listens for the others.
const BUS_OFFSET: u16 = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
