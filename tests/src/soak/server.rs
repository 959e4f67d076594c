//! The server that is killed: Redis, the relay with its plugin and two gateways, each a process, and before Redis and
//! the relay a proxy for each of those who talk to them, and before git a wrapper.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nostr::event::EventId;
use tempfile::TempDir;

use super::disk_faults::Means;
use super::options::Options;
use crate::faults::frames::Wire;
use crate::faults::git_wrapper::GitWrapper;
use crate::faults::small_disk::SmallDisk;
use crate::faults::tcp_proxy::TcpProxy;
use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::process::harness_program;
use crate::harness::process::program;
use crate::harness::process::shell;
use crate::harness::process::signal;
use crate::harness::redis;
use crate::harness::strfry::strfry_arguments;
use crate::harness::strfry::strfry_binary;
use crate::harness::wait::is_listened_at;
use crate::harness::wait::within;

/// How many gateways there are.
pub(super) const GATEWAYS: usize = 2;

/// A program that is started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    /// Redis.
    Redis,
    /// The relay; its plugin goes with it.
    Relay,
    /// One of the gateways.
    Gateway(usize),
}

impl Program {
    /// All of them, in the order of a boot.
    pub(super) const ALL: [Self; 4] = [Self::Redis, Self::Relay, Self::Gateway(0), Self::Gateway(1)];
}

/// A program that talks to Redis and to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Talker {
    /// One of the gateways.
    Gateway(usize),
    /// The plugin, which the relay starts.
    Plugin,
}

impl Talker {
    fn index(self) -> usize {
        match self {
            Self::Gateway(number) => number,
            Self::Plugin => GATEWAYS,
        }
    }
}

/// Where everything is that the load and the checks need.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// `host:port` of the gateways; the first one's is the service's name.
    pub(super) gateways: [String; GATEWAYS],
    /// The relay itself.
    pub(super) relay_url: String,
    /// Redis itself.
    pub(super) redis_url: String,
    /// The directory of everything.
    pub(super) folder: PathBuf,
}

/// The running server.
pub(super) struct Server {
    options: Options,
    gateway_ports: [u16; GATEWAYS],
    redis_port: u16,
    relay_port: u16,
    /// By talker: before Redis, before the relay.
    proxies: [(TcpProxy, TcpProxy); GATEWAYS + 1],
    wrappers: [Arc<GitWrapper>; GATEWAYS],
    running: BTreeMap<Program, Process>,
    /// The file system of the data directory; `None` where nobody may mount one.
    disk: Option<Arc<SmallDisk>>,
    /// The last to go.
    folder: TempDir,
}

impl Server {
    /// Starts everything and waits until it answers.
    ///
    /// # Panics
    /// Something cannot be started.
    pub(super) async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (redis_port, relay_port) = (free_port(), free_port());
        let proxies = async || {
            let redis = TcpProxy::start(redis_port, Wire::Redis).await;
            (redis, TcpProxy::start(relay_port, Wire::WebSocket).await)
        };
        let wrapper = |number| Arc::new(GitWrapper::install(&folder.path().join(format!("bin{number}"))));
        let disk = SmallDisk::mount(&folder.path().join("data"), &folder.path().join("disk.log")).await;
        let mut server = Self {
            options,
            gateway_ports: [free_port(), free_port()],
            redis_port,
            relay_port,
            proxies: [proxies().await, proxies().await, proxies().await],
            wrappers: [wrapper(0), wrapper(1)],
            running: BTreeMap::new(),
            disk: disk.map(Arc::new),
            folder,
        };
        server.start_missing().await;
        server
    }

    /// Returns where everything is.
    pub(super) fn places(&self) -> Places {
        Places {
            gateways: self.gateway_ports.map(|port| format!("127.0.0.1:{port}")),
            relay_url: format!("ws://127.0.0.1:{}", self.relay_port),
            redis_url: format!("redis://127.0.0.1:{}", self.redis_port),
            folder: self.folder.path().to_owned(),
        }
    }

    /// Returns what faults of disks are made with.
    pub(super) fn means(&self) -> Means {
        let folder = self.folder.path().join("data");
        Means {
            data: self.disk.as_ref().map_or(folder, |disk| disk.seen()),
            disk: self.disk.clone(),
            gits: self.wrappers.to_vec(),
            hidden: Arc::default(),
        }
    }

    /// Returns the proxy between a program and Redis.
    pub(super) fn redis_proxy(&self, talker: Talker) -> &TcpProxy {
        &self.proxies[talker.index()].0
    }

    /// Returns the proxy between a program and the relay.
    pub(super) fn relay_proxy(&self, talker: Talker) -> &TcpProxy {
        &self.proxies[talker.index()].1
    }

    /// Returns what stands before git in a gateway's path.
    pub(super) fn git_of(&self, gateway: usize) -> &GitWrapper {
        &self.wrappers[gateway]
    }

    /// Kills as `kill -9` does. What the program has started itself is left to find out.
    pub(super) async fn kill(&mut self, program: Program) {
        if let Some(mut process) = self.running.remove(&program) {
            process.kill().await;
        }
    }

    /// Kills the plugin, if it is the one that said who it is: numbers of processes are used again.
    pub(super) fn kill_plugin(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join(PLUGIN_PID)).unwrap_or_default();
        let pid = pid.trim();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains(PLUGIN) && command.contains(&self.places().gateways[0]) {
            signal("KILL", pid);
        }
    }

    /// Starts whatever does not run.
    ///
    /// # Panics
    /// Something cannot be started.
    pub(super) async fn start_missing(&mut self) {
        for program in Program::ALL {
            let process = self.running.get_mut(&program);
            if process.is_none_or(|process| !process.is_running()) {
                let started = self.command(program).start().await;
                self.running.insert(program, started);
            }
        }
    }

    /// Returns what the programs have logged about an event.
    pub(super) fn logged(&self, event_id: &EventId) -> Vec<String> {
        let id = event_id.to_hex();
        let mut about = Vec::new();
        for log in LOGS {
            let text = std::fs::read_to_string(self.folder.path().join(log)).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains(&id));
            about.extend(lines.map(|line| format!("{log}: {line}")));
        }
        about
    }

    /// Stops everything and keeps what it has left on disk, its logs among it. Returns where.
    pub(super) async fn keep(mut self) -> PathBuf {
        for program in Program::ALL {
            self.kill(program).await;
        }
        if let Some(disk) = &self.disk {
            let copy = format!(
                "cp -a {}/. {}",
                disk.seen().display(),
                self.folder.path().join("data").display()
            );
            shell(&copy, "").await;
        }
        self.folder.keep()
    }

    fn command(&self, started: Program) -> Command {
        let folder = self.folder.path();
        match started {
            Program::Redis => Command {
                program: "redis-server".into(),
                arguments: redis::arguments(folder, self.redis_port),
                path: None,
                log: folder.join("redis.log"),
                port: self.redis_port,
            },
            Program::Relay => {
                let plugin = self.plugin();
                let (program, arguments) = match strfry_binary() {
                    Some(strfry) => (strfry, strfry_arguments(folder, self.relay_port, &plugin)),
                    None => {
                        let database = folder.join("relay").display().to_string();
                        let arguments = [self.relay_port.to_string(), database, plugin];
                        (harness_program("relay-stand-in"), arguments.into())
                    }
                };
                Command {
                    program,
                    arguments,
                    path: None,
                    log: folder.join("relay.log"),
                    port: self.relay_port,
                }
            }
            Program::Gateway(number) => self.gateway(number),
        }
    }

    /// Returns the relay's command line for its plugin, which writes down who it is.
    fn plugin(&self) -> String {
        let folder = self.folder.path();
        let (redis, relay) = &self.proxies[Talker::Plugin.index()];
        format!(
            "echo $$ >{}; exec {} --domain {} --relay-url ws://127.0.0.1:{} --redis-url redis://127.0.0.1:{} \
             --hold-secs {} --other-kinds accept 2>>{}",
            folder.join(PLUGIN_PID).display(),
            program(PLUGIN).display(),
            self.places().gateways[0],
            relay.port(),
            redis.port(),
            self.options.hold_secs,
            folder.join("plugin.log").display(),
        )
    }

    fn gateway(&self, number: usize) -> Command {
        let folder = self.folder.path();
        let (redis, relay) = &self.proxies[Talker::Gateway(number).index()];
        let port = self.gateway_ports[number];
        let arguments = vec![
            "serve".to_owned(),
            format!("--bind=127.0.0.1:{port}"),
            format!("--domain={}", self.places().gateways[0]),
            format!("--data-dir={}", folder.join("data").display()),
            format!("--hold-secs={}", self.options.hold_secs),
            format!("--release-wait-secs={RELEASE_WAIT_SECS}"),
            format!("--redis-url=redis://127.0.0.1:{}", redis.port()),
            format!("--relay-url=ws://127.0.0.1:{}", relay.port()),
        ];
        let mut whole = self.disk.as_ref().map(|disk| disk.launcher()).unwrap_or_default();
        whole.push(program("grasp-gateway").display().to_string());
        whole.extend(arguments);
        Command {
            program: whole.remove(0).into(),
            arguments: whole,
            path: Some(self.wrappers[number].path()),
            log: folder.join(format!("gateway{number}.log")),
            port,
        }
    }
}

/// How a program is started.
struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    path: Option<String>,
    log: PathBuf,
    port: u16,
}

impl Command {
    /// Starts it, again if it ends at once, and waits until it listens.
    async fn start(self) -> Process {
        let environment: Vec<(&str, String)> = self.path.into_iter().map(|path| ("PATH", path)).collect();
        let start = || Process::start_with(&self.program, &self.arguments, &self.log, &environment);
        let mut process = start();
        within(START_MAX, "a program listens", async || {
            if !process.is_running() {
                process = start();
            }
            is_listened_at(("127.0.0.1", self.port)).await
        })
        .await;
        process
    }
}

const PLUGIN: &str = "grasp-plugin";
/// Where the plugin's process says who it is.
const PLUGIN_PID: &str = "plugin.pid";
const LOGS: [&str; 5] = ["gateway0.log", "gateway1.log", "plugin.log", "relay.log", "redis.log"];
/// A push hears of a relay that is away before its client loses patience.
const RELEASE_WAIT_SECS: u64 = 8;
const START_MAX: Duration = Duration::from_secs(60);
