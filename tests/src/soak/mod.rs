//! The soak: a load of concurrent pushes and events while everything is killed, again and again, between any two
//! steps, and disks are full, unreadable or read-only for a while; and then what was answered is compared with what is
//! served, held, expired, superseded or deleted.
//!
//! `scripts/soak` runs it; `tests/tests/soak.rs` runs a short form. docs/reliability.md says what it proves.

mod check;
mod declared;
mod disk;
mod disk_faults;
mod fate;
mod kills;
mod ledger;
mod load;
mod options;
pub(crate) mod random;
mod refs;
mod server;
mod summary;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use progress::CommandProgress;
use tokio::sync::watch;
use tokio::task::JoinSet;

use check::Checker;
pub use disk_faults::DiskFaultKind;
use disk_faults::DiskFaults;
pub use fate::Fate;
use kills::Kill;
pub use kills::StepKind;
use ledger::Ledger;
pub use ledger::Promise;
pub use ledger::Violation;
pub use options::Options;
use random::Random;
use server::Program;
use server::Server;
pub use summary::Summary;
use worker::Worker;

/// Runs it, and shows how many of the kills are done, with a line now and then.
pub async fn run(options: Options, progress: &CommandProgress) -> Summary {
    let begun = Instant::now();
    let ends = begun + Duration::from_secs(options.secs);
    let mut random = Random::new(options.seed, 0);
    let mut server = Server::start(options).await;
    let ledger = Arc::new(Ledger::default());
    let means = server.means();
    let mut summary = Summary::new(options.seed);
    if means.disk.is_none() {
        summary.without_small_disk = true;
        say(progress, "nobody may mount anything here: no disk is full or read-only");
    }
    let checker = Checker::new(server.places(), means.clone(), Arc::clone(&ledger), options.hold_secs);
    let checker = Arc::new(checker.await);
    let mut faults = DiskFaults::new(options.seed, means);
    let watcher = tokio::spawn({
        let checker = Arc::clone(&checker);
        async move { checker.watch().await }
    });
    let mut workers = people(options, &server, &ledger).await;
    let (mut died, mut drawn) = (0, 0);
    while died < options.kills && Instant::now() < ends {
        let (stop, at_work) = put_to_work(&mut workers);
        let faulty = tokio::spawn({
            let stopped = stop.subscribe();
            async move {
                faults.make(stopped).await;
                faults
            }
        });
        let round_ends = (died + KILLS_A_ROUND).min(options.kills);
        while died < round_ends && Instant::now() < ends {
            let kill = Kill::draw(&mut random, drawn);
            summary
                .schedule
                .push(format!("{} {kill}", crate::clients::nostr::now()));
            progress.begin(&kill.to_string());
            died += server.carry_out(&kill, &mut summary.tally).await;
            progress.set(died);
            drawn += 1;
            // Redis and the relay have just been started: without an answer it is asked for after the next kill.
            checker.find_open().await.ok();
        }
        stop.send_replace(true);
        faults = faulty.await.expect("each fault ends");
        // A gateway that finds a full disk when it starts ends, and systemd starts it again.
        server.start_missing().await;
        workers = at_work.join_all().await;
        summary.fates = compare(&checker).await;
        say(progress, &summary.line(begun.elapsed()));
        let known = summary.violations.len();
        summary.violations.clone_from(&ledger.books().violations);
        for violation in &summary.violations[known..] {
            say(progress, &format!("{violation:?}"));
        }
    }
    watcher.abort();
    finish(&mut server, &checker, &mut summary).await;
    summary.took = begun.elapsed();
    summary.faults = faults.tally;
    summary.schedule.extend(faults.schedule);
    summary.take(&ledger, |id| server.logged(id));
    if !summary.is_clean() {
        summary.keep(&server.keep().await);
    }
    summary
}

fn say(progress: &CommandProgress, line: &str) {
    // Whoever reads no more need not stop the search.
    progress.line(line).ok();
}

/// Several authors with projects of their own, and two maintainers of one.
async fn people(options: Options, server: &Server, ledger: &Arc<Ledger>) -> Vec<Worker> {
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(Worker::new(number, options, server.places(), Arc::clone(ledger)).await);
    }
    let maintainer = workers[1].keys.clone();
    let shared = workers[0].announce_with(&maintainer).await;
    workers[1].join(shared);
    workers
}

fn put_to_work(workers: &mut Vec<Worker>) -> (watch::Sender<bool>, JoinSet<Worker>) {
    let (stop, stopped) = watch::channel(false);
    let mut at_work = JoinSet::new();
    for mut worker in workers.drain(..) {
        let stopped = stopped.clone();
        at_work.spawn(async move {
            worker.work(stopped).await;
            worker
        });
    }
    (stop, at_work)
}

async fn compare(checker: &Checker) -> BTreeMap<Fate, u64> {
    checker.wait_until_quiet().await;
    let fates = checker.compare_events().await.expect("everything runs and answers");
    checker.compare_all_refs().await.expect("everything runs and answers");
    fates
}

/// Everything is killed and started once more: nothing half done is left.
async fn finish(server: &mut Server, checker: &Checker, summary: &mut Summary) {
    for program in Program::ALL {
        server.kill(program).await;
    }
    server.start_missing().await;
    summary.fates = compare(checker).await;
    summary.cloned = checker.clone_all().await.expect("everything runs and answers");
    checker.compare_leftovers().await;
}

/// Kills between two comparisons of everything.
const KILLS_A_ROUND: u64 = 20;
/// People at work at the same time.
const WORKERS: usize = 5;
