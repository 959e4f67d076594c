//! The two worlds in which every end-to-end test runs: the embedded server alone, and the gateway beside a relay with
//! the plugin and a Redis.
//!
//! The relay of the second world is strfry where `STRFRY_BIN` names one, else its stand-in.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nostr::event::Event;
use serde_json::Value;
use serde_json::json;
use shared::nip34;
use tempfile::TempDir;
use wire::path::repository_path;

use crate::clients::git::GitClient;
use crate::clients::http;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
use crate::faults::tcp_proxy::TcpProxy;
use crate::harness::gateway::Detour;
use crate::harness::gateway::gateway_arguments;
use crate::harness::neighbours::Neighbours;
use crate::harness::options::DENIED_AUTHORS;
use crate::harness::options::DENY_LIST;
use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::plugin_host::PluginHost;
use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::process::program;
use crate::harness::process::shell;
use crate::harness::redis::RedisServer;
use crate::harness::relay::Relay;
use crate::harness::repository::Repository;
use crate::harness::strfry::STRFRY_CONF;
use crate::harness::strfry_import::Import;
use crate::harness::wait::eventually;
use crate::harness::wait::is_listened_at;

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

impl World {
    /// Starts everything and waits until it answers.
    ///
    /// # Panics
    /// Something cannot be started.
    pub async fn start(kind: Kind, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DENY_LIST), "").unwrap();
        std::fs::write(folder.path().join(DENIED_AUTHORS), "").unwrap();
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
            is_listened_at(("127.0.0.1", port)).await
        })
        .await;
    }

    /// Kills the gateway as `kill -9` does.
    pub async fn kill_gateway(&mut self) {
        self.gateway.kill().await;
        // A git that it was just starting has its socket for a moment longer, and resets who has connected by then.
        let port = self.port;
        eventually("nobody listens", async || !is_listened_at(("127.0.0.1", port)).await).await;
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

    /// Puts an event into the relay's database as `strfry import` does: no plugin is asked.
    ///
    /// # Panics
    /// The relay is built in, or strfry does not take the event.
    pub async fn import(&self, event: &Event) {
        self.import_all(std::slice::from_ref(event)).await;
    }

    /// Puts events into the relay's database as `strfry import` does.
    ///
    /// # Panics
    /// The relay is built in, or strfry does not take one of them.
    pub async fn import_all(&self, events: &[Event]) {
        let strfry = Import::Works.program(self.folder.path()).unwrap();
        let configuration = self.folder.path().join(STRFRY_CONF);
        let command = format!(
            "{} --config={} import --show-rejected --debounce-millis=0 --write-batch=1 2>&1",
            strfry.display(),
            configuration.display()
        );
        // Few at a time: nobody reads what it says before it has read all of them.
        for events in events.chunks(100) {
            let lines: String = events.iter().map(|event| format!("{}\n", json!(event))).collect();
            let said = shell(&command, &lines).await;
            assert_eq!(said.matches("added: 1 ").count(), events.len(), "{said}");
        }
    }

    /// Starts a plugin of its own, asked as strfry asks.
    ///
    /// # Panics
    /// The relay is built in.
    pub fn plugin(&self) -> PluginHost {
        self.plugin_with("")
    }

    /// Starts a plugin of its own with more options, as a shell reads them.
    ///
    /// # Panics
    /// The relay is built in.
    pub fn plugin_with(&self, more: &str) -> PluginHost {
        let neighbours = self.neighbours.as_ref().expect("the built-in relay has no plugin");
        let command = neighbours.plugin_command(self.folder.path(), self.port, self.options);
        PluginHost::new(format!("{command} {more}"), Duration::from_secs(10))
    }

    /// Writes lines to a plugin of its own, as they are, and returns its answers.
    ///
    /// # Panics
    /// The relay is built in, or the plugin does not end with its input.
    pub async fn plugin_answers(&self, lines: &[String]) -> Vec<Value> {
        self.plugin_answers_with("", lines).await
    }

    /// Writes lines to a plugin with more options, as a shell reads them, and returns its answers.
    ///
    /// # Panics
    /// The relay is built in, or the plugin does not end with its input.
    pub async fn plugin_answers_with(&self, more: &str, lines: &[String]) -> Vec<Value> {
        let neighbours = self.neighbours.as_ref().expect("the built-in relay has no plugin");
        let command = neighbours.plugin_command(self.folder.path(), self.port, self.options);
        let input: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        let answers = shell(&format!("{command} {more}"), &input).await;
        answers
            .lines()
            .map(|answer| serde_json::from_str(answer).unwrap())
            .collect()
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

    /// Returns the admin address of a gateway with `--admin-bind`, which tells in its log which port it got.
    pub async fn admin_authority(&self) -> String {
        let mut authority = None;
        eventually("the gateway tells its admin address", async || {
            let log = self.gateway_log();
            // It may have been started again.
            let line = log
                .lines()
                .rfind(|line| line.contains("this address serves a page about the purgatory"));
            authority = line.and_then(|line| Some(line.rsplit_once("address=")?.1.trim().to_owned()));
            authority.is_some()
        })
        .await;
        authority.unwrap()
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
        self.start_relay_with(command).await;
    }

    /// Starts the relay again with another plugin.
    ///
    /// # Panics
    /// The relay is built in.
    pub async fn start_relay_with(&mut self, command: String) {
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

    /// Returns the list of authors whose events are ignored.
    pub fn denied_authors(&self) -> PathBuf {
        self.folder.path().join(DENIED_AUTHORS)
    }

    /// Returns the directory of the gateway's repositories.
    pub fn repositories(&self) -> PathBuf {
        self.folder.path().join("data/repositories")
    }

    /// Returns where the gateway keeps a repository.
    pub fn repository_dir(&self, repository: &Repository) -> PathBuf {
        let owner = repository.owner.public_key().to_hex();
        self.repositories()
            .join(owner)
            .join(format!("{}.git", repository.identifier))
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
        let answer = http::request(&self.authority(), head, b"").await;
        (answer.status, answer.text())
    }

    /// Sends the head of a request for another protocol; returns the status and the head of the answer.
    ///
    /// # Panics
    /// The gateway does not answer.
    pub async fn upgrade(&self, head: &str) -> (u16, String) {
        let answer = http::upgrade(&self.authority(), head).await;
        (answer.status, answer.text())
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

    /// Starts the gateway anew, by a detour.
    pub async fn send_gateway_round(&mut self, detour: Detour) {
        self.kill_gateway().await;
        self.detour = detour;
        self.start_gateway().await;
    }

    /// Starts the relay anew, with a plugin that finds it elsewhere.
    pub async fn send_plugin_round(&mut self, relay_port: u16) {
        self.stop_relay().await;
        self.plugin_relay_port = Some(relay_port);
        self.start_relay().await;
    }

    /// Starts a gateway, which need not listen yet.
    pub(super) fn start_gateway_at(&self, port: u16, detour: &Detour) -> Process {
        let folder = self.folder.path();
        let mut arguments = gateway_arguments(folder, port, self.options, self.neighbours.as_ref());
        if port != self.port {
            arguments.push(format!("--domain={}", self.authority()));
        }
        if let Some(relay_port) = detour.relay_port {
            arguments.retain(|argument| !argument.starts_with("--relay-url="));
            arguments.push(format!("--relay-url=ws://127.0.0.1:{relay_port}"));
        }
        let mut command = detour.launcher.clone();
        command.push(program("grasp-gateway").display().to_string());
        command.extend(arguments);
        let environment: Vec<_> = detour.path.iter().map(|path| ("PATH", path.clone())).collect();
        let log = match port == self.port {
            true => folder.join("gateway.log"),
            false => folder.join(format!("gateway-{port}.log")),
        };
        Process::start_with(&PathBuf::from(&command[0]), &command[1..], &log, &environment)
    }

    /// Returns the port of the relay itself.
    ///
    /// # Panics
    /// The relay is built in.
    pub fn relay_port(&self) -> u16 {
        self.neighbours.as_ref().expect("the relay is built in").relay_port
    }

    /// Starts a gateway on a socket that was opened before, beside whichever runs.
    pub fn gateway_on(&self, socket: &std::net::TcpListener, log: &str) -> Process {
        let folder = self.folder.path();
        let arguments = gateway_arguments(folder, self.port, self.options, self.neighbours.as_ref());
        Process::start_on(socket, &program("grasp-gateway"), &arguments, &folder.join(log))
    }

    /// Returns the options of the gateway.
    pub(super) fn gateway_arguments(&self) -> Vec<String> {
        gateway_arguments(self.folder.path(), self.port, self.options, self.neighbours.as_ref())
    }

    /// Returns the command of the plugin, as it stands in strfry.conf.
    pub fn plugin_command(&self) -> String {
        let neighbours = self.neighbours.as_ref().expect("the built-in relay has no plugin");
        let command = neighbours.plugin_command(self.folder.path(), self.port, self.options);
        let relay = |port: u16| format!("--relay-url ws://127.0.0.1:{port} ");
        match self.plugin_relay_port {
            Some(port) => command.replace(&relay(neighbours.relay_port), &relay(port)),
            None => command,
        }
    }
}
