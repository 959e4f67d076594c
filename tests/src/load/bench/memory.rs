//! What the gateway takes of the memory, idle and while much goes in and out.

use crate::clients::git::GitClient;
use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::world::World;
use crate::load::bench::figures::Figures;
use crate::load::history::large_history;
use crate::load::process_memory::at_rest_kib;
use crate::load::process_memory::forget_peak;
use crate::load::process_memory::peak_kib;
use crate::load::publisher::PUSH_MAX;
use crate::load::publisher::Publisher;

/// Pushes so many bytes by so many pushes, and clones them.
pub(super) async fn memory(kind: Kind, bytes: usize, pushes: usize, figures: &mut Figures<'_>) {
    let options = Options {
        gateway: &["--pack-bytes-max=2GiB"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let gateway = world.gateway_id();
    let idle = at_rest_kib(gateway).await;
    let more = || megabytes(peak_kib(gateway).saturating_sub(idle));
    figures.alone(megabytes(idle));

    let mut publisher = Publisher::announce(&world, "large").await;
    let branches = prepare(&publisher.git, bytes, pushes).await;
    let state = publisher.declare().await;
    forget_peak(gateway);
    for branch in &branches {
        let push = ["push", "--porcelain", &publisher.url, branch];
        publisher.git.run_within(PUSH_MAX, &push).await.expect_ok();
    }
    publisher.expect_served(&state).await;
    figures.alone(more());

    forget_peak(gateway);
    let clone = ["clone", "--quiet", "--bare", &publisher.url, "clone"];
    publisher.git.run_within(PUSH_MAX, &clone).await.expect_ok();
    let found = publisher
        .git
        .run(&["-C", "clone", "rev-parse", "main"])
        .await
        .expect_ok();
    assert_eq!(found.trim(), publisher.git.rev_parse("main").await);
    figures.alone(more());
}

/// Fills a repository. Returns its branches, of which each brings the same number of bytes.
async fn prepare(git: &GitClient, bytes: usize, pushes: usize) -> Vec<String> {
    let mut branches: Vec<String> = (1..pushes).map(|number| format!("refs/heads/part{number}")).collect();
    branches.push("refs/heads/main".to_owned());
    // Nothing is gained on noise but time.
    for [setting, value] in [["core.compression", "0"], ["core.bigFileThreshold", "1m"]] {
        git.run(&["config", setting, value]).await.expect_ok();
    }
    let history = large_history(branches.clone(), bytes / pushes);
    git.run_on(history, &["fast-import", "--quiet"]).await.expect_ok();
    branches
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
