//! How long a `git push` takes, start to end with its events served, beside a push to `file://`: a small one, and one
//! of many refs.

use std::time::Duration;
use std::time::Instant;

use crate::clients::git::GitClient;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::process::shell;
use crate::harness::repository::Repository;
use crate::harness::world::World;

/// What was measured, of one push each into fresh repositories, in turns.
#[derive(Debug, Default)]
pub struct PushTimes {
    /// Into a world, with its events served at the end.
    pub into_world: Vec<Duration>,
    /// Into a bare repository on the same disk, by `file://`.
    pub into_file: Vec<Duration>,
    /// Into a world that refuses them: what a client takes by itself to push by HTTP.
    pub refused: Vec<Duration>,
}

impl PushTimes {
    /// Pushes one small commit into so many fresh repositories of `world`, and each into a bare one beside.
    ///
    /// # Panics
    /// A push fails, or its events are not served.
    pub async fn measure(world: &World, repositories: usize) -> Self {
        let mut nostr = world.nostr().await;
        let mut times = Self::default();
        for number in 0..repositories {
            let git = world.git(&format!("client{number}")).await;
            let commit = git.commit("one").await;
            times.into_file.push(push_into_file(world, &git, number).await);
            let other = Repository::new(&format!("refused{number}"));
            times.refused.push(push_refused(world, &mut nostr, &git, &other).await);
            let repository = Repository::new(&format!("r{number}"));
            let took = push_into_world(world, &mut nostr, &git, &repository, &commit).await;
            times.into_world.push(took);
        }
        times
    }

    /// Returns the median of each: into the world, by `file://`, and of those that are refused.
    pub fn medians(&self) -> [Duration; 3] {
        [&self.into_world, &self.into_file, &self.refused].map(|times| median(times))
    }
}

/// Pushes so many branches at once into fresh repositories of `world`, and each into a bare one beside: first all are
/// created, then all are moved. Returns the two measurements.
///
/// # Panics
/// A push fails, or its events are not served.
pub async fn measure_many_refs(world: &World, repositories: usize, refs: usize) -> [PushTimes; 2] {
    let mut nostr = world.nostr().await;
    let mut times = [PushTimes::default(), PushTimes::default()];
    for number in 0..repositories {
        let git = world.git(&format!("client{number}")).await;
        let repository = Repository::new(&format!("r{number}"));
        let bare = format!("file://{}", bare_repository(world, &git, number).await);
        let announcement = world.announcement(&repository, now(), &[]);
        assert!(nostr.send(&announcement).await.taken);
        let names: Vec<String> = (1..refs).map(|branch| format!("refs/heads/b{branch}")).collect();
        let directory = world.folder().join(format!("client{number}"));
        let move_refs = format!("git -C '{}' update-ref --stdin", directory.display());
        for (round, times) in times.iter_mut().enumerate() {
            let commit = git.commit(&format!("round {round}")).await;
            let moved: String = names.iter().map(|name| format!("update {name} {commit}\n")).collect();
            shell(&move_refs, &moved).await;
            let mut declared: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), commit.as_str())).collect();
            declared.push(("refs/heads/main", &commit));
            let state = repository.state(now() + round as u64, &declared);
            assert!(nostr.send(&state).await.taken);
            for (url, took) in [
                (&bare, &mut times.into_file),
                (&world.url(&repository), &mut times.into_world),
            ] {
                let started = Instant::now();
                git.push(url, &["refs/heads/*:refs/heads/*"]).await.expect_ok();
                took.push(started.elapsed());
            }
            assert!(nostr.serves(&state).await);
        }
    }
    times
}

async fn bare_repository(world: &World, git: &GitClient, number: usize) -> String {
    let path = world.folder().join(format!("bare{number}.git")).display().to_string();
    git.run(&["init", "--quiet", "--bare", &path]).await.expect_ok();
    path
}

async fn push_into_file(world: &World, git: &GitClient, number: usize) -> Duration {
    let path = bare_repository(world, git, number).await;
    let started = Instant::now();
    git.push(&format!("file://{path}"), &["main"]).await.expect_ok();
    started.elapsed()
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

/// Publishes a repository and pushes a commit into it; returns how long the push took.
///
/// # Panics
/// An event is refused, the push fails, or its events are not served.
pub async fn push_into_world(
    world: &World,
    nostr: &mut NostrClient,
    git: &GitClient,
    repository: &Repository,
    commit: &str,
) -> Duration {
    let announcement = world.announcement(repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", commit)]);
    for event in [&announcement, &state] {
        let answer = nostr.send(event).await;
        assert!(answer.taken, "{answer:?}");
    }
    let started = Instant::now();
    git.push(&world.url(repository), &["main"]).await.expect_ok();
    let took = started.elapsed();
    assert!(nostr.serves(&state).await);
    took
}

/// Returns the median of times.
pub fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
