//! One gateway follows another on a socket that a launcher holds, as systemd does, and no request is lost. Beside
//! strfry only: what waits in the memory of an embedded server ends with it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tests::clients::http::KeepAlive;
use tests::clients::nostr::now;
use tests::faults::slow_line::SlowLine;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::Process;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::noise::noise;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixture::Served;
use crate::fixture::held;

async fn serves(gateway: &mut Process) {
    eventually("the gateway serves", async || {
        assert!(gateway.is_running(), "{}", gateway.output());
        gateway.output().contains("serving")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_follows_another_and_no_request_is_lost() {
    let patient = Options {
        gateway: &["--drain-secs=3600"],
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, patient).await;
    world.terminate_gateway().await;
    world.gateway_ended().await;
    let socket = std::net::TcpListener::bind(world.authority()).unwrap();
    let mut first = world.gateway_on(&socket, "first.log");
    serves(&mut first).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let commit = served.git.commit_file("noise", &noise(1, 400 << 10)).await;
    let state = served.repository.state(now(), &[("refs/heads/main", &commit)]);
    assert_eq!(nostr.send(&state).await, held());
    let line = SlowLine::before(world.authority()).await;
    let (git, url) = (served.git.clone(), line.url(&served.url));
    let push = tokio::spawn(async move { git.push(&url, &["main"]).await });
    line.stands(1).await;
    let enough = CancellationToken::new();
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    let refs = served.url.replace(&format!("http://{}", world.authority()), "") + "/info/refs?service=git-upload-pack";
    for _ in 0..CLIENTS {
        clients.spawn(ask(
            world.authority(),
            refs.clone(),
            enough.clone(),
            Arc::clone(&answered),
        ));
    }
    let answered_more = async |count: usize| {
        let before = answered.load(Ordering::Relaxed);
        eventually("requests are answered", async || {
            answered.load(Ordering::Relaxed) >= before + count
        })
        .await;
    };
    answered_more(50).await;

    first.terminate().await;
    let mut second = world.gateway_on(&socket, "second.log");
    serves(&mut second).await;
    answered_more(50).await;
    line.open();
    push.await.unwrap().expect_ok();
    let ended = first.ended().await;
    answered_more(50).await;
    enough.cancel();

    assert!(ended.success(), "{}", first.output());
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(world.nostr().await.serves(&state).await);
    assert!(second.is_running());
}

/// Asks again and again on a connection that is kept as long as the server keeps it.
///
/// # Panics
/// A request is not answered with 200.
async fn ask(authority: String, path: String, enough: CancellationToken, answered: Arc<AtomicUsize>) {
    let mut client = KeepAlive::new(authority);
    while !enough.is_cancelled() {
        assert_eq!(client.get(&path).await.unwrap(), 200);
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let environment = [("LISTEN_FDS", "2".to_owned()), ("LISTEN_PID", String::new())];
    let program = tests::harness::process::program("grasp-gateway");

    let mut gateway = Process::start_with(&program, &["serve".to_owned()], &log, &environment);

    assert!(!gateway.ended().await.success());
    assert!(
        gateway.output().contains("2 sockets were passed by socket activation"),
        "{}",
        gateway.output()
    );
}

const CLIENTS: usize = 4;
