//! What readers see while many refs change, again and again, and the repository is maintained: each listing is counted,
//! and each in which a ref is missing or that is half of a push, and each clone, and each that fails.

use std::cell::Cell;

use crate::harness::process::program;
use crate::harness::process::shell;
use crate::harness::world::World;
use crate::load::publisher::Publisher;

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
    let (readings, is_done) = (Cell::new(Readings::default()), Cell::new(false));
    let note = |change: &dyn Fn(&mut Readings)| {
        let mut noted = readings.get();
        change(&mut noted);
        readings.set(noted);
    };
    let mut publisher = Publisher::announce(world, "steady").await;
    let (repository, url) = (publisher.repository.clone(), publisher.url.clone());
    let branches: Vec<String> = (1..REFS).map(|number| format!("refs/heads/b{number}")).collect();
    publisher.commit(&branches).await;
    publisher.publish().await;
    let push = async {
        for _ in 0..updates.div_ceil(REFS) {
            publisher.commit(&branches).await;
            publisher.publish().await;
            note(&|seen| seen.updates += REFS);
        }
        is_done.set(true);
    };
    let reader = world.git("reader").await;
    let list = async {
        while !is_done.get() {
            let refs = reader.ls_remote(&url).await;
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

/// Refs of one push.
const REFS: usize = 100;
