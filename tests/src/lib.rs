//! The world harness of the end-to-end tests: real processes on free ports in temporary directories, a nostr client
//! and a git client. Not published, and not part of any program.

#![expect(clippy::unwrap_used, reason = "a harness that cannot do its work ends its test")]

pub mod browser;
pub mod flood;
pub mod git_client;
pub mod git_wrapper;
pub mod http_client;
pub mod import;
pub mod keep_alive;
pub mod measure;
pub mod noise;
pub mod nostr_client;
pub mod plugin_host;
pub mod process;
pub mod process_memory;
pub mod push_memory;
pub mod redis_server;
#[path = "../../shared/tests/purgatory/topology.rs"]
pub mod redis_topology;
mod relay;
pub mod repository;
pub mod slow_line;
pub mod soak;
pub mod strfry;
pub mod talk;
pub mod tcp_proxy;
pub mod wait;
pub mod wire;
pub mod world;
