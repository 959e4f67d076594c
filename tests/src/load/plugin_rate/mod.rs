//! What the plugin takes by itself, lines in and answers out, beside the smallest plugin that there can be
//! (`scripts/plugin-rate`).

mod asked;
mod git_events;
mod lines;
mod outage;
mod row;
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
use crate::load::measure::median;
use crate::load::plugin_rate::asked::Asked;
use crate::load::plugin_rate::lines::Line;
use crate::load::plugin_rate::lines::LineMaker;
use crate::load::plugin_rate::site::DOMAIN;
use crate::load::plugin_rate::site::RelayProcess;
use crate::load::plugin_rate::site::Site;
use crate::load::plugin_rate::site::plugin_command;
use crate::load::plugin_rate::site::smallest_plugin;
use crate::load::scale::held::event_bytes;
use crate::load::scale::held::fill_redis;

pub use crate::load::plugin_rate::row::Bound;
pub use crate::load::plugin_rate::row::Row;

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
    pub rows: Vec<Row>,
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
        let mut lines = LineMaker::new(DOMAIN);
        let mut rows = Vec::new();
        if self.notes > 0 {
            let notes = lines.notes(self.notes);
            rows.extend(tokio::task::block_in_place(|| {
                pass_through(&mut empty.plugin, &mut c_plugin, &notes)
            }));
        }
        if self.published > 0 {
            let log = folder.path().join("second-plugin.log");
            let command = plugin_command(&plugin, &empty.redis, relay.port, &log);
            let ours = RelayProcess::start(&folder.path().join("ours"), &command).await;
            rows.push(through_relays(&ours, &relay, self.published).await);
        }
        let mut wrong = std::mem::take(&mut c_plugin.wrong);
        if self.git_events > 0 {
            let served = sign(&Keys::generate(), 1, now(), &[]);
            let answer = NostrClient::connect(&relay.url()).await.send(&served).await;
            assert!(answer.taken, "{answer:?}");
            let git = lines.about_repositories(self.git_events, &served.id.to_hex());
            let mut full = None;
            if self.held > 0 {
                let site = Site::start(&folder.path().join("full"), &plugin, relay.port).await;
                let bytes = fill_redis(&site.redis, self.held).await;
                rows.push(memory(bytes, self.held));
                full = Some(site);
            }
            let held = self.held;
            let with = full.as_mut().map(|site| (site, held));
            rows.extend(git_events::rows(&mut empty, with, &git).await);
            wrong.extend(full.map(|site| site.plugin.wrong.clone()).unwrap_or_default());

            let git = lines.about_repositories(self.git_events, &served.id.to_hex());
            let lines: Vec<Line> = git.announcements.into_iter().chain(git.comments).collect();
            let any = lines.into_iter().map(|line| Line { action: None, ..line });
            let any: Vec<Line> = any.collect();
            rows.extend(outage::rows(&mut empty, &mut relay, &any, self.patience).await);
        }
        wrong.append(&mut empty.plugin.wrong);
        PluginRates { rows, wrong }
    }
}

/// Asks both about the same events, in turns, first with one line in flight and then with many.
fn pass_through(ours: &mut Asked, c_plugin: &mut Asked, notes: &[Line]) -> Vec<Row> {
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
    let row = |name: &str, ours: f64, theirs: f64, bound| Row {
        name: name.to_owned(),
        text: format!("{:.1} us, the C plugin {:.1} us", ours * 1e6, theirs * 1e6),
        value: ours / theirs,
        unit: "times",
        bound,
    };
    vec![
        row("pass-through, line by line", line, c_line, Some(Bound::AtMost(1.25))),
        row("pass-through, in a stream", stream, c_stream, None),
    ]
}

/// Publishes through a relay with our plugin and through one with the C plugin, in turns.
async fn through_relays(ours: &RelayProcess, with_c_plugin: &RelayProcess, count: usize) -> Row {
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
    let [ours, theirs] = times.map(|time| count as f64 / time.as_secs_f64());
    Row {
        name: "pass-through, through a relay".to_owned(),
        text: format!("{ours:.0} a second, with the C plugin {theirs:.0}"),
        value: ours / theirs,
        unit: "of it",
        bound: Some(Bound::AtLeast(0.98)),
    }
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
fn memory(redis_bytes: u64, held: usize) -> Row {
    let of_each = redis_bytes as f64 / held as f64;
    let event_bytes = event_bytes() as f64;
    Row {
        name: format!("Redis' memory, with {held} held"),
        text: format!("{event_bytes} bytes of JSON each"),
        value: of_each,
        unit: "bytes each",
        bound: Some(Bound::AtMost(1.6 * event_bytes + 600.0)),
    }
}

/// Each is measured so often, in turns with what it is compared with: a machine is not equally fast all the time.
const TURNS: usize = 20;

/// Events that are published ahead of the answers.
const AHEAD_MAX: usize = 32;
