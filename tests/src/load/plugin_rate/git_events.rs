//! What git events take: beside as many bytes set one after the other in the same Redis, and with very much held beside
//! none.

use std::time::Duration;

use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::plugin_rate::lines::GitLines;
use crate::load::plugin_rate::lines::Line;
use crate::load::plugin_rate::row::Bound;
use crate::load::plugin_rate::row::Row;
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
pub(super) async fn rows(empty: &mut Site, mut full: Option<(&mut Site, usize)>, lines: &GitLines) -> Vec<Row> {
    let mut set = SerialSet::open(&empty.redis);
    let mut rows = Vec::new();
    for (name, lines, contract) in [
        ("announcements", &lines.announcements, Contract::OfSet(0.55)),
        ("states", &lines.states, Contract::OfSet(0.55)),
        ("PRs", &lines.pull_requests, Contract::Nothing),
        (
            "comments on what is served",
            &lines.comments,
            Contract::PerSecond(2_500.0),
        ),
        ("comments behind held PRs", &lines.held_comments, Contract::Nothing),
    ] {
        let times = measure(empty, full.as_mut().map(|(site, _)| &mut **site), &mut set, lines).await;
        rows.extend(times.rows(name, contract, full.as_ref().map(|(_, held)| *held)));
    }
    rows
}

async fn measure(empty: &mut Site, mut full: Option<&mut Site>, set: &mut SerialSet, lines: &[Line]) -> Times {
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
    fn rows(&self, name: &str, contract: Contract, held: Option<usize>) -> Vec<Row> {
        let [set, empty] = [&self.set, &self.empty].map(|times| 1.0 / median(times).as_secs_f64());
        let of_set = |bound| Row {
            name: name.to_owned(),
            text: format!("{empty:.0} a second, SET {set:.0}"),
            value: empty / set,
            unit: "of it",
            bound,
        };
        let mut rows = vec![match contract {
            Contract::OfSet(least) => of_set(Some(Bound::AtLeast(least))),
            Contract::Nothing => of_set(None),
            Contract::PerSecond(least) => Row {
                value: empty,
                unit: "a second",
                bound: Some(Bound::AtLeast(least)),
                ..of_set(None)
            },
        }];
        rows.push(Row {
            name: format!("{name}, steps of Redis"),
            text: "of each".to_owned(),
            value: self.scripts as f64,
            unit: "scripts",
            bound: matches!(contract, Contract::OfSet(_)).then_some(Bound::AtMost(2.0)),
        });
        if let Some(held) = held {
            let [full, empty] = [&self.full, &self.empty].map(|times| median(times));
            rows.push(Row {
                name: format!("{name}, with {held} held"),
                text: format!("{:.3} ms each, with none {:.3} ms", ms(full), ms(empty)),
                value: full.as_secs_f64() / empty.as_secs_f64(),
                unit: "times",
                bound: Some(Bound::AtMost(1.2)),
            });
        }
        rows
    }
}

const TURNS: usize = 10;
