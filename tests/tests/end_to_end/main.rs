//! The whole way, as clients see it: events, pushes, clones. Every test runs in both worlds unless it says otherwise.

#![expect(clippy::unwrap_used, reason = "what cannot be had ends the test")]

mod access;
mod crashes;
mod deletions;
mod disk_faults;
#[cfg(feature = "mounts")]
mod disk_full;
mod expiry;
mod hand_over;
mod hang_ups;
mod http;
mod late_binding;
mod limits;
mod past_bugs;
mod pull_requests;
mod pushes;
mod redis_failover;
mod redis_faults;
mod redis_losses;
mod related;
mod relay_faults;
mod several_owners;
mod stopping;
mod stuck;
mod two_gateways;

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
use in_both_worlds;

use nostr::event::Event;
use tests::clients::git::GitClient;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::Ok;
use tests::clients::nostr::now;
use tests::harness::repository::Repository;
use tests::harness::world::World;

/// The answer to an event that waits for its git data.
fn held() -> Ok {
    Ok {
        taken: true,
        message: "purgatory: won't be served until git data arrives".to_owned(),
    }
}

/// A repository that is announced, declared, pushed and served.
struct Served {
    repository: Repository,
    git: GitClient,
    url: String,
    /// The commit on main.
    commit: String,
    announcement: Event,
    state: Event,
}

impl Served {
    async fn new(world: &World, nostr: &mut NostrClient, identifier: &str) -> Self {
        let repository = Repository::new(identifier);
        Self::of(world, nostr, repository, &[]).await
    }

    async fn of(world: &World, nostr: &mut NostrClient, repository: Repository, more: &[Vec<String>]) -> Self {
        let git = world.git(&format!("work-{}", repository.npub())).await;
        let commit = git.commit("one").await;
        let url = world.url(&repository);
        let announcement = world.announcement(&repository, now() - 100, more);
        let state = repository.state(now() - 100, &[("refs/heads/main", &commit)]);
        assert_eq!(nostr.send(&announcement).await, held());
        assert_eq!(nostr.send(&state).await, held());
        git.push(&url, &["main"]).await.expect_ok();
        Self {
            repository,
            git,
            url,
            commit,
            announcement,
            state,
        }
    }

    /// Returns the branches and tags as clients see them.
    async fn refs(&self) -> Vec<(String, String)> {
        let refs = self.git.ls_remote(&self.url).await;
        refs.into_iter()
            .filter(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
            .collect()
    }
}
