//! Many clients push at the same time: how much memory the gateway takes for it, and its gits.

use std::time::Duration;
use std::time::Instant;

use tokio::task::JoinSet;

use crate::clients::git::GitClient;
use crate::clients::git::Said;
use crate::clients::nostr::now;
use crate::harness::repository::Repository;
use crate::harness::world::World;
use crate::load::noise::noise;
use crate::load::process_memory::at_rest_kib;
use crate::load::process_memory::children_kib;
use crate::load::process_memory::forget_peak;
use crate::load::process_memory::peak_kib;

/// Most that the gateway may take above what it takes when nobody pushes, in KiB.
pub const GROWTH_KIB_MAX: u64 = 64 << 10;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct PushMemory {
    /// Resident memory of the gateway before the pushes, in KiB.
    pub idle_kib: u64,
    /// The most during them.
    pub peak_kib: u64,
    /// The most that its gits took together, in KiB.
    pub children_kib: u64,
    /// The most gits at the same time.
    pub children: usize,
    /// From the first push to the end of the last one.
    pub duration: Duration,
}

impl PushMemory {
    /// Returns by how much the gateway grew, in KiB.
    pub fn growth_kib(&self) -> u64 {
        self.peak_kib.saturating_sub(self.idle_kib)
    }

    /// Lets so many clients push a blob of so many bytes each, all at the same time, into `world`.
    ///
    /// # Panics
    /// A push fails.
    pub async fn measure(world: &World, clients: usize, blob_bytes: usize) -> Self {
        let mut nostr = world.nostr().await;
        let mut prepared = Vec::new();
        for number in 0..clients {
            let repository = Repository::new(&format!("r{number}"));
            let git = world.git(&format!("client{number}")).await;
            // Nothing is gained on noise but time.
            git.run(&["config", "core.compression", "0"]).await.expect_ok();
            let commit = git.commit_file("noise", &noise(number as u64 + 1, blob_bytes)).await;
            let announcement = world.announcement(&repository, now(), &[]);
            let state = repository.state(now(), &[("refs/heads/main", &commit)]);
            for event in [&announcement, &state] {
                let answer = nostr.send(event).await;
                assert!(answer.taken, "{answer:?}");
            }
            prepared.push((git, world.url(&repository)));
        }
        let gateway = world.gateway_id();
        let idle_kib = at_rest_kib(gateway).await;
        forget_peak(gateway);
        let started = Instant::now();
        let (children_kib, children) = push_all(prepared, gateway).await;
        Self {
            idle_kib,
            peak_kib: peak_kib(gateway),
            children_kib,
            children,
            duration: started.elapsed(),
        }
    }
}

/// Pushes from all clients; returns the most that the gateway's children took meanwhile, in KiB, and their number.
async fn push_all(prepared: Vec<(GitClient, String)>, gateway: u32) -> (u64, usize) {
    let mut pushes: JoinSet<Said> = JoinSet::new();
    for (git, url) in prepared {
        pushes.spawn(async move { git.run_within(PUSH_MAX, &["push", "--porcelain", &url, "main"]).await });
    }
    let mut most = (0, 0);
    let mut sample = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        tokio::select! {
            pushed = pushes.join_next() => match pushed {
                Some(said) => drop(said.unwrap().expect_ok()),
                None => return most,
            },
            _ = sample.tick() => {
                let (kib, count) = children_kib(gateway);
                most = (most.0.max(kib), most.1.max(count));
            }
        }
    }
}

/// For one push among many, on a machine with little to spare.
const PUSH_MAX: Duration = Duration::from_secs(600);

/// Between two looks at the children.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
