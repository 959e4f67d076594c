//! What the plugin takes by itself, lines in and answers out, beside the smallest plugin that there can be
//! (`scripts/plugin-rate`).

mod asked;
mod git_events;
mod lines;
mod outage;
mod site;

use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::key::Keys;
use serde_json::json;
use tempfile::TempDir;

use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::clients::nostr::sign;
use crate::clients::nostr::tag;
use crate::harness::process::program;
use crate::load::bench::row::Bound;
use crate::load::bench::row::Line;
use crate::load::bench::row::Row;
use crate::load::measure::median;
use crate::load::plugin_rate::asked::Asked;
use crate::load::plugin_rate::lines::LineMaker;
use crate::load::plugin_rate::lines::PluginLine;
use crate::load::plugin_rate::site::DOMAIN;
use crate::load::plugin_rate::site::RelayProcess;
use crate::load::plugin_rate::site::Site;
use crate::load::plugin_rate::site::plugin_command;
use crate::load::plugin_rate::site::smallest_plugin;
use crate::load::scale::held::event_bytes;
use crate::load::scale::held::fill_redis;

/// How much is measured; 0 leaves a part out.
#[derive(Debug, Clone)]
pub struct PluginRate {
    /// The plugin; `None`: the one of this workspace.
    pub plugin: Option<PathBuf>,
    /// Lines of events that are none of git's business.
    pub notes: usize,
    /// Such events that are published through a relay with each plugin.
    pub published: usize,
    /// Git events of each kind.
    pub git_events: usize,
    /// Events that are held meanwhile in another Redis.
    pub held: usize,
    /// How long it is asked while somebody does not answer.
    pub patience: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct PluginRates {
    /// What was measured.
    pub lines: Vec<Line>,
    /// Answers that were none, or not the expected ones.
    pub wrong: Vec<String>,
}

impl PluginRate {
    /// Measures.
    ///
    /// # Panics
    /// Something cannot be started, or does not answer.
    pub async fn measure(self) -> PluginRates {
        let folder = TempDir::new().unwrap();
        let plugin = self.plugin.clone().unwrap_or_else(|| program("grasp-plugin"));
        let smallest = smallest_plugin(folder.path()).await;
        let mut relay = RelayProcess::start(&folder.path().join("relay"), &smallest).await;
        let mut empty = Site::start(&folder.path().join("empty"), &plugin, relay.port).await;
        let mut c_plugin = Asked::start(&smallest);
        let mut maker = LineMaker::new(DOMAIN);
        let mut lines = Vec::new();
        if self.notes > 0 {
            let notes = maker.notes(self.notes);
            lines.extend(tokio::task::block_in_place(|| {
                pass_through(&mut empty.plugin, &mut c_plugin, &notes)
            }));
        }
        if self.published > 0 {
            let log = folder.path().join("second-plugin.log");
            let command = plugin_command(&plugin, &empty.redis, relay.port, &log);
            let ours = RelayProcess::start(&folder.path().join("ours"), &command).await;
            lines.push(through_relays(&ours, &relay, self.published).await);
        }
        let mut wrong = std::mem::take(&mut c_plugin.wrong);
        if self.git_events > 0 {
            let served = sign(&Keys::generate(), 1, now(), &[]);
            let answer = NostrClient::connect(&relay.url()).await.send(&served).await;
            assert!(answer.taken, "{answer:?}");
            let git = maker.about_repositories(self.git_events, &served.id.to_hex());
            let mut full = None;
            if self.held > 0 {
                let site = Site::start(&folder.path().join("full"), &plugin, relay.port).await;
                let bytes = fill_redis(&site.redis, self.held).await;
                lines.push(memory(bytes, self.held));
                full = Some(site);
            }
            let held = self.held;
            let with = full.as_mut().map(|site| (site, held));
            lines.extend(git_events::lines(&mut empty, with, &git).await);
            wrong.extend(full.map(|site| site.plugin.wrong.clone()).unwrap_or_default());

            let git = maker.about_repositories(self.git_events, &served.id.to_hex());
            let asked = git.announcements.into_iter().chain(git.comments);
            let any: Vec<PluginLine> = asked.map(|line| PluginLine { action: None, ..line }).collect();
            lines.extend(outage::lines(&mut empty, &mut relay, &any, self.patience).await);
        }
        wrong.append(&mut empty.plugin.wrong);
        PluginRates { lines, wrong }
    }
}

/// Asks both about the same events, in turns, first with one line in flight and then with many.
fn pass_through(ours: &mut Asked, c_plugin: &mut Asked, notes: &[PluginLine]) -> Vec<Line> {
    // Programs start with their first event.
    ours.ask(&notes[0]);
    c_plugin.ask(&notes[0]);
    let turns = || notes.chunks(notes.len().div_ceil(TURNS));
    let mut times = [Vec::new(), Vec::new()];
    for turn in turns() {
        times[0].extend(ours.one_by_one(turn));
        times[1].extend(c_plugin.one_by_one(turn));
    }
    let [line, c_line] = times.map(|times| median(&times).as_secs_f64());
    let mut streams = [Duration::ZERO; 2];
    for turn in turns() {
        streams[0] += ours.in_a_stream(turn);
        streams[1] += c_plugin.in_a_stream(turn);
    }
    let [stream, c_stream] = streams.map(|time| time.as_secs_f64() / notes.len() as f64);
    let beside = |what, times: [f64; 2], bound| {
        let row = Row::beside("the C plugin", what, "us", bound);
        Line::of_plugin(row, times.map(|secs| secs * 1e6))
    };
    vec![
        beside("pass-through, line by line", [line, c_line], Bound::AtMost(1.25)),
        beside("pass-through, in a stream", [stream, c_stream], Bound::None),
    ]
}

/// Publishes through a relay with our plugin and through one with the C plugin, in turns.
async fn through_relays(ours: &RelayProcess, with_c_plugin: &RelayProcess, count: usize) -> Line {
    let author = Keys::generate();
    let note = |number: usize| sign(&author, 1, now(), &[tag(&["n", &number.to_string()])]);
    let notes: Vec<Event> = (0..count).map(note).collect();
    let mut clients = [
        NostrClient::connect(&ours.url()).await,
        NostrClient::connect(&with_c_plugin.url()).await,
    ];
    let mut times = [Duration::ZERO; 2];
    for turn in notes.chunks(count.div_ceil(TURNS)) {
        for (client, time) in clients.iter_mut().zip(&mut times) {
            *time += publish(client, turn).await;
        }
    }
    let rates = times.map(|time| count as f64 / time.as_secs_f64());
    let what = "pass-through, through a relay";
    Line::of_plugin(
        Row::beside("with the C plugin", what, "a second", Bound::AtLeast(0.98)),
        rates,
    )
}

/// Publishes events without waiting for each answer.
async fn publish(client: &mut NostrClient, events: &[Event]) -> Duration {
    let started = Instant::now();
    for (number, event) in events.iter().enumerate() {
        client.say(json!(["EVENT", event])).await;
        if number >= AHEAD_MAX {
            assert_eq!(client.hear().await[2], true);
        }
    }
    for _ in 0..events.len().min(AHEAD_MAX) {
        assert_eq!(client.hear().await[2], true);
    }
    started.elapsed()
}

/// Redis' memory for each held event: its JSON and what is beside it.
fn memory(redis_bytes: u64, held: usize) -> Line {
    let event_bytes = event_bytes() as f64;
    let most = Bound::AtMost(1.6 + 600.0 / event_bytes);
    let row = Row::beside(
        "their JSON",
        format!("Redis' memory, with {held} held"),
        "bytes each",
        most,
    );
    Line::of_plugin(row, [redis_bytes as f64 / held as f64, event_bytes])
}

/// Each is measured so often, in turns with what it is compared with: a machine is not equally fast all the time.
const TURNS: usize = 20;

/// Events that are published ahead of the answers.
const AHEAD_MAX: usize = 32;
