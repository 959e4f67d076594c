//! A disk without room, a real one: the data directory is a file system in memory of a few MiB, mounted for the gateway
//! alone. That takes unprivileged user namespaces, or root.

use std::path::PathBuf;

use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::noise::noise;

use crate::fixture::Served;
use crate::fixture::held;

/// Starts the gateway anew, on an empty data directory of so many bytes. Returns where the test sees it.
async fn small_disk(world: &mut World) -> PathBuf {
    let data = world.folder().join("data");
    let script = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$0\" && exec \"$@\"");
    let launcher = [
        "/usr/bin/unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "/bin/sh",
        "-c",
        &script,
    ];
    let mut launcher: Vec<String> = launcher.map(str::to_owned).into();
    launcher.push(data.display().to_string());
    let detour = Detour {
        launcher,
        ..Detour::default()
    };
    world.send_gateway_round(detour).await;
    let root = format!("/proc/{}/root", world.gateway_id());
    PathBuf::from(root).join(data.strip_prefix("/").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_finds_no_room_says_so_and_changes_nothing_and_the_next_one_goes_through() {
    let options = Options {
        gateway: &["--disk-free-min=1"],
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let data = small_disk(&mut world).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let mut relay = NostrClient::connect(&world.relay_url()).await;
    let before = served.refs().await;

    // It fills the disk on its way.
    let large = served.git.commit_file("large", &noise(1, 2 * DISK_BYTES)).await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &large)]);
    assert_eq!(relay.send(&state).await, held());
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains("the server's disk is full"), "{said}");
    assert_eq!(served.refs().await, before);
    let in_quarantine = || {
        let entries = std::fs::read_dir(data.join("quarantine")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    };
    eventually("nothing is left of it", async || in_quarantine() == 0).await;

    // It is full before.
    served
        .git
        .run(&["reset", "--quiet", "--hard", &served.commit])
        .await
        .expect_ok();
    let small = served.git.commit("small").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &small)]);
    assert_eq!(relay.send(&state).await, held());
    let filler = data.join("filler");
    std::fs::write(&filler, noise(2, 2 * DISK_BYTES)).expect_err("it does not fit");
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains("the server's disk is full"), "{said}");
    assert_eq!(served.refs().await, before);
    assert!(!relay.serves(&state).await);

    std::fs::remove_file(&filler).unwrap();
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(relay.serves(&state).await);
    assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), small)]);
}

const DISK_BYTES: usize = 6 << 20;
