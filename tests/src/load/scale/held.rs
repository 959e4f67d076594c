//! What an event and a push cost where very much is held, beside a server that holds nothing.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use nostr::event::Event;
use nostr::key::Keys;
use serde_json::json;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::purgatory::Hold;
use shared::purgatory::HoldOutcome;
use shared::purgatory::Limits;
use shared::purgatory::Purgatory;
use shared::purgatory::RedisSettings;
use shared::purgatory::Room;

use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::redis::RedisServer;
use crate::harness::repository::Repository;
use crate::harness::wait::within;
use crate::harness::world::World;
use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::push_time::PublishTimes;
use crate::load::push_time::push_into_world;

/// What was measured.
#[derive(Debug)]
pub struct HeldCosts {
    /// How many events were held.
    pub held: usize,
    /// What Redis took for them, in bytes.
    pub redis_bytes: u64,
    /// Without and with them: from an announcement's being sent until its answer.
    pub event: [Duration; 2],
    /// Without and with them: a small push, start to end with its events served.
    pub push: [Duration; 2],
    /// Without and with them: how long Redis ran each script, by its own count, on average. Other programs of a busy
    /// machine are hardly in it.
    pub script: [Duration; 2],
}

impl HeldCosts {
    /// Holds so many events in one of two servers, and does the same to both in turns.
    ///
    /// # Panics
    /// Something cannot be started, held or pushed.
    pub async fn measure(held: usize, pushes: usize) -> Self {
        let mut full = World::start(Kind::Strfry, OPTIONS).await;
        let mut empty = World::start(Kind::Strfry, OPTIONS).await;
        let redis_bytes = fill(&mut full, held).await;
        let mut nostr = [empty.nostr().await, full.nostr().await];
        let mut events = [Vec::new(), Vec::new()];
        let mut times = [Vec::new(), Vec::new()];
        // The first of each are not counted: programs start, connections open.
        for number in 0..pushes + WARM_UP {
            if number == WARM_UP {
                for world in [&mut empty, &mut full] {
                    world.redis().ask::<()>(&["CONFIG", "RESETSTAT"]).await;
                }
            }
            for (place, world) in [&empty, &full].into_iter().enumerate() {
                let took = one(world, &mut nostr[place], number).await;
                if number >= WARM_UP {
                    events[place].extend(took.events);
                    times[place].push(took.push);
                }
            }
        }
        Self {
            held,
            redis_bytes,
            event: events.map(|times| median(&times)),
            push: times.map(|times| median(&times)),
            script: [script_time(&mut empty).await, script_time(&mut full).await],
        }
    }
}

impl fmt::Display for HeldCosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} held take {} MiB of Redis", self.held, self.redis_bytes >> 20)?;
        let costs = [
            ("an event", self.event),
            ("a push", self.push),
            ("a script in Redis", self.script),
        ];
        for (what, [without, with]) in costs {
            let ratio = with.as_secs_f64() / without.as_secs_f64();
            let (without, with) = (ms(without), ms(with));
            writeln!(
                f,
                "{what}: {without:.3} ms with none, {with:.3} ms with all: {ratio:.2} times"
            )?;
        }
        Ok(())
    }
}

/// Publishes a fresh repository and pushes it.
///
/// # Panics
/// An event is refused, the push fails, or its events are not served.
pub async fn one(world: &World, nostr: &mut NostrClient, number: usize) -> PublishTimes {
    let repository = Repository::new(&format!("r{number}"));
    let git = world.git(&format!("client{number}")).await;
    let commit = git.commit("one").await;
    push_into_world(world, nostr, &git, &repository, &commit).await
}

/// Holds events of repositories that are pushed later, and returns how many bytes Redis takes more.
///
/// # Panics
/// One of them is not held.
pub async fn fill(world: &mut World, count: usize) -> u64 {
    world.kill_gateway().await;
    let taken = fill_redis(world.redis(), count).await;
    world.start_gateway().await;
    taken
}

/// Holds events by the script that holds every event, and returns how many bytes Redis takes more.
///
/// # Panics
/// One of them is not held.
pub async fn fill_redis(redis: &RedisServer, count: usize) -> u64 {
    for [setting, value] in [["maxmemory", "0"], ["appendfsync", "no"]] {
        redis.ask::<()>(&["CONFIG", "SET", setting, value]).await;
    }
    let before = used_bytes(redis).await;
    let settings = RedisSettings {
        slow: PATIENCE,
        call_timeout: PATIENCE,
        ..RedisSettings::at(&redis.url())
    };
    let purgatory = Purgatory::connect(&settings, LIMITS).await.unwrap();
    let authors: Vec<Keys> = (0..count.div_ceil(PER_AUTHOR)).map(|_| Keys::generate()).collect();
    let holds = stream::iter(0..count).map(|number| {
        let hold = hold(&authors[number / PER_AUTHOR], number);
        let purgatory = purgatory.clone();
        async move { purgatory.hold(&hold).await }
    });
    let outcomes = holds.buffer_unordered(HELD_AT_ONCE);
    outcomes
        .for_each(async |outcome| assert_eq!(outcome.unwrap(), HoldOutcome::Held))
        .await;
    // As after a day: nothing of it is new.
    redis.ask::<()>(&["DEL", "{purgatory}:dirty"]).await;
    redis.ask::<()>(&["CONFIG", "SET", "appendfsync", "always"]).await;
    let taken = used_bytes(redis).await.saturating_sub(before);
    // Its file is written anew when it has grown: that is over then, too.
    within(PATIENCE, "Redis has written its file anew", async || {
        let persistence: String = redis.ask(&["INFO", "persistence"]).await;
        let done = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
        done.iter().all(|done| persistence.contains(done))
    })
    .await;
    taken
}

/// Returns how long Redis has run each script since its counts were reset, on average.
async fn script_time(world: &mut World) -> Duration {
    let stats: String = world.redis().ask(&["INFO", "commandstats"]).await;
    let scripts = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:"));
    let average = scripts.and_then(|values| values.split(',').find_map(|value| value.strip_prefix("usec_per_call=")));
    Duration::from_secs_f64(average.map_or(0.0, |micros| micros.parse().unwrap()) / 1e6)
}

async fn used_bytes(redis: &RedisServer) -> u64 {
    let memory: String = redis.ask(&["INFO", "memory"]).await;
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok()).unwrap()
}

/// Returns how many bytes one of the events has that fill a Redis, as JSON.
pub fn event_bytes() -> usize {
    hold(&Keys::generate(), 0).event.as_json().len()
}

fn hold(author: &Keys, number: usize) -> Hold {
    let identifier = format!("held-{number}");
    // Nobody checks the signature of what is held.
    let event = json!({
        "id": format!("{number:064x}"),
        "pubkey": author.public_key().to_hex(),
        "created_at": now(),
        "kind": nip34::STATE,
        "tags": [["d", identifier], ["HEAD", "ref: refs/heads/main"], ["refs/heads/main", "a".repeat(40)]],
        "content": "",
        "sig": "a".repeat(128),
    });
    Hold {
        event: Event::from_json(event.to_string()).unwrap(),
        coordinates: [Coordinate {
            owner: author.public_key(),
            identifier: identifier.parse().unwrap(),
        }]
        .into(),
        source: format!("IP4 203.0.113.{}", number % 200),
        hold_secs: HOLD_SECS,
        extend: [].into(),
        room: Room::WithinLimits,
        is_new_repository: false,
        behind: None,
    }
}

/// Room for everything, in both programs.
pub const OPTIONS: Options = Options {
    hold_secs: HOLD_SECS,
    held: &["--held-max=10000000", "--held-bytes-max=64GiB"],
    ..Options::DEFAULT
};

const LIMITS: Limits = Limits {
    entries_per_source_max: 10_000_000,
    bytes_per_source_max: 64 << 30,
    entries_max: 10_000_000,
    bytes_max: 64 << 30,
    ..Limits::DEFAULT
};

/// Nothing ends while it is measured.
const HOLD_SECS: u64 = 30 * 24 * 3600;

/// Events of one author: fewer than one may have.
const PER_AUTHOR: usize = 900;

const HELD_AT_ONCE: usize = 64;

const WARM_UP: usize = 3;

/// Later than any answer.
const PATIENCE: Duration = Duration::from_secs(60);
