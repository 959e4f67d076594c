//! What readers are given from memory: never what was before a change that its author has been told of, and one load
//! for all of them.

use std::time::Duration;
use std::time::Instant;

use tests::clients::http::KeepAlive;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tokio::task::JoinSet;
use wire::path::repository_path;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::settled;

in_both_worlds!(
    a_push_is_seen_by_whoever_asks_after_its_report,
    a_repository_is_there_for_whoever_asks_after_ok,
    what_its_author_deletes_is_gone,
    many_readers_cost_one_load_a_second,
    who_has_the_answer_already_is_not_sent_it_again,
);

/// Readers that ask for one path again and again, so that there is always something to be given from memory. They end
/// when this is dropped.
struct Readers {
    _tasks: JoinSet<()>,
}

impl Readers {
    fn of(authority: &str, path: &str) -> Self {
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (mut client, path) = (KeepAlive::new(authority.to_owned()), path.to_owned());
            tasks.spawn(async move {
                loop {
                    // Whatever it is: this is not who checks.
                    drop(client.get(&path).await);
                }
            });
        }
        Self { _tasks: tasks }
    }
}

fn info_refs(repository: &Repository) -> String {
    let path = repository_path(&repository.coordinate());
    format!("{path}/info/refs?service=git-upload-pack")
}

async fn a_push_is_seen_by_whoever_asks_after_its_report(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (refs, page) = (
        info_refs(&served.repository),
        repository_path(&served.repository.coordinate()),
    );
    let _readers = Readers::of(&world.authority(), &refs);
    for round in 0..ROUNDS {
        let commit = served.git.commit(&format!("round {round}")).await;
        let state = served.repository.state(now() + round, &[("refs/heads/main", &commit)]);
        assert_eq!(nostr.send(&state).await, held());

        served.git.push(&served.url, &["main"]).await.expect_ok();

        let (_, advertised) = world.get(&refs, "").await;
        assert!(
            advertised.contains(&format!("{commit} refs/heads/main")),
            "{advertised}"
        );
        // By version 2.
        assert_eq!(served.refs().await, [("refs/heads/main".to_owned(), commit.clone())]);
        let (_, shown) = world.get(&page, "").await;
        assert!(shown.contains(&commit), "{shown}");
    }
}

async fn a_repository_is_there_for_whoever_asks_after_ok(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    for round in 0..ROUNDS {
        let repository = Repository::new(&format!("r{round}"));
        let refs = info_refs(&repository);
        let readers = Readers::of(&world.authority(), &refs);
        assert_eq!(world.get(&refs, "").await.0, 404);

        assert_eq!(nostr.send(&world.announcement(&repository, now(), &[])).await, held());

        assert_eq!(world.get(&refs, "").await.0, 200);
        drop(readers);
    }
}

async fn what_its_author_deletes_is_gone(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let (refs, page) = (
        info_refs(&served.repository),
        repository_path(&served.repository.coordinate()),
    );
    let _readers = [
        Readers::of(&world.authority(), &refs),
        Readers::of(&world.authority(), &page),
    ];
    assert_eq!(world.get(&refs, "").await.0, 200);
    let address = served.repository.coordinate().to_string();
    let deletion = sign(&served.repository.owner, 5, now(), &[tag(&["a", &address])]);

    assert!(nostr.send(&deletion).await.taken);

    eventually("it is gone", async || {
        world.get(&refs, "").await.0 == 404 && world.get(&page, "").await.0 == 404
    })
    .await;
}

async fn many_readers_cost_one_load_a_second(kind: Kind) {
    let mut world = World::start(kind, Options::default()).await;
    let launcher = ["env", "GRASP_LOG=info,shared=debug"];
    world
        .send_gateway_round(Detour {
            launcher: launcher.map(str::to_owned).into(),
            ..Detour::default()
        })
        .await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    // Until then the worker may reconcile what was just published, and each reconcile is a change.
    settled(&world).await;
    let loads = || world.gateway_log().matches("load facts").count();
    let before = loads();
    let began = Instant::now();

    let mut reads = JoinSet::new();
    for _ in 0..8 {
        let (mut client, path) = (KeepAlive::new(world.authority()), info_refs(&served.repository));
        reads.spawn(async move {
            for _ in 0..100 {
                assert_eq!(client.get(&path).await.unwrap(), 200);
            }
        });
    }
    reads.join_all().await;

    let seconds = usize::try_from(began.elapsed().div_duration_f64(Duration::from_secs(1)).ceil() as u64).unwrap();
    let loads = loads() - before;
    assert!(loads <= seconds + 2, "{loads} loads in {seconds} s");
}

async fn who_has_the_answer_already_is_not_sent_it_again(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let mut known = Vec::new();
    for path in [
        info_refs(&served.repository),
        repository_path(&served.repository.coordinate()),
    ] {
        let (status, answer) = world.get(&path, "").await;
        let tag = answer
            .lines()
            .find_map(|line| line.strip_prefix("etag: "))
            .unwrap()
            .to_owned();
        assert_eq!(status, 200);
        let (status, answer) = world.get(&path, &format!("if-none-match: {tag}\r\n")).await;
        assert_eq!(status, 304, "{answer}");
        assert!(answer.contains(&format!("etag: {tag}\r\n")), "{answer}");
        assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        known.push((path, tag));
    }
    let commit = served.git.commit("two").await;
    let state = served.repository.state(now(), &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();

    for (path, tag) in known {
        let (status, answer) = world.get(&path, &format!("if-none-match: {tag}\r\n")).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer.contains(&commit), "{answer}");
    }
}

const ROUNDS: u64 = 8;
