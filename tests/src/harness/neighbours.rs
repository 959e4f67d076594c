//! What stands beside the gateway in the world with strfry: Redis, and the relay with the plugin.

use std::path::Path;

use crate::faults::frames::Wire;
use crate::faults::tcp_proxy::TcpProxy;
use crate::harness::options::DENIED_AUTHORS;
use crate::harness::options::DENY_LIST;
use crate::harness::options::Options;
use crate::harness::process::free_port;
use crate::harness::process::program;
use crate::harness::redis::RedisServer;
use crate::harness::relay::Relay;

/// What the embedded server does without.
pub(super) struct Neighbours {
    pub(super) redis: RedisServer,
    pub(super) relay_port: u16,
    pub(super) relay_proxy: Option<TcpProxy>,
    pub(super) relay: Relay,
}

impl Neighbours {
    pub(super) async fn start(folder: &Path, gateway_port: u16, options: Options) -> Self {
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
        let command = neighbours.plugin_command(folder, gateway_port, options);
        neighbours.relay = Relay::start(folder, neighbours.relay_port, command).await;
        neighbours
    }

    /// The command as an operator writes it into strfry.conf.
    pub(super) fn plugin_command(&self, folder: &Path, gateway_port: u16, options: Options) -> String {
        let deny_list = match options.with_deny_list {
            true => format!(
                "--repos-deny {} --authors-deny {}",
                folder.join(DENY_LIST).display(),
                folder.join(DENIED_AUTHORS).display()
            ),
            false => String::new(),
        };
        format!(
            "exec {} {deny_list} {} --domain 127.0.0.1:{gateway_port} --relay-url ws://127.0.0.1:{} {} \
             --redis-slow-ms {} --hold-secs {} --other-kinds {} {} 2>>{}",
            program("grasp-plugin").display(),
            options.held.join(" "),
            self.relay_port,
            self.redis.options().join(" "),
            options.redis_slow_ms,
            options.hold_secs,
            options.other_kinds,
            options.plugin,
            folder.join("plugin.log").display(),
        )
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        // The relay first: its plugin speaks to Redis.
        self.relay = Relay::Stopped;
        debug_assert!(self.redis.is_running(), "Redis has ended:\n{}", self.redis.output());
    }
}
