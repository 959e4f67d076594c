//! A flood of announcements, and whether a server in it goes on to work for others and stays within its bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::key::Keys;
use serde_json::json;
use tokio::task::JoinSet;

use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::repository::Repository;
use crate::harness::world::World;
use crate::load::other_user::OtherUser;
use crate::load::other_user::Times;
use crate::load::process_memory::at_rest_kib;
use crate::load::process_memory::forget_peak;
use crate::load::process_memory::peak_kib;
use crate::load::process_memory::running_with_argument;

/// What floods a server, and what it is told to hold.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// Announcements in all.
    pub announcements: usize,
    /// Their authors. The first one sends half as many again as an author may hold.
    pub authors: usize,
    /// `--held-per-author-max`
    pub per_author_max: usize,
    /// `--held-per-source-max`
    pub per_source_max: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Flooded {
    flood: Flood,
    /// How many got each answer.
    answers: BTreeMap<String, usize>,
    duration: Duration,
    before: Times,
    meanwhile: Times,
    gateway: Growth,
    plugin: Growth,
    redis: Growth,
    redis_kib_max: u64,
}

/// What somebody takes of the memory, in KiB.
#[derive(Debug, Clone, Copy)]
struct Growth {
    before: u64,
    peak: u64,
}

impl Growth {
    fn kib(self) -> u64 {
        self.peak.saturating_sub(self.before)
    }
}

impl Flood {
    /// Floods a world that has Redis and a relay of its own, while somebody else publishes, pushes and fetches.
    ///
    /// # Panics
    /// Somebody else is refused, or nobody answers.
    pub async fn run(self, world: &mut World) -> Flooded {
        let lanes = self.lanes(world);
        let mut other = OtherUser::new(world).await;
        let before = other.rounds_until(world, ROUNDS_BEFORE, std::future::ready(())).await.0;
        let gateway = world.gateway_id();
        // Its `--domain`.
        let plugin = running_with_argument("grasp-plugin", &world.authority());
        let (gateway_before, plugin_before) = (at_rest_kib(gateway).await, at_rest_kib(plugin).await);
        let redis_before = redis_kib(world).await;
        forget_peak(gateway);
        forget_peak(plugin);
        let started = Instant::now();
        let mut senders = JoinSet::new();
        for (number, lane) in lanes.into_iter().enumerate() {
            senders.spawn(send_all(world.authority(), address_of(number), lane));
        }
        let flood = async {
            let mut answers = BTreeMap::new();
            while let Some(sent) = senders.join_next().await {
                for (answer, count) in sent.unwrap() {
                    *answers.entry(answer).or_insert(0) += count;
                }
            }
            (answers, started.elapsed())
        };
        let (meanwhile, (answers, duration)) = other.rounds_until(world, 1, flood).await;
        let held: u64 = world.redis().ask(&["ZCARD", "{purgatory}:entries"]).await;
        let held_bytes: u64 = world.redis().ask(&["GET", "{purgatory}:bytes"]).await;
        Flooded {
            flood: self,
            answers,
            duration,
            before,
            meanwhile,
            gateway: Growth {
                before: gateway_before,
                peak: peak_kib(gateway),
            },
            plugin: Growth {
                before: plugin_before,
                peak: peak_kib(plugin),
            },
            redis: Growth {
                before: redis_before,
                peak: redis_kib(world).await,
            },
            redis_kib_max: held_bytes / 1024 + held * ENTRY_KIB_MAX + REDIS_KIB_SPARE,
        }
    }

    /// Signs everything, and deals it to the connections.
    fn lanes(self, world: &World) -> Vec<Vec<Event>> {
        let of_the_first = self.per_author_max * 3 / 2;
        let others = self.authors - 1;
        let mut planned = vec![(0, of_the_first)];
        for author in 0..others {
            let rest = self.announcements - of_the_first;
            planned.push((author + 1, rest / others + usize::from(author < rest % others)));
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let signed: Vec<Event> = std::thread::scope(|scope| {
            let shares = planned.chunks(planned.len().div_ceil(threads));
            let signers: Vec<_> = shares
                .map(|share| {
                    scope.spawn(|| {
                        share
                            .iter()
                            .flat_map(|&(author, count)| sign(world, author, count))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            signers.into_iter().flat_map(|signer| signer.join().unwrap()).collect()
        });
        let mut lanes = vec![Vec::new(); CONNECTIONS];
        for (number, event) in signed.into_iter().enumerate() {
            lanes[number % CONNECTIONS].push(event);
        }
        lanes
    }
}

fn sign(world: &World, author: usize, count: usize) -> Vec<Event> {
    let owner = Keys::generate();
    let announcement = |number: usize| {
        let repository = Repository {
            owner: owner.clone(),
            identifier: format!("flood-{author}-{number}"),
        };
        world.announcement(&repository, now(), &[])
    };
    (0..count).map(announcement).collect()
}

/// Sends events without waiting for each answer, and counts the answers.
async fn send_all(authority: String, address: IpAddr, events: Vec<Event>) -> BTreeMap<String, usize> {
    let mut nostr = NostrClient::connect_from(address, &authority, &[]).await;
    let mut answers = BTreeMap::new();
    let mut unanswered = 0;
    let mut events = events.into_iter();
    loop {
        match events.next() {
            Some(event) => {
                nostr.say(json!(["EVENT", event])).await;
                unanswered += 1;
            }
            None if unanswered == 0 => return answers,
            None => {}
        }
        while unanswered > 0 && (unanswered >= AHEAD_MAX || events.len() == 0) {
            let message = nostr.hear().await;
            if message[0] == "OK" {
                let text = message[3].as_str().unwrap_or_default();
                *answers.entry(format!("{} {text}", message[2])).or_insert(0) += 1;
                unanswered -= 1;
            }
        }
    }
}

fn address_of(connection: usize) -> IpAddr {
    let number = u8::try_from(connection % ADDRESSES).unwrap_or_default();
    Ipv4Addr::new(127, 0, 1, number + 1).into()
}

async fn redis_kib(world: &mut World) -> u64 {
    let memory: String = world.redis().ask(&["INFO", "memory"]).await;
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse::<u64>().ok()).unwrap() / 1024
}

impl Flooded {
    /// Returns what is not as it has to be.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut check = |holds: bool, text: String| {
            if !holds {
                complaints.push(text);
            }
        };
        let mut held = 0;
        for (answer, &count) in &self.answers {
            let is_held = answer.starts_with("true purgatory: ");
            held += if is_held { count } else { 0 };
            check(
                is_held || answer.starts_with("false restricted: "),
                format!("{count} were answered {answer:?}"),
            );
        }
        let held_max = ADDRESSES * self.flood.per_source_max;
        check(held <= held_max, format!("{held} are held, more than {held_max}"));
        for limit in ["of this author", "from this address"] {
            let refused = self.answers.keys().any(|answer| answer.contains(limit));
            check(refused, format!("nothing was refused for too many events {limit}"));
        }
        for (name, growth, kib_max) in self.memory() {
            let kib = growth.kib();
            check(
                kib <= kib_max,
                format!("{name} takes {kib} KiB more, and not {kib_max} at most"),
            );
        }
        complaints
    }

    fn memory(&self) -> [(&'static str, Growth, u64); 3] {
        [
            ("gateway", self.gateway, PROGRAM_KIB_MAX),
            ("plugin", self.plugin, PROGRAM_KIB_MAX),
            ("Redis", self.redis, self.redis_kib_max),
        ]
    }
}

impl fmt::Display for Flooded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flood {
            announcements, authors, ..
        } = self.flood;
        let secs = self.duration.as_secs_f64();
        writeln!(
            f,
            "{announcements} announcements of {authors} authors from {ADDRESSES} addresses in {secs:.0} s:"
        )?;
        for (answer, count) in &self.answers {
            writeln!(f, "  {count:>7} {answer}")?;
        }
        for (name, growth, kib_max) in self.memory() {
            let Growth { before, peak } = growth;
            let mib = |kib: u64| kib / 1024;
            writeln!(
                f,
                "{name}: {} MiB before, {} MiB at most, {} MiB more (it may be {})",
                mib(before),
                mib(peak),
                mib(growth.kib()),
                mib(kib_max)
            )?;
        }
        writeln!(f, "somebody else, medians: before it {}", self.before)?;
        writeln!(f, "                        during it {}", self.meanwhile)?;
        write!(
            f,
            "                        {}",
            self.meanwhile.compared_to(&self.before)
        )
    }
}

/// Connections that flood.
const CONNECTIONS: usize = 8;

/// The addresses that they come from.
const ADDRESSES: usize = 4;

/// Events that one of them is ahead of the answers.
const AHEAD_MAX: usize = 32;

/// How often somebody else does everything before the flood.
const ROUNDS_BEFORE: usize = 5;

/// What gateway and plugin may take more than before, each (docs/operations.md, "Limits").
const PROGRAM_KIB_MAX: u64 = 64 << 10;

/// What Redis may take for each entry besides the event (docs/operations.md, "Limits").
const ENTRY_KIB_MAX: u64 = 3;

/// What Redis takes for connections and for writing its file.
const REDIS_KIB_SPARE: u64 = 8 << 10;
