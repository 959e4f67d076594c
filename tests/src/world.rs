//! The two worlds in which every end-to-end test runs: the embedded server alone, and the gateway beside a relay with
//! the plugin and a Redis.
//!
//! The relay of the second world is strfry where `STRFRY_BIN` names one, else its stand-in.

mod detour;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nostr::event::Event;
use serde_json::Value;
use serde_json::json;
use shared::nip34;
use tempfile::TempDir;
use tokio::net::TcpStream;
use wire::path::repository_path;

use crate::git_client::GitClient;
use crate::http_client;
use crate::import::Import;
use crate::nostr_client::NostrClient;
use crate::nostr_client::now;
use crate::nostr_client::sign;
use crate::nostr_client::tag;
use crate::plugin_host::PluginHost;
use crate::process::Process;
use crate::process::free_port;
use crate::process::program;
use crate::process::shell;
use crate::redis_server::RedisServer;
use crate::redis_server::RedisSetup;
use crate::relay::Relay;
pub use crate::repository::Repository;
use crate::strfry::STRFRY_CONF;
use crate::tcp_proxy::TcpProxy;
use crate::wait::eventually;
use crate::wire::Wire;
pub use detour::Detour;
pub use detour::Gateway;

/// Which world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One gateway process with its built-in relay and the purgatory in memory.
    Embedded,
    /// Redis, a relay with the plugin, and the gateway.
    Strfry,
}

/// What tests change of the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// `--hold-secs`
    pub hold_secs: u64,
    /// `--sleep-secs`
    pub sleep_secs: u64,
    /// `--release-wait-secs`
    pub release_wait_secs: u64,
    /// `--other-kinds` of whoever decides: the plugin, or the built-in relay.
    pub other_kinds: &'static str,
    /// Whether both programs have a list of repositories that are not hosted, empty at first.
    pub with_deny_list: bool,
    /// `--deleted-retention-days`
    pub deleted_retention_days: u64,
    /// `--trusted-proxies`; empty: not given
    pub trusted_proxies: &'static str,
    /// Limits of what is held, as options of both programs.
    pub held: &'static [&'static str],
    /// More options of the gateway alone.
    pub gateway: &'static [&'static str],
    /// `--strfry-bin` and `--strfry-conf`
    pub import: Import,
    /// `--redis-slow-ms` of both programs
    pub redis_slow_ms: u64,
    /// Which Redis there is.
    pub redis: RedisSetup,
    /// Whether both programs reach Redis through a proxy.
    pub is_redis_behind_proxy: bool,
    /// Whether the gateway, and so every client, reaches the relay through a proxy.
    pub is_relay_behind_proxy: bool,
}

impl Options {
    /// What the programs do if nothing is said, but for other kinds, which pass, and for a Redis that is slow because
    /// many tests run at once, which is no failure.
    pub const DEFAULT: Self = Self {
        hold_secs: 1800,
        sleep_secs: 86400,
        release_wait_secs: 60,
        other_kinds: "accept",
        with_deny_list: false,
        deleted_retention_days: 90,
        trusted_proxies: "",
        held: &[],
        gateway: &[],
        import: Import::NotGiven,
        redis_slow_ms: 2_000,
        redis: RedisSetup::AsAsked,
        is_redis_behind_proxy: false,
        is_relay_behind_proxy: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A running server with everything it needs.
pub struct World {
    options: Options,
    folder: TempDir,
    port: u16,
    gateway: Process,
    detour: Detour,
    neighbours: Option<Neighbours>,
    /// Where the plugin finds the relay; `None`: where it is.
    plugin_relay_port: Option<u16>,
}

/// What the embedded server does without.
struct Neighbours {
    redis: RedisServer,
    relay_port: u16,
    relay_proxy: Option<TcpProxy>,
    relay: Relay,
}

impl World {
    /// Starts everything and waits until it answers.
    ///
    /// # Panics
    /// Something cannot be started.
    pub async fn start(kind: Kind, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DENY_LIST), "").unwrap();
        let port = free_port();
        let neighbours = match kind {
            Kind::Embedded => None,
            Kind::Strfry => Some(Neighbours::start(folder.path(), port, options).await),
        };
        let arguments = gateway_arguments(folder.path(), port, options, neighbours.as_ref());
        let gateway = Process::start(
            &program("grasp-gateway"),
            &arguments,
            &folder.path().join("gateway.log"),
        );
        let mut world = Self {
            options,
            folder,
            port,
            gateway,
            detour: Detour::default(),
            neighbours,
            plugin_relay_port: None,
        };
        world.wait_for_gateway().await;
        world
    }

    async fn wait_for_gateway(&mut self) {
        let (port, gateway) = (self.port, &mut self.gateway);
        eventually("the gateway listens", async || {
            assert!(gateway.is_running(), "the gateway has ended:\n{}", gateway.output());
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
    }

    /// Kills the gateway as `kill -9` does.
    pub async fn kill_gateway(&mut self) {
        self.gateway.kill().await;
    }

    /// Asks the gateway to stop, as systemd does.
    pub async fn terminate_gateway(&self) {
        self.gateway.terminate().await;
    }

    /// Waits for the end of the gateway.
    ///
    /// # Panics
    /// It does not end.
    pub async fn gateway_ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.gateway.ended());
        ended.await.expect("the gateway does not end")
    }

    /// Starts the gateway again, after it was killed, with other options.
    pub async fn start_gateway_with(&mut self, options: Options) {
        self.options = options;
        self.start_gateway().await;
    }

    /// Offers an event to a plugin as `strfry stream` does: before the relay has looked at it. Returns the answer.
    ///
    /// # Panics
    /// The relay is built in, or the plugin does not answer.
    pub async fn stream(&self, event: &Event) -> Value {
        let command = self.plugin_command();
        let request = json!({"event": event, "receivedAt": now(), "sourceInfo": "wss://relay.example",
            "sourceType": "Stream", "type": "new"});
        let answer = shell(&command, &format!("{request}\n")).await;
        serde_json::from_str(&answer).unwrap()
    }

    /// Starts a plugin of its own, asked as strfry asks.
    ///
    /// # Panics
    /// The relay is built in.
    pub fn plugin(&self) -> PluginHost {
        let neighbours = self.neighbours.as_ref().expect("the built-in relay has no plugin");
        let command = plugin_command(self.folder.path(), self.port, self.options, neighbours);
        PluginHost::new(command, Duration::from_secs(10))
    }

    /// Starts the gateway again, after it was killed.
    pub async fn start_gateway(&mut self) {
        self.gateway = self.start_gateway_at(self.port, &self.detour);
        self.wait_for_gateway().await;
    }

    /// Returns the number of the gateway's process.
    pub fn gateway_id(&self) -> u32 {
        self.gateway.id()
    }

    /// Returns what the gateway has logged.
    pub fn gateway_log(&self) -> String {
        self.gateway.output()
    }

    /// Stops the relay; the gateway has to do without.
    pub async fn stop_relay(&mut self) {
        let neighbours = self
            .neighbours
            .as_mut()
            .expect("the built-in relay is part of the server");
        neighbours.relay.stop().await;
    }

    /// Starts the relay again.
    pub async fn start_relay(&mut self) {
        let command = self.plugin_command();
        let folder = self.folder.path().to_owned();
        let neighbours = self.neighbours.as_mut().unwrap();
        neighbours.relay = Relay::start(&folder, neighbours.relay_port, command).await;
    }

    /// Returns the port of Redis; `None` in the embedded world.
    pub fn redis_port(&self) -> Option<u16> {
        self.neighbours.as_ref().map(|neighbours| neighbours.redis.port())
    }

    /// Returns Redis.
    ///
    /// # Panics
    /// The embedded world has none.
    pub fn redis(&mut self) -> &mut RedisServer {
        &mut self.neighbours.as_mut().expect("the embedded world has no Redis").redis
    }

    /// Returns the proxy through which the gateway reaches the relay.
    ///
    /// # Panics
    /// There is none.
    pub fn relay_proxy(&self) -> &TcpProxy {
        let proxy = self
            .neighbours
            .as_ref()
            .and_then(|neighbours| neighbours.relay_proxy.as_ref());
        proxy.expect("the relay is reached without a proxy")
    }

    /// Returns the directory that belongs to this world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the list of repositories that are not hosted.
    pub fn deny_list(&self) -> PathBuf {
        self.folder.path().join(DENY_LIST)
    }

    /// Returns the directory of the gateway's repositories.
    pub fn repositories(&self) -> PathBuf {
        self.folder.path().join("data/repositories")
    }

    /// Returns `host:port`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Connects to the relay as a client does: through the gateway.
    pub async fn nostr(&self) -> NostrClient {
        NostrClient::connect(&format!("ws://{}", self.authority())).await
    }

    /// Makes an empty working directory.
    pub async fn git(&self, name: &str) -> GitClient {
        GitClient::init(&self.folder.path().join(name)).await
    }

    /// Clones a repository.
    pub async fn clone(&self, repository: &Repository, name: &str) -> Option<GitClient> {
        GitClient::clone_from(&self.url(repository), &self.folder.path().join(name)).await
    }

    /// Returns the clone URL of a repository.
    pub fn url(&self, repository: &Repository) -> String {
        format!(
            "http://{}{}",
            self.authority(),
            repository_path(&repository.coordinate())
        )
    }

    /// Asks for a path over plain HTTP; returns the status and the whole answer.
    ///
    /// # Panics
    /// The gateway does not answer.
    pub async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        self.request(&format!("GET {path} HTTP/1.1\r\n{headers}")).await
    }

    /// Sends the head of a request, without the empty line at its end.
    ///
    /// # Panics
    /// The gateway does not answer.
    pub async fn request(&self, head: &str) -> (u16, String) {
        let answer = http_client::request(&self.authority(), head, b"").await;
        (answer.status, String::from_utf8_lossy(&answer.bytes).into_owned())
    }

    /// Sends the head of a request for another protocol; returns the status and the head of the answer.
    ///
    /// # Panics
    /// The gateway does not answer.
    pub async fn upgrade(&self, head: &str) -> (u16, String) {
        use tokio::io::AsyncReadExt;
        use tokio::io::AsyncWriteExt;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream
            .write_all(format!("{head}host: {}\r\n\r\n", self.authority()).as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection ends");
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (
            answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap(),
            answer,
        )
    }

    /// Returns the URL of the relay itself, behind the gateway's back.
    ///
    /// # Panics
    /// The relay is built in.
    pub fn relay_url(&self) -> String {
        format!(
            "ws://127.0.0.1:{}",
            self.neighbours.as_ref().expect("the relay is built in").relay_port
        )
    }

    /// Announces a repository that names this server.
    pub fn announcement(&self, repository: &Repository, created_at: u64, more: &[Vec<String>]) -> Event {
        let mut tags = vec![
            tag(&["d", &repository.identifier]),
            tag(&["clone", &self.url(repository)]),
            tag(&["relays", &format!("ws://{}", self.authority())]),
        ];
        tags.extend_from_slice(more);
        sign(&repository.owner, nip34::ANNOUNCEMENT, created_at, &tags)
    }
}

const DENY_LIST: &str = "repos-deny";

impl Neighbours {
    async fn start(folder: &Path, gateway_port: u16, options: Options) -> Self {
        let relay_port = free_port();
        let mut relay_proxy = None;
        if options.is_relay_behind_proxy {
            relay_proxy = Some(TcpProxy::start(relay_port, Wire::WebSocket).await);
        }
        let mut neighbours = Self {
            redis: RedisServer::start_as(options.redis, folder, options.is_redis_behind_proxy).await,
            relay_port,
            relay_proxy,
            relay: Relay::Stopped,
        };
        let command = plugin_command(folder, gateway_port, options, &neighbours);
        neighbours.relay = Relay::start(folder, neighbours.relay_port, command).await;
        neighbours
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        // The relay first: its plugin speaks to Redis.
        self.relay = Relay::Stopped;
        debug_assert!(self.redis.is_running(), "Redis has ended:\n{}", self.redis.output());
    }
}

fn gateway_arguments(folder: &Path, port: u16, options: Options, neighbours: Option<&Neighbours>) -> Vec<String> {
    let mut arguments = vec![
        "serve".to_owned(),
        format!("--bind=127.0.0.1:{port}"),
        format!("--data-dir={}", folder.join("data").display()),
        format!("--hold-secs={}", options.hold_secs),
        format!("--sleep-secs={}", options.sleep_secs),
        format!("--release-wait-secs={}", options.release_wait_secs),
        format!("--other-kinds={}", options.other_kinds),
        format!("--deleted-retention-days={}", options.deleted_retention_days),
    ];
    let more = options.held.iter().chain(options.gateway);
    arguments.extend(more.map(|&option| option.to_owned()));
    if options.with_deny_list {
        arguments.push(format!("--repos-deny={}", folder.join(DENY_LIST).display()));
    }
    if !options.trusted_proxies.is_empty() {
        arguments.push(format!("--trusted-proxies={}", options.trusted_proxies));
    }
    if let Some(strfry) = options.import.program(folder) {
        arguments.push(format!("--strfry-bin={}", strfry.display()));
        arguments.push(format!("--strfry-conf={}", folder.join(STRFRY_CONF).display()));
    }
    if let Some(neighbours) = neighbours {
        arguments.extend(neighbours.redis.options());
        arguments.push(format!("--redis-slow-ms={}", options.redis_slow_ms));
        let proxy = neighbours.relay_proxy.as_ref();
        let relay_port = proxy.map_or(neighbours.relay_port, TcpProxy::port);
        arguments.push(format!("--relay-url=ws://127.0.0.1:{relay_port}"));
    }
    arguments
}

/// The command as an operator writes it into strfry.conf.
fn plugin_command(folder: &Path, gateway_port: u16, options: Options, neighbours: &Neighbours) -> String {
    let deny_list = match options.with_deny_list {
        true => format!("--repos-deny {}", folder.join(DENY_LIST).display()),
        false => String::new(),
    };
    format!(
        "exec {} {deny_list} {} --domain 127.0.0.1:{gateway_port} --relay-url ws://127.0.0.1:{} {} \
         --redis-slow-ms {} --hold-secs {} --other-kinds {} 2>>{}",
        program("grasp-plugin").display(),
        options.held.join(" "),
        neighbours.relay_port,
        neighbours.redis.options().join(" "),
        options.redis_slow_ms,
        options.hold_secs,
        options.other_kinds,
        folder.join("plugin.log").display(),
    )
}
