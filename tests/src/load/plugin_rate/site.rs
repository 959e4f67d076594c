//! What a plugin stands between: a Redis and a relay, and what it is compared with.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::process::harness_program;
use crate::harness::process::shell;
use crate::harness::redis::RedisServer;
use crate::harness::strfry::start_strfry;
use crate::harness::strfry::strfry_binary;
use crate::harness::wait::eventually;
use crate::harness::wait::is_listened_at;
use crate::load::plugin_rate::asked::Asked;

/// The domain of every plugin that is measured.
pub(super) const DOMAIN: &str = "git.example.com";

/// Our plugin with a Redis of its own.
pub(super) struct Site {
    pub(super) redis: RedisServer,
    pub(super) plugin: Asked,
}

impl Site {
    /// Starts both, with room for very much.
    pub(super) async fn start(folder: &Path, plugin: &Path, relay_port: u16) -> Self {
        std::fs::create_dir(folder).unwrap();
        let redis = RedisServer::start(folder, false).await;
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
        let command = plugin_command(plugin, &redis, relay_port, &folder.join("plugin.log"));
        let plugin = Asked::start(&command);
        Self { redis, plugin }
    }
}

/// Returns the command of our plugin.
pub(super) fn plugin_command(plugin: &Path, redis: &RedisServer, relay_port: u16, log: &Path) -> String {
    format!(
        "exec {} --domain {DOMAIN} --relay-url ws://127.0.0.1:{relay_port} --redis-url {} --redis-slow-ms 1000 \
         --held-max 10000000 --held-bytes-max 64GiB 2>>{}",
        plugin.display(),
        redis.url(),
        log.display(),
    )
}

/// Compiles the smallest plugin that there can be, and returns its command.
pub(super) async fn smallest_plugin(folder: &Path) -> String {
    let (source, program) = (folder.join("smallest_plugin.c"), folder.join("smallest-plugin"));
    std::fs::write(&source, include_str!("smallest_plugin.c")).unwrap();
    shell(&format!("cc -O2 -o {} {}", program.display(), source.display()), "").await;
    format!("exec {}", program.display())
}

/// A relay in a process of its own, so that it can be stopped: strfry where `STRFRY_BIN` names it, else its stand-in.
pub(super) struct RelayProcess {
    pub(super) process: Process,
    pub(super) port: u16,
}

impl RelayProcess {
    pub(super) async fn start(folder: &Path, plugin: &str) -> Self {
        std::fs::create_dir(folder).unwrap();
        let port = free_port();
        if strfry_binary().is_some() {
            let process = start_strfry(folder, port, plugin).await;
            return Self { process, port };
        }
        let database = folder.join("relay").display().to_string();
        let arguments = [port.to_string(), database, plugin.to_owned()];
        let process = Process::start(
            &harness_program("relay-stand-in"),
            &arguments,
            &folder.join("relay.log"),
        );
        eventually("the relay listens", async || is_listened_at(("127.0.0.1", port)).await).await;
        Self { process, port }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

/// Sets one key after the other in a Redis, with as little between as there can be.
pub(super) struct SerialSet {
    stream: TcpStream,
    number: usize,
}

impl SerialSet {
    pub(super) fn open(redis: &RedisServer) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, number: 0 }
    }

    /// Sets a key to so many bytes, and returns how long the answer took.
    pub(super) fn set(&mut self, bytes: usize) -> Duration {
        self.number += 1;
        let (key, value) = (format!("measured:{}", self.number), "x".repeat(bytes));
        let command = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n{value}\r\n", key.len());
        let mut answer = [0; 5];
        let asked_at = Instant::now();
        self.stream.write_all(command.as_bytes()).unwrap();
        self.stream.read_exact(&mut answer).unwrap();
        let took = asked_at.elapsed();
        assert_eq!(&answer, b"+OK\r\n");
        took
    }
}
