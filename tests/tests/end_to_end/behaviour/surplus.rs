//! What a client packs besides what it declares stays outside, where nobody can fetch it.

use std::time::Duration;
use std::time::Instant;

use nostr::event::EventId;
use nostr::key::Keys;
use tests::clients::http;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    a_push_of_branches_brings_what_its_state_declares_and_no_more,
    a_large_push_of_branches_does_too,
    a_pull_request_brings_its_commit_and_no_more,
    commits_of_one_push_stand_on_the_disk_once,
    a_commit_whose_objects_never_came_is_not_tried_again_at_once,
    a_commit_that_cannot_move_in_is_not_tried_again_at_once,
);

/// Pushes these commands with a pack of these commits, as no git client would; returns the report.
async fn push_packed(world: &World, served: &Served, commands: &[(String, &str, &str)], packed: &[&str]) -> String {
    let revs = packed.join("\\n");
    let alias = format!("alias.p=!printf '{revs}\\n' | git pack-objects --revs --stdout --quiet > by-hand.pack");
    served.git.run(&["-c", &alias, "p"]).await.expect_ok();
    let folder = world.folder().join(format!("work-{}", served.repository.npub()));
    let pack = std::fs::read(folder.join("by-hand.pack")).unwrap();
    let mut body = Vec::new();
    for (place, (name, old, new)) in commands.iter().enumerate() {
        let capabilities = if place == 0 { "\0report-status" } else { "" };
        let line = format!("{old} {new} {name}{capabilities}\n");
        body.extend(format!("{:04x}{line}", line.len() + 4).bytes());
    }
    body.extend(b"0000");
    body.extend(pack);
    let head = format!(
        "POST /{}/r.git/git-receive-pack HTTP/1.1\r\ncontent-type: application/x-git-receive-pack-request\r\n\
         content-length: {}\r\n",
        served.repository.npub(),
        body.len()
    );
    http::request(&world.authority(), &head, &body).await.text()
}

/// Whether anybody can fetch an object by its id.
async fn can_fetch(world: &World, served: &Served, oid: &str) -> bool {
    let reader = world.git(&format!("reader-{}", &oid[..8])).await;
    reader.run(&["fetch", "--quiet", &served.url, oid]).await.ok
}

const NONE: &str = "0000000000000000000000000000000000000000";

async fn a_push_of_branches_brings_what_its_state_declares_and_no_more(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let second = served.git.commit("two").await;
    served
        .git
        .run(&["checkout", "--quiet", "--orphan", "hidden"])
        .await
        .expect_ok();
    let hidden = served.git.commit("hidden").await;
    let state = served.repository.state(now() - 5, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());

    let commands = [("refs/heads/main".to_owned(), served.commit.as_str(), second.as_str())];
    let said = push_packed(&world, &served, &commands, &[&second, &hidden]).await;

    assert!(said.contains("ok refs/heads/main"), "{said}");
    assert!(nostr.serves(&state).await);
    assert!(can_fetch(&world, &served, &second).await);
    assert!(!can_fetch(&world, &served, &hidden).await);
}

/// More objects than the gateway walks by itself.
async fn a_large_push_of_branches_does_too(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let many = "alias.m=!mkdir many && cd many && seq 11000 | split -l 1 -a 4";
    served.git.run(&["-c", many, "m"]).await.expect_ok();
    served.git.run(&["add", "many"]).await.expect_ok();
    let second = served.git.commit("two").await;
    served
        .git
        .run(&["checkout", "--quiet", "--orphan", "hidden"])
        .await
        .expect_ok();
    let hidden = served.git.commit("hidden").await;
    let state = served.repository.state(now() - 5, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&state).await, held());

    let commands = [("refs/heads/main".to_owned(), served.commit.as_str(), second.as_str())];
    let said = push_packed(&world, &served, &commands, &[&second, &hidden]).await;

    assert!(said.contains("ok refs/heads/main"), "{said}");
    assert!(can_fetch(&world, &served, &second).await);
    assert!(!can_fetch(&world, &served, &hidden).await);
}

async fn a_pull_request_brings_its_commit_and_no_more(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let hidden = served.git.commit("hidden").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    assert_eq!(nostr.send(&event).await, held());

    let commands = [(format!("refs/nostr/{}", event.id), NONE, offered.as_str())];
    let said = push_packed(&world, &served, &commands, &[&offered, &hidden]).await;

    assert!(said.contains("ok refs/nostr/"), "{said}");
    assert!(nostr.serves(&event).await);
    assert!(can_fetch(&world, &served, &offered).await);
    assert!(!can_fetch(&world, &served, &hidden).await);
}

/// 32 refs of a pack of 15 MB took 459 MiB.
async fn commits_of_one_push_stand_on_the_disk_once(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let noise: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    let offered = served.git.commit_file("noise", &noise).await;
    let events: Vec<_> = (0..32)
        .map(|_| served.repository.pull_request(&Keys::generate(), &offered))
        .collect();
    let refspecs: Vec<String> = events
        .iter()
        .map(|event| format!("{offered}:refs/nostr/{}", event.id))
        .collect();
    let refspecs: Vec<&str> = refspecs.iter().map(String::as_str).collect();

    served.git.push(&served.url, &refspecs).await.expect_ok();

    let staged = world.folder().join("data/staging");
    let said = served
        .git
        .run(&["-c", &format!("alias.d=!du -sk {}", staged.display()), "d"])
        .await
        .expect_ok();
    let kilobytes: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
    assert!((1000..8000).contains(&kilobytes), "{said}");
    assert_eq!(nostr.send(&events[7]).await, held());
    eventually("one moves in", async || nostr.serves(&events[7]).await).await;
    assert!(can_fetch(&world, &served, &offered).await);
}

/// A push that found no room on the disk left the directory of a commit without its objects. Each attempt to set the
/// ref marked the repository, whose reconcile had all its PRs tried again, as long as the event was held. The soak
/// found it.
async fn a_commit_whose_objects_never_came_is_not_tried_again_at_once(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let [other, offered] = [served.git.commit("other").await, served.git.commit("offer").await];
    let [of_other, event] = [&other, &offered].map(|oid| served.repository.pull_request(&Keys::generate(), oid));
    let push = async |oid: &str, id: &EventId| {
        let refspec = format!("{oid}:refs/nostr/{id}");
        served.git.push(&served.url, &[&refspec]).await.expect_ok();
    };
    push(&other, &of_other.id).await;
    let owner = served.repository.owner.public_key().to_hex();
    let staged = world.folder().join("data/staging/r").join(owner);
    std::fs::create_dir_all(staged.join(event.id.to_hex()).join(&offered).join("pack")).unwrap();
    let attempts = || {
        let log = world.gateway_log();
        log.matches("cannot sort the commit of a PR").count()
    };

    assert_eq!(nostr.send(&event).await, held());

    eventually("it was tried", async || attempts() > 0).await;
    for name in ["a", "b", "c"] {
        Served::new(&world, &mut nostr, name).await;
    }
    assert!(attempts() <= 2, "{} attempts", attempts());
    push(&offered, &event.id).await;
    eventually("it is served", async || nostr.serves(&event).await).await;
}

/// Likewise where its objects are here and cannot move in: on a disk that is full, for one.
async fn a_commit_that_cannot_move_in_is_not_tried_again_at_once(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let offered = served.git.commit("offer").await;
    let event = served.repository.pull_request(&Keys::generate(), &offered);
    let refspec = format!("{offered}:refs/nostr/{}", event.id);
    served.git.push(&served.url, &[&refspec]).await.expect_ok();
    let owner = served.repository.owner.public_key().to_hex();
    let staged = world.folder().join("data/staging/r").join(owner);
    let staged = staged.join(event.id.to_hex()).join(&offered).join("pack");
    let name = std::fs::read_dir(staged)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let name = name
        .max_by_key(|name| name.to_string_lossy().ends_with(".pack"))
        .unwrap();
    let in_the_way = world.repository_dir(&served.repository).join("objects/pack").join(name);
    std::fs::create_dir(&in_the_way).unwrap();
    let attempts = || {
        let log = world.gateway_log();
        log.matches("cannot set the ref of a PR").count()
    };

    assert_eq!(nostr.send(&event).await, held());

    eventually("it was tried", async || attempts() > 0).await;
    let first = Instant::now();
    eventually("it was tried again", async || attempts() > 3).await;
    // One second, two, and four.
    assert!(first.elapsed() > Duration::from_secs(5), "{:?}", first.elapsed());
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("it is served", async || nostr.serves(&event).await).await;
}
