//! With very much on disk or held: nobody waits until all of it has been visited, and nothing costs more.
//! `scripts/scale` measures it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use nostr::event::Event;
use nostr::key::Keys;
use shared::nip34;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::shell;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::scale::disk::COORDINATE_FILE;
use tests::load::scale::disk::lay_out;
use tests::load::scale::disk::repositories;
use tests::load::scale::held;

use crate::fixture::Served;
use crate::fixture::in_both_worlds;

in_both_worlds!(a_disk_that_does_not_answer_keeps_nobody_waiting_at_the_start);

async fn a_disk_that_does_not_answer_keeps_nobody_waiting_at_the_start(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    world.kill_gateway().await;
    let others = repositories(3, 3);
    lay_out(&world, &served.repository, &others);
    // Whoever reads it waits until somebody writes it.
    let stuck = path(&world, &others[1]).join(COORDINATE_FILE);
    std::fs::remove_file(&stuck).unwrap();
    shell(&format!("mkfifo {}", stuck.display()), "").await;

    world.start_gateway().await;

    assert!(world.clone(&served.repository, "reader").await.is_some());
    let mut nostr = world.nostr().await;
    let second = Served::new(&world, &mut nostr, "second").await;
    assert!(nostr.serves(&second.state).await);
    // When the disk answers, all of it is visited: nobody announces them.
    let coordinate = format!("{}\n", others[1].coordinate());
    let answer = move || {
        let mut pipe = File::options().write(true).open(&stuck).unwrap();
        let whole = stuck.with_extension("whole");
        std::fs::write(&whole, &coordinate).unwrap();
        std::fs::rename(whole, stuck).unwrap();
        pipe.write_all(coordinate.as_bytes()).unwrap();
    };
    tokio::task::spawn_blocking(answer).await.unwrap();
    for repository in &others {
        let note = path(&world, repository).join("grasp-unhosted-since");
        eventually("all are visited", async || note.exists()).await;
    }
}

/// What is dirty is reconciled in the order of its marks.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_waits_behind_few_of_those_that_are_re_checked() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    world.kill_gateway().await;
    let others = repositories(150, 10);
    lay_out(&world, &served.repository, &others);

    world.start_gateway().await;

    let mut most_dirty = 0;
    for repository in &others {
        let note = path(&world, repository).join("grasp-unhosted-since");
        eventually("all are visited", async || {
            most_dirty = dirty(&mut world).await.max(most_dirty);
            note.exists()
        })
        .await;
    }
    assert!((1..=8).contains(&most_dirty), "{most_dirty}");

    // Nor behind what is marked because Redis has lost something.
    world.redis().ask::<()>(&["FLUSHALL"]).await;
    most_dirty = 0;
    eventually("what was lost is made up for", async || {
        most_dirty = dirty(&mut world).await.max(most_dirty);
        let log = world.gateway_log();
        let lost = log.find("Redis has lost all held events");
        lost.is_some_and(|lost| log[lost..].contains("restored what this gateway knew"))
    })
    .await;
    assert!((1..=40).contains(&most_dirty), "{most_dirty}");
}

/// Anybody can publish as many events of one second as he likes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_has_of_one_second_stops_neither_a_recovery_nor_what_follows_the_relay() {
    let mut world = World::start(Kind::Strfry, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = now() - 60;
    world.import_all(&announcements(1001, second)).await;
    world.kill_gateway().await;
    world.redis().ask::<()>(&["FLUSHALL"]).await;

    world.start_gateway().await;

    eventually("what was lost is made up for", async || {
        world.gateway_log().matches("restored what this gateway knew").count() == 2
    })
    .await;
    let more = [("refs/heads/main", &*served.commit), ("refs/heads/dev", &served.commit)];
    world.import(&served.repository.state(now() - 10, &more)).await;
    // Not asked of a reader, who would see to it himself.
    let repository = path(&world, &served.repository);
    eventually("the relay is followed", async || {
        let packed = std::fs::read_to_string(repository.join("packed-refs")).unwrap_or_default();
        packed.contains("refs/heads/dev") || repository.join("refs/heads/dev").exists()
    })
    .await;
}

/// The short form of what `scripts/scale` measures: in steps of Redis, not in time.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_costs_the_next_event_and_push_nothing() {
    let mut world = World::start(Kind::Strfry, held::OPTIONS).await;
    held::fill(&mut world, HELD).await;
    let mut nostr = world.nostr().await;
    world.redis().ask::<()>(&["CONFIG", "RESETSTAT"]).await;

    held::one(&world, &mut nostr, 0).await;

    // What scripts call counts too. The worker's own steps, twice a second, are a few dozen.
    let stats: String = world.redis().ask(&["INFO", "commandstats"]).await;
    let calls = stats.lines().filter_map(|line| {
        let (_, values) = line.split_once(":calls=")?;
        values.split(',').next()?.parse::<usize>().ok()
    });
    let calls: usize = calls.sum();
    assert!(calls < HELD / 2, "{calls}:\n{stats}");
}

/// Returns announcements of one second that name another server, each by a key of its own.
fn announcements(count: usize, created_at: u64) -> Vec<Event> {
    let tags = [
        tag(&["d", "elsewhere"]),
        tag(&["clone", "https://elsewhere.example/x/elsewhere.git"]),
        tag(&["relays", "wss://elsewhere.example"]),
    ];
    let keys = (0..count).map(|_| Keys::generate());
    keys.map(|keys| sign(&keys, nip34::ANNOUNCEMENT, created_at, &tags))
        .collect()
}

async fn dirty(world: &mut World) -> usize {
    world.redis().ask(&["ZCARD", "{purgatory}:dirty"]).await
}

fn path(world: &World, repository: &Repository) -> PathBuf {
    let owner = repository.owner.public_key().to_hex();
    world
        .repositories()
        .join(owner)
        .join(format!("{}.git", repository.identifier))
}

const HELD: usize = 4000;
