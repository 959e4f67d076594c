//! What a server takes of memory, Redis, disk and file descriptors while it is attacked, and what it may take
//! (docs/operations.md, "Limits").

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use crate::harness::world::World;
use crate::load::process_memory::OwnMemory;
use crate::load::process_memory::running_with_argument;
use crate::siege::attack::PASSING_BYTES_MAX;
use crate::siege::attacker::Effort;

/// What is watched of a server.
#[derive(Clone)]
pub(super) struct Watched {
    gateway: u32,
    gateway_memory: OwnMemory,
    plugin_memory: Option<OwnMemory>,
    redis: Option<MultiplexedConnection>,
    folder: PathBuf,
}

/// What somebody takes at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// Of the gateway's own memory since the sample before; 0: it has ended.
    gateway_kib: u64,
    /// The same of the plugin.
    plugin_kib: u64,
    redis_bytes: u64,
    /// What Redis may take for what it holds.
    redis_bytes_max: u64,
    held: u64,
    disk_bytes: u64,
    /// How many repositories are on disk.
    repositories: u64,
    /// Of commits that wait for their events.
    staged_bytes: u64,
    descriptors: u64,
}

/// A watch that goes on.
pub(super) struct Watch {
    watched: Watched,
    before: Sample,
    most: Arc<Mutex<Sample>>,
    sampler: JoinHandle<()>,
}

/// What a server took during an attack beyond what it had before.
#[derive(Debug, Clone, Default)]
pub(super) struct Growth {
    /// Memory of the gateway at most.
    pub(super) gateway_kib: u64,
    /// Memory of the plugin at most.
    pub(super) plugin_kib: u64,
    /// Memory of Redis at most.
    pub(super) redis_kib: u64,
    /// The longest that a command occupied Redis, in microseconds. Not checked: it may have waited for the processor.
    pub(super) redis_micros: u64,
    /// Disk at most.
    pub(super) disk_kib: u64,
    /// Disk that is still used when everything has come to rest.
    pub(super) disk_kept_kib: u64,
    /// Repositories that were made.
    pub(super) repositories: u64,
    /// File descriptors of the gateway at most.
    pub(super) descriptors: u64,
    /// Bounds that were broken.
    pub(super) broken: Vec<String>,
}

impl Watched {
    /// Finds the programs of a world.
    ///
    /// # Panics
    /// One of them does not run.
    pub(super) async fn new(world: &mut World) -> Self {
        let has_redis = world.redis_port().is_some();
        // Its `--domain`.
        let plugin = || running_with_argument("grasp-plugin", &world.authority());
        let plugin_memory = has_redis.then(|| OwnMemory::new(plugin()));
        Self {
            gateway: world.gateway_id(),
            gateway_memory: OwnMemory::new(world.gateway_id()),
            plugin_memory,
            redis: match has_redis {
                true => Some(world.redis().connection().await),
                false => None,
            },
            folder: world.folder().to_owned(),
        }
    }

    /// Begins to watch.
    ///
    /// # Panics
    /// The programs do not run.
    pub(super) async fn watch(mut self) -> Watch {
        self.memory_kib();
        self.forget_slow_commands().await;
        let before = self.sample().await;
        let most = Arc::new(Mutex::new(before));
        let sampler = tokio::spawn({
            let (mut watched, most) = (self.clone(), Arc::clone(&most));
            async move {
                loop {
                    // A peak that is shorter is seen of memory alone.
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    let sample = watched.sample().await;
                    most.lock().unwrap_or_else(PoisonError::into_inner).raise(sample);
                }
            }
        });
        Watch {
            watched: self,
            before,
            most,
            sampler,
        }
    }

    /// Returns the memory of gateway and plugin at most since the last call.
    fn memory_kib(&self) -> [u64; 2] {
        let plugin_kib = self.plugin_memory.as_ref().and_then(OwnMemory::peak_kib);
        [self.gateway_memory.peak_kib(), plugin_kib].map(Option::unwrap_or_default)
    }

    async fn sample(&mut self) -> Sample {
        let folder = self.folder.clone();
        let disk = tokio::task::spawn_blocking(move || {
            // Not the relay's database: which events it stores, and for how long, is its operator's to say.
            let mut seen = BTreeSet::new();
            let data = folder.join("data");
            let bytes = ["repositories", "quarantine", "staging"].map(|name| disk_bytes(&data.join(name), &mut seen));
            (bytes, repositories_in(&data.join("repositories")))
        });
        let ([of_repositories, quarantine, staged_bytes], repositories) = disk.await.unwrap_or_default();
        let [gateway_kib, plugin_kib] = self.memory_kib();
        let mut sample = Sample {
            gateway_kib,
            plugin_kib,
            disk_bytes: of_repositories + quarantine,
            repositories,
            staged_bytes,
            descriptors: descriptors(self.gateway),
            ..Sample::default()
        };
        if let Some(redis) = &mut self.redis {
            // Without an answer it takes what it took before.
            sample.ask(redis).await.ok();
        }
        sample
    }

    async fn forget_slow_commands(&mut self) {
        if let Some(redis) = &mut self.redis {
            let ask = async {
                let threshold = ["SET", "slowlog-log-slower-than", "1000"];
                redis::cmd("CONFIG").arg(&threshold).exec_async(redis).await?;
                redis::cmd("SLOWLOG").arg("RESET").exec_async(redis).await
            };
            // Not checked, so it need not be known.
            ask.await.ok();
        }
    }

    async fn slowest_micros(&mut self) -> u64 {
        let Some(redis) = &mut self.redis else { return 0 };
        let asked = redis::cmd("SLOWLOG").arg(&["GET", "128"]).query_async(redis).await;
        let commands: Vec<Vec<redis::Value>> = asked.unwrap_or_default();
        let micros = commands.iter().filter_map(|command| match command.get(2) {
            Some(redis::Value::Int(micros)) => u64::try_from(*micros).ok(),
            _ => None,
        });
        micros.max().unwrap_or_default()
    }
}

impl Sample {
    async fn ask(&mut self, redis: &mut MultiplexedConnection) -> Result<(), redis::RedisError> {
        let memory: String = redis::cmd("INFO").arg("memory").query_async(redis).await?;
        let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:"));
        self.redis_bytes = used.and_then(|used| used.trim().parse().ok()).unwrap_or_default();
        self.held = redis::cmd("ZCARD")
            .arg("{purgatory}:entries")
            .query_async(redis)
            .await?;
        let placeholders: u64 = redis::cmd("ZCARD")
            .arg("{purgatory}:placeholders")
            .query_async(redis)
            .await?;
        let bytes: Option<u64> = redis::cmd("GET").arg("{purgatory}:bytes").query_async(redis).await?;
        self.redis_bytes_max = bytes.unwrap_or_default() + self.held * ENTRY_BYTES + placeholders * PLACEHOLDER_BYTES;
        Ok(())
    }

    fn raise(&mut self, other: Self) {
        self.gateway_kib = self.gateway_kib.max(other.gateway_kib);
        self.plugin_kib = self.plugin_kib.max(other.plugin_kib);
        self.redis_bytes = self.redis_bytes.max(other.redis_bytes);
        self.redis_bytes_max = self.redis_bytes_max.max(other.redis_bytes_max);
        self.held = self.held.max(other.held);
        self.disk_bytes = self.disk_bytes.max(other.disk_bytes);
        self.repositories = self.repositories.max(other.repositories);
        self.staged_bytes = self.staged_bytes.max(other.staged_bytes);
        self.descriptors = self.descriptors.max(other.descriptors);
    }
}

impl Watch {
    /// Ends when an attack has ended, and compares what it took with the bounds.
    pub(super) async fn end(mut self, effort: &Effort) -> Growth {
        let at_rest = self.at_rest().await;
        self.sampler.abort();
        let mut most = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        most.raise(at_rest);
        let mut growth = Growth {
            gateway_kib: most.gateway_kib.saturating_sub(self.before.gateway_kib),
            plugin_kib: most.plugin_kib.saturating_sub(self.before.plugin_kib),
            redis_kib: most.redis_bytes.saturating_sub(self.before.redis_bytes) >> 10,
            redis_micros: self.watched.slowest_micros().await,
            disk_kib: most.disk_bytes.saturating_sub(self.before.disk_bytes) >> 10,
            disk_kept_kib: at_rest.disk_bytes.saturating_sub(self.before.disk_bytes) >> 10,
            repositories: most.repositories.saturating_sub(self.before.repositories),
            descriptors: most.descriptors.saturating_sub(self.before.descriptors),
            broken: Vec::new(),
        };
        if at_rest.gateway_kib == 0 {
            growth.broken.push("the gateway has ended".to_owned());
        }
        if self.before.plugin_kib > 0 && at_rest.plugin_kib == 0 {
            growth.broken.push("the plugin has ended".to_owned());
        }
        growth.compare(&most, effort);
        let left = at_rest.descriptors.saturating_sub(self.before.descriptors);
        growth.check(
            "file descriptors, when all sockets were closed",
            left,
            DESCRIPTORS_LEFT_MAX,
        );
        growth
    }

    /// Waits until what passes has passed, for so long at most, and returns what is left.
    async fn at_rest(&mut self) -> Sample {
        let mut sample = self.watched.sample().await;
        for _ in 0..60 {
            let is_closed = sample.descriptors <= self.before.descriptors + DESCRIPTORS_LEFT_MAX;
            if is_closed && quarantined(&self.watched.folder) == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
            sample = self.watched.sample().await;
        }
        sample
    }
}

impl Growth {
    fn compare(&mut self, most: &Sample, effort: &Effort) {
        let (sent, sockets) = effort.spent();
        self.check("MiB of the gateway's memory", self.gateway_kib >> 10, PROGRAM_MIB_MAX);
        self.check("MiB of the plugin's memory", self.plugin_kib >> 10, PROGRAM_MIB_MAX);
        let redis_max = most.redis_bytes_max + GATES_BYTES + REDIS_SPARE_BYTES;
        self.check("MiB of Redis", self.redis_kib >> 10, redis_max >> 20);
        self.check("held events", most.held, HELD_PER_SOURCE_MAX + HELD_BEFORE_MAX);
        self.check("MiB of staged commits", most.staged_bytes >> 20, STAGED_BYTES_MAX >> 20);
        let kept_max = 2 * sent + DISK_SPARE_BYTES + self.repositories * REPOSITORY_BYTES;
        self.check(
            "repositories",
            self.repositories,
            NEW_REPOSITORIES_PER_SOURCE_MAX + HONEST_REPOSITORIES_MAX,
        );
        self.check("MiB of disk, kept", self.disk_kept_kib >> 10, kept_max >> 20);
        self.check("MiB of disk", self.disk_kib >> 10, (kept_max + PASSING_BYTES_MAX) >> 20);
        self.check("file descriptors", self.descriptors, DESCRIPTORS_MAX + 3 * sockets);
    }

    fn check(&mut self, what: &str, taken: u64, max: u64) {
        if taken > max {
            self.broken.push(format!("{taken} {what} more, {max} at most"));
        }
    }
}

/// Bytes that are allocated to a directory and everything in it, if it was not `seen` yet: a file with several names
/// takes its bytes once.
fn disk_bytes(path: &Path, seen: &mut BTreeSet<u64>) -> u64 {
    // What goes away meanwhile takes nothing.
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino()) {
        return 0;
    }
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        bytes += entries.map(|entry| disk_bytes(&entry.path(), seen)).sum::<u64>();
    }
    bytes
}

/// Returns how many repositories there are, each in a directory of its owner.
fn repositories_in(path: &Path) -> u64 {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    entries(path).map(|owner| entries(&owner.path()).count() as u64).sum()
}

fn descriptors(process_id: u32) -> u64 {
    fs::read_dir(format!("/proc/{process_id}/fd")).map_or(0, |entries| entries.count() as u64)
}

fn quarantined(folder: &Path) -> usize {
    let entries = fs::read_dir(folder.join("data/quarantine"))
        .into_iter()
        .flatten()
        .flatten();
    entries.filter(|entry| entry.path().is_dir()).count()
}

/// What gateway and plugin may take, each (docs/strangers.md).
const PROGRAM_MIB_MAX: u64 = 128;

/// What Redis may take for each entry besides the event (docs/operations.md, "What the limits cost").
const ENTRY_BYTES: u64 = 3 << 10;

/// And for each placeholder.
const PLACEHOLDER_BYTES: u64 = 2 << 10;

/// And for what is kept out after deletions (docs/redis.md).
const GATES_BYTES: u64 = 16 << 20;

/// What Redis takes for connections and for writing its file.
const REDIS_SPARE_BYTES: u64 = 8 << 20;

/// `--held-per-source-max`: an attacker has one address.
const HELD_PER_SOURCE_MAX: u64 = 10_000;

/// `--new-repositories-per-source-and-day-max`
const NEW_REPOSITORIES_PER_SOURCE_MAX: u64 = 1_000;

/// What the honest user may make meanwhile.
const HONEST_REPOSITORIES_MAX: u64 = 8;

/// What the honest user may have there at the same time.
const HELD_BEFORE_MAX: u64 = 8;

/// `--staged-per-repository-max`; all attacks are on one.
const STAGED_BYTES_MAX: u64 = 1 << 30;

/// Disk for what the honest user does meanwhile, and for indexes of what was sent.
const DISK_SPARE_BYTES: u64 = 24 << 20;

/// And for the files of a repository without objects of its own, and the directory of its owner.
const REPOSITORY_BYTES: u64 = 48 << 10;

/// File descriptors besides three for each socket of the attacker: 256, and 16 for each of `--uploads-max`,
/// `--fetches-max` and `--git-commands-max` (docs/operations.md, "What the limits cost").
const DESCRIPTORS_MAX: u64 = 256 + 16 * (8 + 4 + 16);

/// For what is opened once.
const DESCRIPTORS_LEFT_MAX: u64 = 32;
