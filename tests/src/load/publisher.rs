//! Somebody with a repository of his own on a server, who declares what he has and pushes it.

use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;

use crate::clients::git::GitClient;
use crate::clients::git::Said;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::repository::Repository;
use crate::harness::world::World;

/// Somebody, and his repository.
pub struct Publisher {
    /// What the server calls it.
    pub repository: Repository,
    /// What he works in.
    pub git: GitClient,
    /// Where he pushes to.
    pub url: String,
    nostr: NostrClient,
    commits: u64,
    states: u64,
}

impl Publisher {
    /// Announces a repository of which nothing is there yet.
    ///
    /// # Panics
    /// The announcement is refused.
    pub async fn announce(world: &World, identifier: &str) -> Self {
        let repository = Repository::new(identifier);
        let mut nostr = world.nostr().await;
        let answer = nostr.send(&world.announcement(&repository, now(), &[])).await;
        assert!(answer.taken, "{answer:?}");
        Self {
            git: world.git(identifier).await,
            url: world.url(&repository),
            repository,
            nostr,
            commits: 0,
            states: 0,
        }
    }

    /// Commits on `main`, and lets other refs name the commit too.
    pub async fn commit(&mut self, others: &[String]) {
        self.commits += 1;
        let commit = self.git.commit(&format!("change-{}", self.commits)).await;
        if !others.is_empty() {
            self.git.set_refs(others, &commit).await;
        }
    }

    /// Declares the branches and tags that he has.
    ///
    /// # Panics
    /// The state is refused.
    pub async fn declare(&mut self) -> Event {
        self.states += 1;
        let refs = self.git.refs().await;
        let refs: Vec<(&str, &str)> = refs.iter().map(|(name, oid)| (name.as_str(), oid.as_str())).collect();
        // In the past by seconds, and each newer than the one before.
        let state = self.repository.state(now() - 3600 + self.states, &refs);
        let answer = self.nostr.send(&state).await;
        assert!(answer.taken, "{answer:?}");
        state
    }

    /// Pushes the branches and tags that he has to the server, or elsewhere.
    ///
    /// # Panics
    /// The push fails.
    pub async fn push_to(&self, url: &str) {
        self.push_all(url).await.expect_ok();
    }

    /// Pushes the branches and tags that he has to the server, to which they are not declared.
    ///
    /// # Panics
    /// The push is taken.
    pub async fn push_undeclared(&self) {
        self.push_all(&self.url).await.expect_refused();
    }

    async fn push_all(&self, url: &str) -> Said {
        let all = [
            "push",
            "--porcelain",
            url,
            "refs/heads/*:refs/heads/*",
            "refs/tags/*:refs/tags/*",
        ];
        self.git.run_within(PUSH_MAX, &all).await
    }

    /// Declares and pushes the branches and tags that he has. Returns how long the push took.
    ///
    /// # Panics
    /// The state is refused or not served, or the push fails.
    pub async fn publish(&mut self) -> Duration {
        let state = self.declare().await;
        let started = Instant::now();
        self.push_to(&self.url).await;
        let took = started.elapsed();
        self.expect_served(&state).await;
        took
    }

    /// Looks whether an event is served.
    ///
    /// # Panics
    /// It is not.
    pub async fn expect_served(&mut self, event: &Event) {
        assert!(self.nostr.serves(event).await, "{event:?}");
    }
}

/// For the longest push.
pub const PUSH_MAX: Duration = Duration::from_secs(900);
