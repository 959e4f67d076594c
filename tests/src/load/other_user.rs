//! Somebody who publishes, pushes and fetches, round after round, whatever else goes on.

use std::fmt;
use std::future::Future;
use std::time::Duration;
use std::time::Instant;

use crate::clients::git::GitClient;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::repository::Repository;
use crate::harness::world::World;

/// Somebody with a repository of his own.
pub(super) struct OtherUser {
    nostr: NostrClient,
    repository: Repository,
    url: String,
    writer: GitClient,
    reader: GitClient,
    rounds: u64,
}

/// How long each took, in the median, of so many rounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    rounds: usize,
    publish: Duration,
    push: Duration,
    fetch: Duration,
}

impl OtherUser {
    pub(super) async fn new(world: &World) -> Self {
        let mut nostr = world.nostr().await;
        let repository = Repository::new("other");
        let answer = nostr.send(&world.announcement(&repository, now(), &[])).await;
        assert!(answer.taken, "{answer:?}");
        Self {
            nostr,
            url: world.url(&repository),
            repository,
            writer: world.git("writer").await,
            reader: world.git("reader").await,
            rounds: 0,
        }
    }

    /// Goes on until `end` is done, but for so many rounds at least. Returns what `end` does too.
    pub(super) async fn rounds_until<T>(
        &mut self,
        world: &World,
        rounds_min: usize,
        end: impl Future<Output = T>,
    ) -> (Times, T) {
        tokio::pin!(end);
        let mut ended = None;
        let mut rounds = Vec::new();
        while ended.is_none() || rounds.len() < rounds_min {
            let round = self.round(world);
            tokio::pin!(round);
            let times = loop {
                tokio::select! {
                    times = &mut round => break times,
                    with = &mut end, if ended.is_none() => ended = Some(with),
                }
            };
            rounds.push(times);
        }
        let median = |of: fn(&[Duration; 3]) -> Duration| {
            let mut times: Vec<_> = rounds.iter().map(of).collect();
            times.sort_unstable();
            times[times.len() / 2]
        };
        let times = Times {
            rounds: rounds.len(),
            publish: median(|round| round[0]),
            push: median(|round| round[1]),
            fetch: median(|round| round[2]),
        };
        (times, ended.unwrap())
    }

    /// Publishes a state, pushes it and fetches it, and finds the state served.
    async fn round(&mut self, world: &World) -> [Duration; 3] {
        self.rounds += 1;
        let commit = self.writer.commit(&format!("file{}", self.rounds)).await;
        // In the past by seconds, and each newer than the one before.
        let created_at = now() - 3600 + self.rounds;
        let state = self.repository.state(created_at, &[("refs/heads/main", &commit)]);
        let started = Instant::now();
        let answer = self.nostr.send(&state).await;
        let publish = started.elapsed();
        assert!(answer.taken, "{answer:?}");

        let started = Instant::now();
        self.writer.push(&self.url, &["main"]).await.expect_ok();
        let push = started.elapsed();

        let started = Instant::now();
        self.reader
            .run(&["fetch", "--quiet", &self.url, "main"])
            .await
            .expect_ok();
        let fetch = started.elapsed();
        assert_eq!(self.reader.rev_parse("FETCH_HEAD").await, commit);
        assert!(world.nostr().await.serves(&state).await, "round {}", self.rounds);
        [publish, push, fetch]
    }
}

impl Times {
    /// Says how many times longer each took than before.
    pub(super) fn compared_to(&self, before: &Self) -> String {
        let ratio = |now: Duration, then: Duration| now.as_secs_f64() / then.as_secs_f64().max(1e-6);
        format!(
            "times as long: publish {:.1}, push {:.1}, fetch {:.1}",
            ratio(self.publish, before.publish),
            ratio(self.push, before.push),
            ratio(self.fetch, before.fetch)
        )
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [publish, push, fetch] = [self.publish, self.push, self.fetch].map(|time| time.as_millis());
        let rounds = self.rounds;
        write!(
            f,
            "publish {publish} ms, push {push} ms, fetch {fetch} ms ({rounds} rounds)"
        )
    }
}
