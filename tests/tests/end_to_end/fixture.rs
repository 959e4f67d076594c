//! What the tests of both folders begin with: a test in both worlds, a repository before and after its first push, and
//! what Redis and the disk contain.

use std::ops::Deref;

use nostr::event::Event;
use redis::aio::MultiplexedConnection;
use tests::clients::git::GitClient;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::OkMessage;
use tests::clients::nostr::now;
pub(crate) use tests::faults::git_wrapper::wrap_git;
use tests::harness::options::Options;
use tests::harness::redis::RedisSetup;
use tests::harness::redis_connection::connect;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

/// Makes two tests of each function, one for each world.
macro_rules! in_both_worlds {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(tests::harness::options::Kind::Embedded).await;
            })+
        }
        mod strfry {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(tests::harness::options::Kind::Strfry).await;
            })+
        }
    };
}
pub(crate) use in_both_worlds;

/// A world with one Redis, which its test reads, changes or stops.
pub(crate) const ALONE: Options = Options {
    redis: RedisSetup::Alone,
    ..Options::DEFAULT
};

/// The answer to an event that waits for its git data.
pub(crate) fn held() -> OkMessage {
    OkMessage {
        taken: true,
        message: "purgatory: won't be served until git data arrives".to_owned(),
    }
}

/// A repository that is announced and declared, and waits to be pushed.
pub(crate) struct Waiting(Served);

impl Waiting {
    pub(crate) async fn new(world: &World, nostr: &mut NostrClient, identifier: &str) -> Self {
        Self::of(world, nostr, Repository::new(identifier), &[]).await
    }

    async fn of(world: &World, nostr: &mut NostrClient, repository: Repository, more: &[Vec<String>]) -> Self {
        let git = world.git(&format!("work-{}", repository.npub())).await;
        let commit = git.commit("one").await;
        let announcement = world.announcement(&repository, now() - 100, more);
        let state = repository.state(now() - 100, &[("refs/heads/main", &commit)]);
        assert_eq!(nostr.send(&announcement).await, held());
        assert_eq!(nostr.send(&state).await, held());
        Self(Served {
            url: world.url(&repository),
            repository,
            git,
            commit,
            announcement,
            state,
        })
    }

    pub(crate) async fn push(self) -> Served {
        self.git.push(&self.url, &["main"]).await.expect_ok();
        self.0
    }
}

impl Deref for Waiting {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0
    }
}

/// A repository that is announced, declared, pushed and served.
pub(crate) struct Served {
    pub(crate) repository: Repository,
    pub(crate) git: GitClient,
    pub(crate) url: String,
    /// The commit that the state declares main to be.
    pub(crate) commit: String,
    pub(crate) announcement: Event,
    pub(crate) state: Event,
}

impl Served {
    pub(crate) async fn new(world: &World, nostr: &mut NostrClient, identifier: &str) -> Self {
        let repository = Repository::new(identifier);
        Self::of(world, nostr, repository, &[]).await
    }

    pub(crate) async fn of(
        world: &World,
        nostr: &mut NostrClient,
        repository: Repository,
        more: &[Vec<String>],
    ) -> Self {
        Waiting::of(world, nostr, repository, more).await.push().await
    }

    /// Pushes a commit that no state declares; returns it, and the number of the refusal that its pusher reads.
    pub(crate) async fn push_undeclared(&self) -> (String, String) {
        let commit = self.git.commit("two").await;
        let said = self.git.push(&self.url, &["main"]).await.expect_refused();
        let number = said.split_once("request ").unwrap().1.split_once(':').unwrap().0;
        (commit, number.to_owned())
    }

    /// Returns the branches and tags as clients see them.
    pub(crate) async fn refs(&self) -> Vec<(String, String)> {
        let refs = self.git.ls_remote(&self.url).await;
        refs.into_iter()
            .filter(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
            .collect()
    }
}

/// Connects to the Redis of a world.
pub(crate) async fn redis(world: &World) -> MultiplexedConnection {
    let url = format!("redis://127.0.0.1:{}", world.redis_port().unwrap());
    connect(&url).await.unwrap()
}

/// Returns a field of a held event.
pub(crate) async fn field(redis: &mut MultiplexedConnection, event_id: &str, name: &str) -> Option<String> {
    redis::cmd("HGET")
        .arg(format!("{{purgatory}}:entry:{event_id}"))
        .arg(name)
        .query_async(redis)
        .await
        .unwrap()
}

/// How many pushes are in the quarantine.
pub(crate) fn in_quarantine(world: &World) -> usize {
    let entries = std::fs::read_dir(world.folder().join("data/quarantine")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
}

/// Waits until the worker has found nothing to do for longer than it rests between two steps.
pub(crate) async fn settled(world: &World) {
    let mut last = (String::new(), std::time::Instant::now());
    eventually("nothing is logged any more", async || {
        let log = world.gateway_log();
        if log != last.0 {
            last = (log, std::time::Instant::now());
        }
        last.1.elapsed() > std::time::Duration::from_millis(1_200)
    })
    .await;
}
