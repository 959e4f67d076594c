//! How long answers take while Redis or the relay hangs or is down, after the first second.

use std::time::Duration;
use std::time::Instant;

use crate::harness::wait::eventually;
use crate::load::bench::row::Bound;
use crate::load::bench::row::Line;
use crate::load::bench::row::Row;
use crate::load::measure::ms;
use crate::load::plugin_rate::lines::PluginLine;
use crate::load::plugin_rate::site::RelayProcess;
use crate::load::plugin_rate::site::Site;

/// What fails.
#[derive(Debug, Clone, Copy)]
enum Fault {
    RedisHangs,
    RelayHangs,
    RedisIsDown,
    RelayIsDown,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::RedisHangs => "Redis hangs",
            Self::RelayHangs => "the relay hangs",
            Self::RedisIsDown => "Redis is down",
            Self::RelayIsDown => "the relay is down",
        }
    }

    async fn begin(self, site: &mut Site, relay: &mut RelayProcess) {
        match self {
            Self::RedisHangs => site.redis.signal("STOP").await,
            Self::RelayHangs => relay.process.signal("STOP").await,
            Self::RedisIsDown => site.redis.kill().await,
            Self::RelayIsDown => relay.process.kill().await,
        }
    }

    async fn end(self, site: &mut Site, relay: &RelayProcess) {
        match self {
            Self::RedisHangs => site.redis.signal("CONT").await,
            Self::RelayHangs => relay.process.signal("CONT").await,
            Self::RedisIsDown => site.redis.start_again().await,
            // The last one.
            Self::RelayIsDown => {}
        }
    }
}

/// Asks while each fails; `asked` are about git, any answer to them is one.
pub(super) async fn lines(
    site: &mut Site,
    relay: &mut RelayProcess,
    asked: &[PluginLine],
    patience: Duration,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for fault in [
        Fault::RedisHangs,
        Fault::RelayHangs,
        Fault::RedisIsDown,
        Fault::RelayIsDown,
    ] {
        eventually("everybody answers", async || is_well(site, &asked[0])).await;
        fault.begin(site, relay).await;
        lines.push(tokio::task::block_in_place(|| line(fault, site, asked, patience)));
        fault.end(site, relay).await;
    }
    lines
}

fn is_well(site: &mut Site, announcement: &PluginLine) -> bool {
    let wrong = site.plugin.wrong.len();
    let held = PluginLine {
        action: Some("shadowReject"),
        ..announcement.clone()
    };
    tokio::task::block_in_place(|| site.plugin.ask(&held));
    let is_well = site.plugin.wrong.len() == wrong;
    site.plugin.wrong.truncate(wrong);
    is_well
}

/// Of answers after the first second, the slowest but one in a hundred.
fn line(fault: Fault, site: &mut Site, asked: &[PluginLine], patience: Duration) -> Line {
    let begun = Instant::now();
    let mut times = Vec::new();
    for line in asked.iter().cycle() {
        let is_counted = begun.elapsed() >= FIRST;
        let took = site.plugin.ask(line);
        if is_counted {
            times.push(took);
        }
        if times.len() >= asked.len() || begun.elapsed() >= FIRST + patience && !times.is_empty() {
            break;
        }
    }
    times.sort();
    let late = times[(times.len() * 99).div_ceil(100) - 1];
    let row = Row::alone(format!("while {}", fault.name()), "ms", Bound::AtMost(20.0));
    Line::of_plugin(row, [ms(late), 0.0])
}

/// What a plugin may take to find that somebody does not answer.
const FIRST: Duration = Duration::from_secs(1);
