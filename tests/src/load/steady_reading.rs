//! What readers see while many refs change, again and again, and the repository is maintained: each listing is counted,
//! and each in which a ref is missing or that is half of a push, and each clone, and each that fails.

use std::cell::Cell;

use crate::clients::git::GitClient;
use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::process::program;
use crate::harness::process::shell;
use crate::harness::repository::Repository;
use crate::harness::world::World;

/// What was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readings {
    /// Ref updates.
    pub updates: usize,
    /// Listings of the refs.
    pub listings: usize,
    /// Listings that do not have every ref.
    pub with_missing_refs: usize,
    /// Listings with refs of two pushes.
    pub halves: usize,
    /// Clones.
    pub clones: usize,
    /// Clones that failed.
    pub failed_clones: usize,
    /// Runs of `grasp-gateway repo maintain`.
    pub maintained: usize,
}

/// Changes all refs of a repository by one push after the other until there were so many updates, while others read it
/// and it is maintained.
///
/// # Panics
/// A push or a run of maintenance fails.
pub async fn read_while_refs_change(world: &World, updates: usize) -> Readings {
    let (repository, readings, is_done) = (
        Repository::new("steady"),
        Cell::new(Readings::default()),
        Cell::new(false),
    );
    let note = |change: &dyn Fn(&mut Readings)| {
        let mut noted = readings.get();
        change(&mut noted);
        readings.set(noted);
    };
    let mut pusher = Pusher::new(world, &repository).await;
    pusher.push(0).await;
    let push = async {
        for round in 1..=updates.div_ceil(REFS) {
            pusher.push(round).await;
            note(&|seen| seen.updates += REFS);
        }
        is_done.set(true);
    };
    let reader = world.git("reader").await;
    let list = async {
        while !is_done.get() {
            let refs = reader.ls_remote(&world.url(&repository)).await;
            let branches: Vec<&(String, String)> = refs.iter().filter(|(name, _)| name.starts_with("refs/")).collect();
            note(&|seen| {
                seen.listings += 1;
                seen.with_missing_refs += usize::from(branches.len() != REFS);
                seen.halves += usize::from(branches.iter().any(|(_, oid)| *oid != branches[0].1));
            });
        }
    };
    let clone = async {
        while !is_done.get() {
            let name = format!("clone{}", readings.get().clones);
            let cloned = world.clone(&repository, &name).await;
            note(&|seen| {
                seen.clones += 1;
                seen.failed_clones += usize::from(cloned.is_none());
            });
            tokio::fs::remove_dir_all(world.folder().join(name)).await.ok();
        }
    };
    let maintain = async {
        while !is_done.get() {
            maintain_all(world).await;
            note(&|seen| seen.maintained += 1);
        }
    };
    tokio::join!(push, list, clone, maintain);
    readings.get()
}

/// Runs `grasp-gateway repo maintain --all` and returns what it prints.
///
/// # Panics
/// It fails.
pub async fn maintain_all(world: &World) -> String {
    let gateway = program("grasp-gateway").display().to_string();
    let data = world.folder().join("data");
    let command = format!(
        "{gateway} repo maintain --all --data-dir={} 2>&1 || echo failed",
        data.display()
    );
    let said = shell(&command, "").await;
    assert!(!said.contains("failed") && !said.contains("WARN"), "{said}");
    said
}

struct Pusher<'w> {
    world: &'w World,
    repository: &'w Repository,
    git: GitClient,
    nostr: NostrClient,
    names: Vec<String>,
}

impl<'w> Pusher<'w> {
    async fn new(world: &'w World, repository: &'w Repository) -> Self {
        let mut nostr = world.nostr().await;
        assert!(nostr.send(&world.announcement(repository, now(), &[])).await.taken);
        Self {
            world,
            repository,
            git: world.git("pusher").await,
            nostr,
            names: (1..REFS).map(|number| format!("refs/heads/b{number}")).collect(),
        }
    }

    async fn push(&mut self, round: usize) {
        let commit = self.git.commit(&format!("round {round}")).await;
        let moved: String = self
            .names
            .iter()
            .map(|name| format!("update {name} {commit}\n"))
            .collect();
        let directory = self.world.folder().join("pusher");
        shell(&format!("git -C '{}' update-ref --stdin", directory.display()), &moved).await;
        let mut declared: Vec<(&str, &str)> = self.names.iter().map(|name| (name.as_str(), commit.as_str())).collect();
        declared.push(("refs/heads/main", &commit));
        let state = self.repository.state(now() + round as u64, &declared);
        assert!(self.nostr.send(&state).await.taken);
        let url = self.world.url(self.repository);
        self.git.push(&url, &["refs/heads/*:refs/heads/*"]).await.expect_ok();
    }
}

/// Refs of one push.
const REFS: usize = 100;
