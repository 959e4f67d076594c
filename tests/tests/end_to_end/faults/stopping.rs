//! The gateway is asked to stop while something goes on.

use nostr::event::Event;
use tests::clients::git::Said;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::faults::slow_line::SlowLine;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::noise::noise;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(
    a_push_that_is_underway_is_finished_and_served,
    a_clone_that_is_underway_is_finished,
    a_push_that_never_ends_is_cut_at_the_end_of_the_drain,
    a_second_signal_stops_at_once,
    each_websocket_ends_at_once_when_the_server_stops,
);

/// With time enough for what is finished on a machine that does a lot else.
const PATIENT: Options = Options {
    gateway: &["--drain-secs=3600"],
    ..Options::DEFAULT
};

/// A push that stands still in the middle of its pack.
struct Underway {
    served: Served,
    line: SlowLine,
    state: Event,
    commit: String,
    push: JoinHandle<Said>,
}

impl Underway {
    async fn new(world: &World, nostr: &mut NostrClient) -> Self {
        let served = Served::new(world, nostr, "r").await;
        let commit = served.git.commit_file("noise", &noise(1, 400 << 10)).await;
        let state = served.repository.state(now(), &[("refs/heads/main", &commit)]);
        assert_eq!(nostr.send(&state).await, held());
        let line = SlowLine::before(world.authority()).await;
        let (git, url) = (served.git.clone(), line.url(&served.url));
        let push = tokio::spawn(async move { git.push(&url, &["main"]).await });
        line.stands(1).await;
        Self {
            served,
            line,
            state,
            commit,
            push,
        }
    }
}

async fn refuses_connections(world: &World) {
    eventually("new connections are refused", async || {
        TcpStream::connect(world.authority()).await.is_err()
    })
    .await;
}

async fn a_push_that_is_underway_is_finished_and_served(kind: Kind) {
    let mut world = World::start(kind, PATIENT).await;
    let mut nostr = world.nostr().await;
    let underway = Underway::new(&world, &mut nostr).await;

    world.terminate_gateway().await;
    refuses_connections(&world).await;
    underway.line.open();

    underway.push.await.unwrap().expect_ok();
    assert!(world.gateway_ended().await.success(), "{}", world.gateway_log());
    assert!(!world.gateway_log().contains("cut off"), "{}", world.gateway_log());
    world.start_gateway().await;
    assert!(world.nostr().await.serves(&underway.state).await);
    assert_eq!(
        underway.served.refs().await,
        [("refs/heads/main".to_owned(), underway.commit)]
    );
}

async fn a_clone_that_is_underway_is_finished(kind: Kind) {
    let mut world = World::start(kind, PATIENT).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let pack = noise(1, 20_000_000);
    let commit = served.git.commit_file("noise", &pack).await;
    let state = served.repository.state(now(), &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    let path = served.url.replace(&format!("http://{}", world.authority()), "");
    let want = format!("want {commit} ofs-delta no-progress\n");
    let body = format!("{:04x}{want}00000009done\n", want.len() + 4);
    let head = format!(
        "POST {path}/git-upload-pack HTTP/1.1\r\ncontent-type: application/x-git-upload-pack-request\r\n\
         content-length: {}\r\n",
        body.len()
    );

    // More than fits into the buffers on the way, so that git is still at it.
    let mut answer = tests::clients::http::begin(&world.authority(), &head, body.as_bytes()).await;
    world.terminate_gateway().await;
    refuses_connections(&world).await;
    let answer = tests::clients::http::rest(&mut answer).await;

    assert_eq!(answer.status, 200);
    assert!(
        answer.bytes.len() > pack.len() && answer.bytes.ends_with(b"0\r\n\r\n"),
        "{}",
        answer.bytes.len()
    );
    assert!(world.gateway_ended().await.success());
}

async fn a_push_that_never_ends_is_cut_at_the_end_of_the_drain(kind: Kind) {
    let brief = Options {
        gateway: &["--drain-secs=1"],
        ..Options::default()
    };
    let mut world = World::start(kind, brief).await;
    let mut nostr = world.nostr().await;
    let underway = Underway::new(&world, &mut nostr).await;

    world.terminate_gateway().await;

    assert!(world.gateway_ended().await.success());
    underway.push.await.unwrap().expect_refused();
    assert!(world.gateway_log().contains("cut off"), "{}", world.gateway_log());
    world.start_gateway().await;
    let quarantine = world.folder().join("data/quarantine");
    eventually("nothing of it is left", async || {
        let mut entries = quarantine.read_dir().unwrap().map(|entry| entry.unwrap().path());
        !entries.any(|path| path.is_dir())
    })
    .await;
    let before = [("refs/heads/main".to_owned(), underway.served.commit.clone())];
    assert_eq!(underway.served.refs().await, before);
    if kind == Kind::Embedded {
        // What waits in memory ends with the process.
        assert_eq!(world.nostr().await.send(&underway.state).await, held());
    }
    underway
        .served
        .git
        .push(&underway.served.url, &["main"])
        .await
        .expect_ok();
    assert!(world.nostr().await.serves(&underway.state).await);
}

async fn a_second_signal_stops_at_once(kind: Kind) {
    let mut world = World::start(kind, PATIENT).await;
    let mut nostr = world.nostr().await;
    let underway = Underway::new(&world, &mut nostr).await;

    world.terminate_gateway().await;
    refuses_connections(&world).await;
    world.terminate_gateway().await;

    assert!(world.gateway_ended().await.success());
    underway.push.await.unwrap().expect_refused();
}

async fn each_websocket_ends_at_once_when_the_server_stops(kind: Kind) {
    let mut world = World::start(kind, PATIENT).await;
    let (mut idle, mut subscribed) = (world.nostr().await, world.nostr().await);
    subscribed.subscribe(serde_json::json!({"kinds": [1]})).await;

    world.terminate_gateway().await;

    // Without a word of the clients, and long before the drain has passed.
    idle.ended().await;
    subscribed.ended().await;
    assert!(world.gateway_ended().await.success());
    assert!(!world.gateway_log().contains("cut off"), "{}", world.gateway_log());
}
