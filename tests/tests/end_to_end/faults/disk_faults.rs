//! The data directory missing, taken away, restored from a backup; git killed in the middle: what is answered, and that
//! a push or the operator mends it.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::faults::git_wrapper::GitMoment;
use tests::faults::git_wrapper::GitWrapper;
use tests::faults::held_refs::HeldRefs;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::signal;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::measure::heard;
use tests::load::measure::took;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::in_quarantine;
use crate::fixture::wrap_git;

in_both_worlds!(
    a_repository_that_is_taken_away_reads_as_missing_and_is_healed_by_a_push,
    an_old_backup_is_not_served_and_a_push_heals_it,
    refs_that_went_back_are_brought_forward_where_the_data_is_here,
    refs_that_cannot_be_set_are_set_as_soon_as_they_can,
    a_push_is_refused_while_a_change_cannot_be_finished_and_taken_afterwards,
    a_git_that_is_killed_in_a_push_costs_that_push_at_most,
    a_git_that_is_killed_in_a_clone_costs_that_clone,
);

const MISSING: &str = "the repository's data is missing";

fn main_at(commit: &str) -> Vec<(String, String)> {
    vec![("refs/heads/main".to_owned(), commit.to_owned())]
}

/// Where a repository lies.
fn on_disk(world: &World, repository: &Repository) -> PathBuf {
    let owner = world.repositories().join(repository.owner.public_key().to_hex());
    owner.join(format!("{}.git", repository.identifier))
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_tree(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Readers hear that the data is missing, and the log says whose.
async fn assert_missing(world: &World, served: &Served, logged: &str) {
    let path = format!("/{}/r.git", served.repository.npub());
    // Readers may be given what was there a second before.
    eventually("readers hear that it is missing", async || {
        let refs = format!("{path}/info/refs?service=git-upload-pack");
        world.get(&refs, "").await.0 == 503
    })
    .await;
    let said = served.git.run(&["ls-remote", &served.url]).await.expect_refused();
    assert!(
        said.contains("the data of this repository is missing on this server"),
        "{said}"
    );
    let (status, page) = world.get(&path, "accept: text/html\r\n").await;
    assert_eq!(status, 503);
    for part in [
        "<h1>Not available now</h1>",
        "the data of this repository is missing on this server",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(!said.contains("<h1>"), "git shows text: {said}");
    eventually("the log says it loudly", async || {
        let log = world.gateway_log();
        let mut lines = log.lines().filter(|line| line.contains("ERROR"));
        lines.any(|line| line.contains(logged))
    })
    .await;
}

async fn assert_healed_by_a_push(served: &Served, expected: &str) {
    let healing = Instant::now();
    served.git.push(&served.url, &["main"]).await.expect_ok();
    took("a push that heals", healing);
    assert_eq!(served.refs().await, main_at(expected));
}

async fn a_repository_that_is_taken_away_reads_as_missing_and_is_healed_by_a_push(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;

    std::fs::remove_dir_all(on_disk(&world, &served.repository)).unwrap();

    assert_missing(&world, &served, MISSING).await;
    assert_healed_by_a_push(&served, &served.commit).await;
}

/// Pushes a second commit, with its state.
async fn push_second(world: &World, served: &Served) -> String {
    let second = served.git.commit("two").await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &second)]);
    assert_eq!(world.nostr().await.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    second
}

/// Mirrors went back in time with a restored backup, as if somebody had forced it.
async fn an_old_backup_is_not_served_and_a_push_heals_it(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let (place, backup) = (on_disk(&world, &served.repository), world.folder().join("backup"));
    copy_tree(&place, &backup);
    let second = push_second(&world, &served).await;

    std::fs::remove_dir_all(&place).unwrap();
    copy_tree(&backup, &place);

    assert_missing(&world, &served, MISSING).await;
    assert_healed_by_a_push(&served, &second).await;
    let clone = world.clone(&served.repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, second);
}

async fn refs_that_went_back_are_brought_forward_where_the_data_is_here(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let second = push_second(&world, &served).await;
    let refs = on_disk(&world, &served.repository).join("packed-refs");
    let of_second = std::fs::read_to_string(&refs).unwrap();
    assert!(of_second.contains(&second), "{of_second}");

    std::fs::write(&refs, of_second.replace(&second, &served.commit)).unwrap();

    let restored = Instant::now();
    // The first reader may still see them, and has the repository reconciled.
    eventually("the refs are those of the state", async || {
        served.refs().await == main_at(&second)
    })
    .await;
    took("from refs that went back to those of the state", restored);
}

/// The whole data directory, which may be a mount that has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_goes_is_not_made_anew_and_all_goes_on_when_it_is_back() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let second = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
    assert_eq!(world.nostr().await.send(&state).await, held());
    let (data, away) = (world.folder().join("data"), world.folder().join("away"));
    std::fs::rename(&data, &away).unwrap();

    assert_missing(&world, &served, "cannot decide, will try again").await;
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains("the push cannot be stored on this server"), "{said}");
    assert!(!data.exists(), "nothing is written where it was");
    std::fs::rename(&away, &data).unwrap();

    let back = Instant::now();
    assert_eq!(served.refs().await, main_at(&served.commit));
    served.git.push(&served.url, &["main"]).await.expect_ok();
    took("from the return of the data directory to a push that succeeds", back);
    let mut relay = NostrClient::connect(&world.relay_url()).await;
    assert!(relay.serves(&state).await);

    // Gone for good: a start makes it anew, and every repository is pushed again.
    world.kill_gateway().await;
    std::fs::remove_dir_all(&data).unwrap();
    world.start_gateway().await;
    assert_missing(&world, &served, MISSING).await;
    assert_healed_by_a_push(&served, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_made_ends_the_start_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::write(&data, "a file").unwrap();
    let gateway = tests::harness::process::program("grasp-gateway").display().to_string();
    let command = format!(
        "{gateway} serve --bind=127.0.0.1:0 --data-dir={} 2>&1 || echo ended",
        data.display()
    );

    let said = tests::harness::process::shell(&command, "").await;

    assert!(
        said.contains("cannot use the data directory") && said.ends_with("ended\n"),
        "{said}"
    );
    assert!(said.contains(&data.display().to_string()), "{said}");
}

async fn refs_that_cannot_be_set_are_set_as_soon_as_they_can(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let tip = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &tip)]);
    assert_eq!(nostr.send(&state).await, held());
    let before = served.refs().await;
    let refs = HeldRefs::of(&on_disk(&world, &served.repository));

    let said = served.git.push(&served.url, &["main"]).await.expect_refused();

    assert!(
        said.contains("not set yet: the repository cannot be changed right now"),
        "{said}"
    );
    assert_eq!(served.refs().await, before);
    assert!(!nostr.serves(&state).await);
    drop(refs);
    let freed = Instant::now();
    eventually("the state is served", async || nostr.serves(&state).await).await;
    took("from refs that can be set to the release", freed);
    assert_eq!(served.refs().await, main_at(&tip));
}

/// An earlier gateway was killed while it exchanged packs, and what it noted cannot be read.
async fn a_push_is_refused_while_a_change_cannot_be_finished_and_taken_afterwards(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let tip = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &tip)]);
    assert_eq!(nostr.send(&state).await, held());
    let before = served.refs().await;
    // In the place of a file.
    let note = on_disk(&world, &served.repository).join("objects/info/changing-packs");
    std::fs::create_dir_all(&note).unwrap();

    let said = served.git.push(&served.url, &["main"]).await.expect_refused();

    assert!(
        said.contains("the repository cannot be read or changed right now"),
        "{said}"
    );
    assert_eq!(served.refs().await, before);
    assert!(!nostr.serves(&state).await);
    std::fs::remove_dir(&note).unwrap();
    eventually("a push is taken", async || {
        served.git.push(&served.url, &["main"]).await.ok
    })
    .await;
    assert_eq!(served.refs().await, main_at(&tip));
    eventually("the state is served", async || nostr.serves(&state).await).await;
}

/// Kills the next run of a subcommand of git.
async fn kill_run(wrapper: &GitWrapper, subcommand: &str, moment: GitMoment) {
    let run = tokio::time::timeout(Duration::from_secs(60), wrapper.run_of(subcommand, moment)).await;
    let run = run.expect("it runs");
    signal("KILL", &format!("-{}", run.pid));
}

async fn a_git_that_is_killed_in_a_push_costs_that_push_at_most(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let wrapper = wrap_git(&mut world).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    for (round, moment) in [GitMoment::Before, GitMoment::After].into_iter().enumerate() {
        let tip = served.git.commit(&format!("round-{round}")).await;
        let state = served
            .repository
            .state(now() + round as u64, &[("refs/heads/main", &tip)]);
        let mut nostr = world.nostr().await;
        assert_eq!(nostr.send(&state).await, held());
        let before = served.refs().await;
        // One that was made ready for the push before would take this one's pack.
        eventually("no git waits for a push", async || in_quarantine(&world) == 0).await;

        let push = served.git.push(&served.url, &["main"]);
        let (said, ()) = tokio::join!(push, kill_run(&wrapper, "index-pack", moment));

        heard(&format!("a push, index-pack killed, {moment:?}"), &said.stderr);
        let died = Instant::now();
        // One that died while it waited for the pack is replaced by another.
        if !said.ok {
            let text = "the check of the pack was killed: push again";
            assert!(said.stderr.contains(text), "{moment:?}: {}", said.stderr);
            assert_eq!(served.refs().await, before, "{moment:?}");
            served.git.push(&served.url, &["main"]).await.expect_ok();
        }
        eventually("the state is served", async || nostr.serves(&state).await).await;
        took(&format!("from a killed index-pack, {moment:?}, to the release"), died);
        assert_eq!(served.refs().await, main_at(&tip), "{moment:?}");
        served.git.push(&served.url, &["main"]).await.expect_ok();
    }
    eventually("nothing is left of them", async || in_quarantine(&world) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_directory_that_is_removed_costs_nothing() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let folder = world.folder().join("gone");
    std::fs::create_dir(&folder).unwrap();
    let script = "cd \"$0\" && rmdir \"$0\" && exec \"$@\"";
    let launcher = ["/bin/sh", "-c", script, folder.to_str().unwrap()].map(str::to_owned);
    let detour = Detour {
        launcher: launcher.into(),
        ..Detour::default()
    };
    world.send_gateway_round(detour).await;

    let served = Served::new(&world, &mut world.nostr().await, "r").await;

    assert!(!folder.exists());
    assert_eq!(served.refs().await, main_at(&served.commit));
}

async fn a_git_that_is_killed_in_a_clone_costs_that_clone(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let wrapper = wrap_git(&mut world).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let arguments = ["clone", &served.url, "killed"];

    let clone = served.git.run(&arguments);
    let (said, ()) = tokio::join!(clone, kill_run(&wrapper, "upload-pack", GitMoment::Before));

    heard("a clone, upload-pack killed", &said.stderr);
    assert!(!said.ok, "{}", said.stderr);
    wrapper.disarm();
    let clone = world.clone(&served.repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, served.commit);
}
