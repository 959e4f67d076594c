//! What git events take: beside as many bytes set one after the other in the same Redis, and with very much held beside
//! none.

use std::time::Duration;

use crate::load::bench::row::Bound;
use crate::load::bench::row::Line;
use crate::load::bench::row::Row;
use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::plugin_rate::lines::GitLines;
use crate::load::plugin_rate::lines::PluginLine;
use crate::load::plugin_rate::site::SerialSet;
use crate::load::plugin_rate::site::Site;
use crate::load::scale::script_calls;

/// What has to be so of a kind of events, with nothing held.
#[derive(Debug, Clone, Copy)]
enum Contract {
    /// So many times the rate of setting.
    OfSet(f64),
    /// So many a second.
    PerSecond(f64),
    /// Nothing.
    Nothing,
}

/// Times of one kind of events. Of each the median counts: now and then a disk takes long for one flush.
#[derive(Default)]
struct Times {
    set: Vec<Duration>,
    empty: Vec<Duration>,
    full: Vec<Duration>,
    /// How often a script was called for each event.
    scripts: u64,
}

/// Asks about each kind of events on a server that holds nothing and on one that holds `held`, in turns with setting
/// as many bytes on the first.
pub(super) async fn lines(empty: &mut Site, mut full: Option<(&mut Site, usize)>, asked: &GitLines) -> Vec<Line> {
    let mut set = SerialSet::open(&empty.redis);
    let mut lines = Vec::new();
    for (name, asked, contract) in [
        ("announcements", &asked.announcements, Contract::OfSet(0.55)),
        ("states", &asked.states, Contract::OfSet(0.55)),
        ("PRs", &asked.pull_requests, Contract::Nothing),
        (
            "comments on what is served",
            &asked.comments,
            Contract::PerSecond(2_500.0),
        ),
        ("comments behind held PRs", &asked.held_comments, Contract::Nothing),
    ] {
        let times = measure(empty, full.as_mut().map(|(site, _)| &mut **site), &mut set, asked).await;
        lines.extend(times.lines(name, contract, full.as_ref().map(|(_, held)| *held)));
    }
    lines
}

async fn measure(empty: &mut Site, mut full: Option<&mut Site>, set: &mut SerialSet, lines: &[PluginLine]) -> Times {
    let calls_before = script_calls(&empty.redis).await;
    let mut times = Times::default();
    for turn in lines.chunks(lines.len().div_ceil(TURNS)) {
        tokio::task::block_in_place(|| {
            times.set.extend(turn.iter().map(|line| set.set(line.event_bytes)));
            times.empty.extend(empty.plugin.one_by_one(turn));
            if let Some(full) = &mut full {
                times.full.extend(full.plugin.one_by_one(turn));
            }
        });
    }
    let calls = script_calls(&empty.redis).await - calls_before;
    // What else the plugin does every few seconds is in the rest.
    times.scripts = calls / lines.len() as u64;
    times
}

impl Times {
    fn lines(&self, name: &str, contract: Contract, held: Option<usize>) -> Vec<Line> {
        let rates = [&self.empty, &self.set].map(|times| 1.0 / median(times).as_secs_f64());
        let (of_set, steps) = match contract {
            Contract::OfSet(least) => (
                Row::beside("SET", name, "a second", Bound::AtLeast(least)),
                Bound::AtMost(2.0),
            ),
            Contract::Nothing => (Row::beside("SET", name, "a second", Bound::None), Bound::None),
            Contract::PerSecond(least) => (Row::alone(name, "a second", Bound::AtLeast(least)), Bound::None),
        };
        let steps = Row::alone(format!("{name}, steps of Redis"), "scripts", steps);
        let mut lines = vec![
            Line::of_plugin(of_set, rates),
            Line::of_plugin(steps, [self.scripts as f64, 0.0]),
        ];
        if let Some(held) = held {
            let what = format!("{name}, with {held} held");
            let row = Row::beside("with none", what, "ms", Bound::AtMost(1.2));
            lines.push(Line::of_plugin(
                row,
                [&self.full, &self.empty].map(|times| ms(median(times))),
            ));
        }
        lines
    }
}

const TURNS: usize = 10;
