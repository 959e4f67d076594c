//! How long a small `git push` takes, start to end with its events served, beside a push to `file://`.

use std::time::Duration;
use std::time::Instant;

use crate::clients::git::GitClient;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::repository::Repository;
use crate::harness::world::World;

/// What was measured, of one push each into fresh repositories, in turns.
#[derive(Debug, Default)]
pub struct PushTimes {
    /// Into a world, with its events served at the end.
    pub into_world: Vec<Duration>,
    /// Into a bare repository on the same disk, by `file://`.
    pub into_file: Vec<Duration>,
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
            let took = push_into_world(world, &mut nostr, &git, &commit, number).await;
            times.into_world.push(took);
        }
        times
    }

    /// Returns the median of each: into the world, and by `file://`.
    pub fn medians(&self) -> (Duration, Duration) {
        (median(&self.into_world), median(&self.into_file))
    }
}

async fn push_into_file(world: &World, git: &GitClient, number: usize) -> Duration {
    let bare = world.folder().join(format!("bare{number}.git"));
    let path = bare.display().to_string();
    git.run(&["init", "--quiet", "--bare", &path]).await.expect_ok();
    let started = Instant::now();
    git.push(&format!("file://{path}"), &["main"]).await.expect_ok();
    started.elapsed()
}

async fn push_into_world(
    world: &World,
    nostr: &mut NostrClient,
    git: &GitClient,
    commit: &str,
    number: usize,
) -> Duration {
    let repository = Repository::new(&format!("r{number}"));
    let announcement = world.announcement(&repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", commit)]);
    for event in [&announcement, &state] {
        let answer = nostr.send(event).await;
        assert!(answer.taken, "{answer:?}");
    }
    let started = Instant::now();
    git.push(&world.url(&repository), &["main"]).await.expect_ok();
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
