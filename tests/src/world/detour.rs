//! Programs of a world that take another way than usual: the gateway or the plugin through a proxy, the gateway with
//! another git or behind another program, and a second gateway beside the first.

use std::path::PathBuf;

use super::Repository;
use super::World;
use super::gateway_arguments;
use crate::git_client::GitClient;
use crate::nostr_client::NostrClient;
use crate::process::Process;
use crate::process::free_port;
use crate::process::program;
use crate::wait::eventually;

/// What stands between a gateway and the rest.
#[derive(Debug, Clone, Default)]
pub struct Detour {
    /// Where it finds the relay; `None`: where the relay is.
    pub relay_port: Option<u16>,
    /// Where it finds git; `None`: where the test finds it.
    pub path: Option<String>,
    /// A program that starts it, with its arguments.
    pub launcher: Vec<String>,
}

/// Another gateway on the same data directory, the same Redis and the same relay.
pub struct Gateway {
    process: Process,
    port: u16,
}

impl World {
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

    /// Starts one more gateway. It goes by the name of the first.
    ///
    /// # Panics
    /// It does not start.
    pub async fn another_gateway(&self, detour: &Detour) -> Gateway {
        let port = free_port();
        let mut process = self.start_gateway_at(port, detour);
        // It listens before it has asked git all that it asks at the start.
        eventually("another gateway serves", async || {
            assert!(process.is_running(), "it has ended:\n{}", process.output());
            process.output().contains("serving")
        })
        .await;
        Gateway { process, port }
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

    /// Starts a gateway on a socket that was opened before, beside whichever runs.
    pub fn gateway_on(&self, socket: &std::net::TcpListener, log: &str) -> Process {
        let folder = self.folder.path();
        let arguments = gateway_arguments(folder, self.port, self.options, self.neighbours.as_ref());
        Process::start_on(socket, &program("grasp-gateway"), &arguments, &folder.join(log))
    }

    pub(super) fn plugin_command(&self) -> String {
        let neighbours = self.neighbours.as_ref().expect("the built-in relay has no plugin");
        let command = super::plugin_command(self.folder.path(), self.port, self.options, neighbours);
        let relay = |port: u16| format!("--relay-url ws://127.0.0.1:{port} ");
        match self.plugin_relay_port {
            Some(port) => command.replace(&relay(neighbours.relay_port), &relay(port)),
            None => command,
        }
    }

    /// Returns the port of the relay itself.
    ///
    /// # Panics
    /// The relay is built in.
    pub fn relay_port(&self) -> u16 {
        self.neighbours.as_ref().expect("the relay is built in").relay_port
    }
}

impl Gateway {
    /// Returns `host:port`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the URL of a repository at this gateway.
    pub fn url(&self, repository: &Repository) -> String {
        let path = wire::path::repository_path(&repository.coordinate());
        format!("http://{}{path}", self.authority())
    }

    /// Connects to the relay through it.
    pub async fn nostr(&self) -> NostrClient {
        NostrClient::connect(&format!("ws://{}", self.authority())).await
    }

    /// Returns the branches and tags of a repository as its clients see them.
    pub async fn refs(&self, git: &GitClient, repository: &Repository) -> Vec<(String, String)> {
        let mut refs = git.ls_remote(&self.url(repository)).await;
        refs.retain(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"));
        refs
    }

    /// Kills it as `kill -9` does.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
