//! How long a `git push` takes, start to end with its events served, beside a push to `file://`: a small one, and one
//! of many refs.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crate::clients::git::GitClient;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::repository::Repository;
use crate::harness::world::World;
use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::publisher::Publisher;

/// What was measured, of pushes into fresh repositories, in turns.
#[derive(Debug, Default)]
pub struct PushTimes {
    /// Until an announcement and a state were answered, one after the other, both together.
    pub events: Vec<Duration>,
    /// Into a world, with its events served at the end.
    pub into_world: Vec<Duration>,
    /// Into a bare repository on the same disk, by `file://`.
    pub into_file: Vec<Duration>,
    /// The next commit, into the same repository of the world.
    pub next_into_world: Vec<Duration>,
    /// The next commit, by `file://`.
    pub next_into_file: Vec<Duration>,
    /// Into a world that refuses them: what a client takes by itself to push by HTTP.
    pub refused: Vec<Duration>,
}

impl PushTimes {
    /// Pushes two small commits, one after the other, into so many fresh repositories of `world`, and each into a bare
    /// one beside.
    ///
    /// # Panics
    /// A push fails, or its events are not served.
    pub async fn measure(world: &World, repositories: usize) -> Self {
        let mut nostr = world.nostr().await;
        let mut times = Self::default();
        for number in 0..repositories {
            let git = world.git(&format!("client{number}")).await;
            let commit = git.commit("one").await;
            let bare = bare_repository(world.folder(), &git, number).await;
            times.into_file.push(time(push_main(&git, &bare)).await);
            let other = Repository::new(&format!("refused{number}"));
            times.refused.push(push_refused(world, &mut nostr, &git, &other).await);
            let repository = Repository::new(&format!("r{number}"));
            let published = push_into_world(world, &mut nostr, &git, &repository, &commit).await;
            times.events.push(published.events.iter().sum());
            times.into_world.push(published.push);
            let next = git.commit("two").await;
            times.next_into_file.push(time(push_main(&git, &bare)).await);
            let state = repository.state(now() + 1, &[("refs/heads/main", &next)]);
            assert!(nostr.send(&state).await.taken);
            times
                .next_into_world
                .push(time(push_main(&git, &world.url(&repository))).await);
            assert!(nostr.serves(&state).await);
        }
        times
    }

    /// Returns the median of each in milliseconds: into the world, by `file://`, and of those that are refused.
    pub fn medians(&self) -> [f64; 3] {
        [&self.into_world, &self.into_file, &self.refused].map(|times| ms(median(times)))
    }
}

/// Pushes so many branches at once into fresh repositories of `world`, and each into a bare one beside: first all are
/// created, then all are moved. Returns the two measurements.
///
/// # Panics
/// A push fails, or its events are not served.
pub async fn measure_many_refs(world: &World, repositories: usize, refs: usize) -> [PushTimes; 2] {
    let branches: Vec<String> = (1..refs).map(|branch| format!("refs/heads/b{branch}")).collect();
    let mut times = [PushTimes::default(), PushTimes::default()];
    for number in 0..repositories {
        let mut publisher = Publisher::announce(world, &format!("r{number}")).await;
        let bare = bare_repository(world.folder(), &publisher.git, number).await;
        for times in &mut times {
            publisher.commit(&branches).await;
            times.refused.push(time(publisher.push_undeclared()).await);
            let state = publisher.declare().await;
            times.into_file.push(time(publisher.push_to(&bare)).await);
            times.into_world.push(time(publisher.push_to(&publisher.url)).await);
            publisher.expect_served(&state).await;
        }
    }
    times
}

/// Makes a bare repository and returns its URL.
async fn bare_repository(folder: &Path, git: &GitClient, number: usize) -> String {
    let path = folder.join(format!("bare{number}.git")).display().to_string();
    git.run(&["init", "--quiet", "--bare", &path]).await.expect_ok();
    format!("file://{path}")
}

/// What it took to publish a repository.
#[derive(Debug)]
pub struct PublishTimes {
    /// Until the announcement and the state were answered.
    pub events: [Duration; 2],
    /// The push, with both served at its end.
    pub push: Duration,
}

/// Publishes a repository with another commit than it then pushes, which is refused before anything is done with it.
async fn push_refused(world: &World, nostr: &mut NostrClient, git: &GitClient, repository: &Repository) -> Duration {
    let announcement = world.announcement(repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", &"1".repeat(40))]);
    for event in [&announcement, &state] {
        assert!(nostr.send(event).await.taken);
    }
    let started = Instant::now();
    git.push(&world.url(repository), &["main"]).await.expect_refused();
    started.elapsed()
}

/// Publishes a repository and pushes a commit into it.
///
/// # Panics
/// An event is refused, the push fails, or its events are not served.
pub async fn push_into_world(
    world: &World,
    nostr: &mut NostrClient,
    git: &GitClient,
    repository: &Repository,
    commit: &str,
) -> PublishTimes {
    let announcement = world.announcement(repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", commit)]);
    let mut events = [Duration::ZERO; 2];
    for (event, took) in [&announcement, &state].into_iter().zip(&mut events) {
        let sent = Instant::now();
        let answer = nostr.send(event).await;
        *took = sent.elapsed();
        assert!(answer.taken, "{answer:?}");
    }
    let started = Instant::now();
    push_main(git, &world.url(repository)).await;
    let push = started.elapsed();
    assert!(nostr.serves(&state).await);
    PublishTimes { events, push }
}

async fn push_main(git: &GitClient, url: &str) {
    git.push(url, &["main"]).await.expect_ok();
}

async fn time<T>(work: impl Future<Output = T>) -> Duration {
    let started = Instant::now();
    work.await;
    started.elapsed()
}
