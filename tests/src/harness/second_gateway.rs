//! A second gateway beside the first of a world, on the same data.

use crate::clients::git::GitClient;
use crate::clients::nostr::NostrClient;
use crate::harness::gateway::Detour;
use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::repository::Repository;
use crate::harness::wait::eventually;
use crate::harness::world::World;

/// Another gateway on the same data directory, the same Redis and the same relay.
pub struct Gateway {
    process: Process,
    port: u16,
}

impl World {
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
