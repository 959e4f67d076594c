//! What an attack is: a row of a table, prepared while nobody looks, and then done until it is stopped.

use std::pin::Pin;
use std::time::Duration;

use nostr::event::Event;
use tokio::task::JoinSet;

use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::siege::attacker::Attacker;
use crate::siege::websocket::Socket;

/// An attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What the attacker does.
    pub does: &'static str,
    /// What it costs him.
    pub costs: &'static str,
    /// In which worlds it can be done.
    pub(super) worlds: &'static [Kind],
    /// How the attacker reaches the server.
    pub(super) route: Route,
    pub(super) prepare: fn(Attacker) -> Preparing,
}

/// How an attacker reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// By himself.
    Direct,
    /// Through a proxy that the server trusts, which names his address.
    TrustedProxy,
}

/// An attack that goes on until it is dropped, or until its author has nothing more to do.
pub(super) type Assault = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What comes before it.
pub(super) type Preparing = Pin<Box<dyn Future<Output = Assault> + Send>>;

/// Both worlds.
pub(super) const BOTH: &[Kind] = &[Kind::Embedded, Kind::Strfry];

impl Attack {
    /// The options of the world in which it is done.
    pub(super) fn options(&self) -> Options {
        Options {
            trusted_proxies: match self.route {
                Route::Direct => "",
                Route::TrustedProxy => "127.0.0.2",
            },
            gateway: SMALL_LIMITS,
            ..Options::DEFAULT
        }
    }
}

/// Limits that an attack of seconds can reach.
const SMALL_LIMITS: &[&str] = &["--spool-bytes-max=256MiB", "--pack-bytes-max=32MiB"];

/// Most bytes on disk that pass: both spools, and twice the pack for each of `--uploads-max`.
pub(super) const PASSING_BYTES_MAX: u64 = (2 * 256 + 2 * 32 * 8) << 20;

/// Does something on so many connections at the same time, until all of them have ended.
pub(super) async fn side_by_side<F>(count: usize, lane: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut lanes = JoinSet::new();
    for number in 0..count {
        lanes.spawn(lane(number));
    }
    lanes.join_all().await;
}

/// Sends one event after the other on one connection, each when the one before is answered.
pub(super) fn repeating(attacker: Attacker, event: impl Fn(u64) -> Event + Send + 'static) -> Assault {
    Box::pin(async move {
        let mut number = 0;
        loop {
            let Some(mut socket) = Socket::open(&attacker).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while socket.send_all(&[event(number)]).await.is_some() {
                number += 1;
            }
            attacker.effort.answered("the connection ended");
        }
    })
}

/// Before he tries again where he was not let in.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
