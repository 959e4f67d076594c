//! What may be held and what may go on at the same time, as the operator says.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::tag;
use tests::faults::git_wrapper::GitMoment;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::Process;
use tests::harness::process::program;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::flood::Flood;
use tests::load::push_memory::GROWTH_KIB_MAX;
use tests::load::push_memory::PushMemory;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::wrap_git;

in_both_worlds!(
    an_author_holds_as_many_events_as_the_operator_says,
    one_address_announces_so_many_new_repositories_and_goes_on_with_those_it_has,
    a_push_that_waits_too_long_for_its_turn_is_refused,
    websockets_are_as_many_as_the_operator_says,
    websockets_count_for_their_address,
    websockets_of_one_address_give_way_to_others,
);

async fn an_author_holds_as_many_events_as_the_operator_says(kind: Kind) {
    let options = Options {
        held: &["--held-per-author-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let first = Repository::new("first");
    let of_the_same = |identifier: &str| Repository {
        identifier: identifier.to_owned(),
        ..first.clone()
    };
    for repository in [&first, &of_the_same("second")] {
        assert_eq!(nostr.send(&world.announcement(repository, now(), &[])).await, held());
    }

    let third = nostr.send(&world.announcement(&of_the_same("third"), now(), &[])).await;
    let anothers = nostr
        .send(&world.announcement(&Repository::new("third"), now(), &[]))
        .await;

    let refused = "restricted: too many events of this author wait for git data";
    assert!(!third.taken && third.message.starts_with(refused), "{third:?}");
    assert_eq!(anothers, held());
}

/// A stranger.
const OTHER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

async fn one_address_announces_so_many_new_repositories_and_goes_on_with_those_it_has(kind: Kind) {
    let options = Options {
        held: &["--new-repositories-per-source-and-day-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "first").await;
    let second = world.announcement(&Repository::new("second"), now(), &[]);
    assert_eq!(nostr.send(&second).await, held());

    let third = world.announcement(&Repository::new("third"), now(), &[]);
    let refused = nostr.send(&third).await;

    let text = "restricted: too many new repositories have been announced from this address; announce others in the \
                course of the next day";
    assert!(!refused.taken && refused.message == text, "{refused:?}");
    assert_eq!(nostr.send(&second).await, held(), "it is here already");
    let renamed = world.announcement(&served.repository, now() + 1, &[tag(&["name", "renamed"])]);
    assert!(nostr.send(&renamed).await.taken, "it is served already");
    let commit = served.git.commit("two").await;
    let state = served.repository.state(now() + 1, &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    let mut other = NostrClient::connect_from(OTHER_ADDRESS, &world.authority(), &[]).await;
    assert_eq!(other.send(&third).await, held(), "it comes from another address");
}

async fn a_push_that_waits_too_long_for_its_turn_is_refused(kind: Kind) {
    let options = Options {
        gateway: &["--uploads-max=1", "--upload-wait-secs=1"],
        ..Options::default()
    };
    let mut world = World::start(kind, options).await;
    let wrapper = wrap_git(&mut world).await;
    let mut nostr = world.nostr().await;
    let (slow, quick) = (
        Served::new(&world, &mut nostr, "slow").await,
        Served::new(&world, &mut nostr, "quick").await,
    );
    for served in [&slow, &quick] {
        let commit = served.git.commit("two").await;
        let state = served.repository.state(now(), &[("refs/heads/main", &commit)]);
        assert_eq!(nostr.send(&state).await, held());
    }

    let first = slow.git.push(&slow.url, &["main"]);
    let second = async {
        let check = wrapper.run_of("index-pack", GitMoment::Before).await;
        let refused = quick.git.push(&quick.url, &["main"]).await.expect_refused();
        drop(check);
        refused
    };
    let (first, refused) = tokio::join!(first, second);

    first.expect_ok();
    assert!(
        refused.contains("too many pushes at the same time, push again later"),
        "{refused}"
    );
    quick.git.push(&quick.url, &["main"]).await.expect_ok();
}

/// The short form of `scripts/push-memory`.
#[tokio::test(flavor = "multi_thread")]
async fn many_pushes_at_the_same_time_take_little_memory_of_the_gateway() {
    let world = World::start(Kind::Strfry, Options::default()).await;

    let measured = PushMemory::measure(&world, 8, 12_000_000).await;

    assert!(measured.growth_kib() <= GROWTH_KIB_MAX, "{measured:?}");
}

const WEBSOCKET: &str = "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

async fn websockets_are_as_many_as_the_operator_says(kind: Kind) {
    let options = Options {
        gateway: &["--websockets-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let (first, _second) = (world.nostr().await, world.nostr().await);

    let (status, answer) = world.upgrade(WEBSOCKET).await;
    let (page, _) = world.get("/", "").await;

    assert_eq!((status, page), (503, 200), "{answer}");
    drop(first);
    eventually("the place is free again", async || {
        world.upgrade(WEBSOCKET).await.0 == 101
    })
    .await;
}

async fn websockets_count_for_their_address(kind: Kind) {
    let options = Options {
        gateway: &["--connections-per-address-max=2"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let (first, _second) = (world.nostr().await, world.nostr().await);

    let (status, _) = world.get("/", "").await;

    assert_eq!(status, 429);
    drop(first);
    eventually("the place is free again", async || world.get("/", "").await.0 == 200).await;
}

/// One address opened as many as there may be, and nobody else's could be opened any more.
async fn websockets_of_one_address_give_way_to_others(kind: Kind) {
    let options = Options {
        gateway: &["--websockets-max=4"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let (stranger, authority) = ([127, 0, 0, 2].into(), world.authority());
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(NostrClient::connect_from(stranger, &authority, &[]).await);
    }

    let mut other = world.nostr().await;

    assert!(other.query(json!({"kinds": [30617]})).await.is_empty());
    strangers.pop().unwrap().ended().await;
    let mut left = strangers.pop().unwrap();
    assert!(left.query(json!({"kinds": [30617]})).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_takes_all_descriptors_and_says_if_they_are_too_few() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let gateway = program("grasp-gateway");
    let start = |connections: &str| {
        let command = format!(
            "ulimit -Sn 200 && ulimit -Hn 4000 && exec {} serve --bind=127.0.0.1:0 --data-dir={} {connections}",
            gateway.display(),
            folder.path().display()
        );
        Process::start(Path::new("/bin/sh"), &["-c".to_owned(), command], &log)
    };
    for (connections, too_few) in [("", true), ("--connections-max=100 --websockets-max=100", false)] {
        let gateway = start(connections);
        eventually("it serves", async || gateway.output().contains("serving")).await;
        let output = gateway.output();
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.id())).unwrap();
        let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();

        assert_eq!(open_files.split_whitespace().nth(3), Some("4000"), "{open_files}");
        assert_eq!(output.contains("needed=13760"), too_few, "{output}");
        drop(gateway);
        std::fs::remove_file(&log).unwrap();
    }
}

/// The short form of `scripts/flood`.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_announcements_is_held_back_and_others_go_on() {
    let options = Options {
        held: &["--held-per-author-max=150", "--held-per-source-max=200"],
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let flood = Flood {
        announcements: 2000,
        authors: 20,
        per_author_max: 150,
        per_source_max: 200,
    };

    let flooded = flood.run(&mut world).await;

    assert_eq!(flooded.complaints(), Vec::<String>::new(), "{flooded}");
}
