//! How a gateway starts that has very many repositories on disk, all announced: how long nobody is answered, how long
//! Redis keeps others waiting meanwhile, and what the gateway takes of the memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream;
use nostr::event::Event;
use nostr_database::NostrDatabase;
use nostr_database::SaveEventStatus;
use nostr_lmdb::NostrLmdb;
use tokio::task::JoinHandle;
use wire::path::repository_path;

use crate::clients::nostr::now;
use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::redis::RedisServer;
use crate::harness::redis_connection::connect;
use crate::harness::repository::Repository;
use crate::harness::strfry::strfry_binary;
use crate::harness::world::World;
use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::process_memory::peak_kib;
use crate::load::push_time::push_into_world;
use crate::load::scale::disk::lay_out;
use crate::load::scale::disk::repositories;
use crate::load::scale::script_calls;

/// What one start took.
#[derive(Debug)]
pub struct Start {
    /// Which one.
    pub what: &'static str,
    /// Until the first request was answered.
    pub first_answer: Duration,
    /// Until the refs of a repository were answered.
    pub first_refs: Duration,
    /// How often the gateway had called a script in Redis by then.
    pub calls: u64,
    /// The longest time that somebody else waited for a PING, until the end.
    pub longest_ping: Duration,
    /// A push into a fresh repository meanwhile, the median of some.
    pub push: Duration,
    /// The most that the gateway took of the memory.
    pub peak_kib: u64,
    /// How many identifiers were dirty at most.
    pub most_dirty: u64,
}

impl Start {
    /// Lays out so many repositories, the first `announced` of them announced, starts a gateway on them as an upgrade
    /// does and again with an empty Redis, and watches each for a while. The first is one with a single repository, for
    /// comparison.
    ///
    /// # Panics
    /// Something cannot be started, or a push fails.
    pub async fn measure(count: usize, announced: usize, pushes: usize, watch: Duration) -> Vec<Self> {
        let mut world = World::start(Kind::Strfry, Options::default()).await;
        let model = Repository::new("model");
        let git = world.git("model").await;
        let commit = git.commit("one").await;
        push_into_world(&world, &mut world.nostr().await, &git, &model, &commit).await;
        let mut starts = vec![Self::of("one repository", &mut world, &model, pushes, watch).await];

        world.kill_gateway().await;
        let repositories = repositories(count, count.div_ceil(10));
        lay_out(&world, &model, &repositories);
        let announced = &repositories[..announced.min(count)];
        store_announcements(&mut world, announced, &commit).await;
        let last = announced.last().unwrap_or(&model);
        world.start_gateway().await;
        starts.push(Self::of("all of them", &mut world, last, pushes, watch).await);
        world.redis().ask::<()>(&["FLUSHALL"]).await;
        starts.push(Self::of("all, and Redis has lost everything", &mut world, last, pushes, watch).await);
        starts
    }

    async fn of(
        what: &'static str,
        world: &mut World,
        repository: &Repository,
        pushes: usize,
        watch: Duration,
    ) -> Self {
        world.kill_gateway().await;
        world.redis().ask::<()>(&["CONFIG", "RESETSTAT"]).await;
        let watched = Watched::start(world.redis());
        let started = Instant::now();
        world.start_gateway().await;
        assert_eq!(world.get("/", "").await.0, 200);
        let first_answer = started.elapsed();
        let refs = format!(
            "{}/info/refs?service=git-upload-pack",
            repository_path(&repository.coordinate())
        );
        let (status, answer) = world.get(&refs, "").await;
        assert_eq!(status, 200, "{answer}");
        let first_refs = started.elapsed();
        let calls = script_calls(world.redis()).await;

        let mut nostr = world.nostr().await;
        let mut times = Vec::new();
        for number in 0..pushes {
            let fresh = Repository::new(&format!("fresh{number}"));
            let git = world.git(&format!("{}-{number}", fresh.npub())).await;
            let commit = git.commit("one").await;
            times.push(push_into_world(world, &mut nostr, &git, &fresh, &commit).await.push);
        }
        tokio::time::sleep(watch.saturating_sub(started.elapsed())).await;
        Self {
            what,
            first_answer,
            first_refs,
            calls,
            longest_ping: Duration::from_micros(watched.longest_micros.load(Ordering::Relaxed)),
            push: median(&times),
            peak_kib: peak_kib(world.gateway_id()),
            most_dirty: watched.most_dirty.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "start, {}: answers after {:.2} s, refs after {:.2} s, {} calls of Redis by then; others waited {:.1} ms for \
             a PING at most; a push meanwhile {:.0} ms; {} MiB at most; {} dirty at most",
            self.what,
            self.first_answer.as_secs_f64(),
            self.first_refs.as_secs_f64(),
            self.calls,
            ms(self.longest_ping),
            ms(self.push),
            self.peak_kib / 1024,
            self.most_dirty,
        )
    }
}

/// Another client of Redis, which asks again and again until it is dropped.
struct Watched {
    longest_micros: Arc<AtomicU64>,
    most_dirty: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Watched {
    fn start(redis: &RedisServer) -> Self {
        let (longest_micros, most_dirty) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (longest, most) = (Arc::clone(&longest_micros), Arc::clone(&most_dirty));
        let url = format!("redis://127.0.0.1:{}", redis.port());
        let task = tokio::spawn(async move {
            let mut connection = connect(&url).await.unwrap();
            loop {
                let asked = Instant::now();
                let () = redis::cmd("PING").exec_async(&mut connection).await.unwrap();
                let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
                longest.fetch_max(micros, Ordering::Relaxed);
                let dirty = redis::cmd("ZCARD")
                    .arg("{purgatory}:dirty")
                    .query_async(&mut connection)
                    .await;
                most.fetch_max(dirty.unwrap(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self {
            longest_micros,
            most_dirty,
            task,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Puts the announcement and the state of each repository into the relay's database.
async fn store_announcements(world: &mut World, repositories: &[Repository], commit: &str) {
    let created_at = now() - 30 * 86_400;
    let own: &World = world;
    let events = repositories.iter().enumerate().flat_map(|(number, repository)| {
        // Not all of one second.
        let created_at = created_at - number as u64 / 100;
        let announcement = own.announcement(repository, created_at, &[]);
        [
            announcement,
            repository.state(created_at, &[("refs/heads/main", commit)]),
        ]
    });
    let events: Vec<Event> = events.collect();
    if strfry_binary().is_some() {
        return world.import_all(&events).await;
    }
    world.stop_relay().await;
    let database = NostrLmdb::builder(world.folder().join("relay")).build().await.unwrap();
    let saved = stream::iter(&events)
        .map(|event| database.save_event(event))
        .buffer_unordered(SAVED_AT_ONCE);
    saved
        .for_each(async |saved| assert_eq!(saved.unwrap(), SaveEventStatus::Success))
        .await;
    drop(database);
    world.start_relay().await;
}

const SAVED_AT_ONCE: usize = 1000;
