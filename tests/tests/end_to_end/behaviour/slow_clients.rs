//! Clients that send or read as slowly as they can: they wait for themselves, and nobody waits for them.

use std::fs::File;
use std::time::Duration;

use tests::clients::http;
use tests::clients::nostr::now;
use tests::clients::slow::Stranger;
use tests::clients::slow::has_begun;
use tests::clients::slow::rest;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::noise::noise;
use tests::load::process_memory::resident_kib;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wire::path::repository_path;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::in_quarantine;

in_both_worlds!(
    pushes_that_come_slowly_keep_nobody_waiting,
    a_push_that_is_too_slow_is_told_so,
    clones_that_are_read_slowly_keep_nobody_waiting,
    clones_that_find_no_room_on_disk_keep_nobody_waiting,
    pushes_that_wait_for_a_lock_give_way_to_others,
);

/// Pushes something new and clones it; whoever else is there, both succeed.
async fn push_and_clone(world: &World, served: &Served, name: &str) {
    let mut nostr = world.nostr().await;
    let commit = served.git.commit_file(name, &noise(7, 300_000)).await;
    let state = served.repository.state(now() - 10, &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    let cloned = world.clone(&served.repository, name).await.expect("it is cloned");
    assert_eq!(cloned.rev_parse("HEAD").await, commit);
}

async fn pushes_that_come_slowly_keep_nobody_waiting(kind: Kind) {
    let options = Options {
        gateway: &["--uploads-max=2", "--transfers-max=8", "--upload-wait-secs=5"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let stranger = Stranger::of(&served.url);
    let mut slow = JoinSet::new();
    // One more than may be received.
    for _ in 0..9 {
        slow.spawn(rest(stranger.begin_push().await));
    }

    push_and_clone(&world, &served, "beside").await;

    let given_way = slow.join_next().await.expect("they are read").unwrap();
    let answer = String::from_utf8_lossy(&given_way);
    assert!(answer.contains("your address has most of them"), "{answer}");
    let given_way = std::iter::from_fn(|| slow.try_join_next()).count();
    assert!(
        given_way <= 1,
        "the others are received, but for one that gave way to the push"
    );
    drop(slow);
    eventually("nothing is left of them", async || in_quarantine(&world) == 0).await;
}

async fn a_push_that_is_too_slow_is_told_so(kind: Kind) {
    let options = Options {
        gateway: &["--transfer-grace-secs=1"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;

    let answer = rest(Stranger::of(&served.url).begin_push().await).await;

    let answer = String::from_utf8_lossy(&answer);
    let expected = "the push was not received: slower than 4096 bytes a second for 1 s";
    assert!(answer.contains(expected), "{answer}");
    assert_eq!(in_quarantine(&world), 0);
}

/// Each kept its objects for five minutes, even when its client had gone, and there was no limit to their number.
async fn pushes_that_wait_for_a_lock_give_way_to_others(kind: Kind) {
    let options = Options {
        gateway: &["--transfers-max=3"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let locked = Served::new(&world, &mut nostr, "locked").await;
    // As if another gateway had it.
    let files = std::fs::read_dir(world.folder().join("data/locks")).unwrap();
    let held: Vec<File> = files.map(|file| File::open(file.unwrap().path()).unwrap()).collect();
    for file in &held {
        file.lock().unwrap();
    }
    let other = Served::new(&world, &mut nostr, "other").await;
    let stranger = Stranger::of(&locked.url);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(stranger.push_known(&locked.commit).await);
    }
    eventually("they wait", async || in_quarantine(&world) == 3).await;
    drop(waiting);

    let one_more = rest(stranger.push_known(&locked.commit).await);
    let one_more = tokio::time::timeout(Duration::from_secs(20), one_more).await;
    push_and_clone(&world, &other, "beside").await;

    let one_more = String::from_utf8_lossy(&one_more.expect("it is refused at once")).into_owned();
    assert!(one_more.contains("your address has most of them"), "{one_more}");
    eventually("one has given way", async || in_quarantine(&world) == 2).await;
    drop(held);
    eventually("the others are done", async || in_quarantine(&world) == 0).await;
}

/// Commands of pushes that were refused, and whose clients did not end them, took 13 MB each.
#[tokio::test]
async fn long_lists_of_commands_take_little_memory() {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        ..Options::default()
    };
    let world = World::start(Kind::Embedded, options).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let admin = world.admin_authority().await;
    let refused = async |reason: &str| {
        let metrics = http::request(&admin, "GET /metrics HTTP/1.1\r\n", b"").await.text();
        let name = format!("grasp_pushes_refused_total{{reason=\"{reason}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
        count.unwrap_or(0)
    };
    let stranger = Stranger::of(&served.url);
    let before = resident_kib(world.gateway_id());
    let mut slow = Vec::new();
    for number in 1..=LONG_LISTS {
        slow.push(stranger.begin_long_push().await);
        eventually("it is read", async || {
            refused("rules").await + refused("limit").await == number
        })
        .await;
    }

    let more = resident_kib(world.gateway_id()).saturating_sub(before) >> 10;
    assert!(more < LISTS_MIB_MAX, "{more} MiB");
    assert!(refused("limit").await > 0, "not all had room");
    push_and_clone(&world, &served, "beside").await;
}

/// A served repository whose clone is larger than what systems keep for sockets.
async fn large(world: &World) -> (Served, String) {
    let mut nostr = world.nostr().await;
    let served = Served::new(world, &mut nostr, "large").await;
    let mut commit = served.commit.clone();
    for part in 1..=PARTS {
        let content = noise(part, PART_BYTES);
        commit = served.git.commit_file(&format!("part {part}"), &content).await;
        let state = served
            .repository
            .state(now() - 60 + part, &[("refs/heads/main", &commit)]);
        assert_eq!(nostr.send(&state).await, held());
        served.git.push(&served.url, &["main"]).await.expect_ok();
    }
    (served, commit)
}

async fn begin_clones(served: &Served, commit: &str, count: usize) -> Vec<TcpStream> {
    let stranger = Stranger::of(&served.url);
    let mut slow = Vec::new();
    for _ in 0..count {
        let clone = stranger.begin_clone(commit).await;
        has_begun(&clone).await;
        slow.push(clone);
    }
    slow
}

async fn clones_that_are_read_slowly_keep_nobody_waiting(kind: Kind) {
    let options = Options {
        gateway: &["--fetches-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let (served, commit) = large(&world).await;
    let mut slow = begin_clones(&served, &commit, 6).await;

    push_and_clone(&world, &served, "beside").await;

    let late = rest(slow.remove(0)).await;
    assert!(
        late.len() > 4 * PART_BYTES && late.ends_with(b"0000\r\n0\r\n\r\n"),
        "{}",
        late.len()
    );
}

async fn clones_that_find_no_room_on_disk_keep_nobody_waiting(kind: Kind) {
    let options = Options {
        gateway: &["--fetches-max=1", "--spool-bytes-max=4MiB", "--fetch-cache-bytes-max=1"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let (served, commit) = large(&world).await;
    let _slow = begin_clones(&served, &commit, 3).await;

    push_and_clone(&world, &served, "beside").await;
}

/// 7 MB for each connection, where there are 100,000 refs.
#[tokio::test]
async fn refs_that_nobody_reads_take_little_memory() {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    add_refs(&world, &served, LISTED_REFS).await;
    let stranger = Stranger::of(&served.url);
    let before = resident_kib(world.gateway_id());
    let mut slow = Vec::new();
    for number in 0..LISTINGS {
        // Each another request.
        let prefix = format!("ref-prefix refs/{number}");
        let arguments = ["peel", "ref-prefix refs/imported/", &prefix];
        slow.extend([
            stranger.begin_ls_refs(&arguments).await,
            stranger.begin_info_refs().await,
        ]);
    }

    for listing in &slow {
        has_begun(listing).await;
    }
    let more = (resident_kib(world.gateway_id()).saturating_sub(before) << 10) as usize;

    let bytes = slow.len() * LISTED_REFS * LISTED_REF_BYTES;
    assert!(more < bytes / 2, "{more} bytes of memory for {bytes} of answers");
    push_and_clone(&world, &served, "beside").await;
    let late = rest(slow.remove(0)).await;
    assert!(late.len() > LISTED_REFS * LISTED_REF_BYTES && late.ends_with(b"0000\r\n0\r\n\r\n"));
}

/// The refs of a push came from memory once, and not from the room that strangers' fetches fill.
#[tokio::test]
async fn a_push_to_many_refs_needs_no_room_for_fetches() {
    let options = Options {
        gateway: &["--transfers-max=1", "--admin-bind=127.0.0.1:0"],
        ..Options::default()
    };
    let world = World::start(Kind::Embedded, options).await;
    let (served, commit) = large(&world).await;
    add_refs(&world, &served, 2_000).await;
    let offered = async |service: &str, version: &str| {
        let path = repository_path(&served.repository.coordinate());
        let head =
            format!("GET {path}/info/refs?service=git-{service} HTTP/1.1\r\nGit-Protocol: version={version}\r\n");
        http::request(&world.authority(), &head, b"").await
    };
    let with_room = offered("receive-pack", "0").await;
    let _slow = begin_clones(&served, &commit, 1).await;

    let without = offered("receive-pack", "0").await;

    for answer in [&with_room, &without] {
        let (head, refs) = (answer.head(), answer.body());
        assert_eq!(
            (answer.status, refs.len() > 2_000 * LISTED_REF_BYTES),
            (200, true),
            "{head}"
        );
        assert!(head.contains(&format!("content-length: {}\r\n", refs.len())), "{head}");
    }
    assert_eq!(with_room.body(), without.body());
    let refused = [offered("upload-pack", "0").await, offered("receive-pack", "1").await];
    assert_eq!(refused.map(|answer| answer.status), [503, 503], "there is no room");
    let metrics = http::request(&world.admin_authority().await, "GET /metrics HTTP/1.1\r\n", b"").await;
    for counted in [
        "grasp_fetches_total{outcome=\"busy\"} 1",
        "grasp_pushes_refused_total{reason=\"limit\"} 1",
    ] {
        assert!(
            metrics.text().lines().any(|line| line == counted),
            "{counted}: {}",
            metrics.text()
        );
    }
}

/// Writes refs into a repository of the server: a state declares a few thousand at most.
async fn add_refs(world: &World, served: &Served, count: usize) {
    let name = "long/".repeat(LISTED_REF_BYTES / 5);
    let refs = (0..count).map(|number| format!("{} refs/imported/{name}{number:06}\n", served.commit));
    let packed = world.repository_dir(&served.repository).join("packed-refs");
    let header = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    std::fs::write(packed, std::iter::once(header).chain(refs).collect::<String>()).unwrap();
    let path = format!(
        "{}/info/refs?service=git-upload-pack",
        repository_path(&served.repository.coordinate())
    );
    eventually("all refs are shown", async || {
        world.get(&path, "").await.1.len() > count * LISTED_REF_BYTES
    })
    .await;
}

const LONG_LISTS: u64 = 16;
/// 64 MiB for lists that count, and as much again for what the allocator keeps and for the one that is read.
const LISTS_MIB_MAX: u64 = 128;
const LISTINGS: usize = 30;
const LISTED_REFS: usize = 10_000;
const LISTED_REF_BYTES: usize = 180;
const PARTS: u64 = 4;
const PART_BYTES: usize = 3 << 20;
