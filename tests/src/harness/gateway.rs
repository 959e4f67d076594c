//! How a gateway of a world is started: its options, and what stands between it and the rest.

use std::path::Path;

use crate::faults::tcp_proxy::TcpProxy;
use crate::harness::neighbours::Neighbours;
use crate::harness::options::DENIED_AUTHORS;
use crate::harness::options::DENY_LIST;
use crate::harness::options::Options;
use crate::harness::strfry::STRFRY_CONF;

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

pub(super) fn gateway_arguments(
    folder: &Path,
    port: u16,
    options: Options,
    neighbours: Option<&Neighbours>,
) -> Vec<String> {
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
        arguments.push(format!("--authors-deny={}", folder.join(DENIED_AUTHORS).display()));
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
