//! The tools that stop a program between two of its steps: the proxy before Redis and the relay, and the git wrapper.

#![expect(clippy::unwrap_used, reason = "what cannot be reached ends the test")]

use shared::nip34;
use tests::git_client::GitClient;
use tests::git_wrapper::GitMoment;
use tests::git_wrapper::GitWrapper;
use tests::nostr_client::NostrClient;
use tests::nostr_client::now;
use tests::nostr_client::sign;
use tests::nostr_client::tag;
use tests::process::Process;
use tests::process::free_port;
use tests::process::program;
use tests::process::signal;
use tests::repository::Repository;
use tests::tcp_proxy::Moment;
use tests::tcp_proxy::TcpProxy;
use tests::tcp_proxy::Then;
use tests::wait::eventually;
use tests::wire::Wire;
use tokio::net::TcpStream;

const ADD: &str = "return redis.call('INCR', KEYS[1])";

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_stopped_at_each_moment_and_cut_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let arguments = ["--port", &port.to_string(), "--save", ""].map(str::to_owned);
    let mut redis = Process::start(
        std::path::Path::new("redis-server"),
        &arguments,
        &folder.path().join("log"),
    );
    eventually("Redis listens", async || {
        assert!(redis.is_running(), "{}", redis.output());
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let proxy = TcpProxy::start(port, Wire::Redis).await;
    let mut direct = connect(port).await;
    let script = redis::Script::new(ADD);
    script.prepare_invoke().load_async(&mut direct).await.unwrap();

    let expected = [
        (Moment::BeforeCommand, 1),
        (Moment::BeforeAnswer, 2),
        (Moment::AfterAnswer, 2),
    ];
    for (number, (moment, count)) in expected.into_iter().enumerate() {
        let key = format!("key{number}");
        let mut through = connect(proxy.port()).await;
        let stopped = proxy.stop_at(1, moment);
        let first: i64 = script.key(&key).invoke_async(&mut through).await.unwrap();
        assert_eq!(first, 1);
        let second = tokio::spawn({
            let (key, script) = (key.clone(), script.clone());
            async move { script.key(key).invoke_async::<i64>(&mut through).await }
        });

        let stopped = stopped.await.unwrap();
        let now: i64 = redis::cmd("GET").arg(&key).query_async(&mut direct).await.unwrap();
        stopped.then(Then::Cut);

        assert_eq!(now, count, "{moment:?}");
        let heard = second.await.unwrap();
        assert_eq!(heard.is_ok(), moment == Moment::AfterAnswer, "{moment:?}: {heard:?}");
    }
}

async fn connect(port: u16) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/?protocol=resp3")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn git_waits_before_it_begins_or_before_its_end_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = GitWrapper::install(&folder.path().join("bin"));
    for moment in [GitMoment::Before, GitMoment::After] {
        let repository = folder.path().join(format!("{moment:?}"));
        let log = folder.path().join(format!("{moment:?}.log"));
        let stopped = wrapper.stop_at(0, moment);
        let arguments = ["init".to_owned(), repository.display().to_string()];
        let mut git = Process::start(&folder.path().join("bin/git"), &arguments, &log);

        let stopped = stopped.await.unwrap();
        assert_eq!(stopped.subcommand, "init");
        assert_eq!(repository.join(".git").exists(), moment == GitMoment::After);
        assert!(git.is_running());
        drop(stopped);

        assert!(git.ended().await.success());
        assert!(repository.join(".git").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_git_died_behind_its_work_says_that_its_events_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = GitWrapper::install(&folder.path().join("bin"));
    let port = free_port();
    let arguments = [
        "serve".to_owned(),
        format!("--bind=127.0.0.1:{port}"),
        format!("--data-dir={}", folder.path().join("data").display()),
    ];
    let path = [("PATH", wrapper.path())];
    let log = folder.path().join("log");
    let mut gateway = Process::start_with(&program("grasp-gateway"), &arguments, &log, &path);
    eventually("the gateway listens", async || {
        assert!(gateway.is_running(), "{}", gateway.output());
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let repository = Repository::new("r");
    let url = format!("http://127.0.0.1:{port}/{}/r.git", repository.npub());
    let tags = [
        tag(&["d", "r"]),
        tag(&["clone", &url]),
        tag(&["relays", &format!("ws://127.0.0.1:{port}")]),
    ];
    let announcement = sign(&repository.owner, nip34::ANNOUNCEMENT, now(), &tags);
    let git = GitClient::init(&folder.path().join("work")).await;
    let first = git.commit("one").await;
    let second = git.commit("two").await;
    let mut nostr = NostrClient::connect(&format!("ws://127.0.0.1:{port}")).await;
    assert!(nostr.send(&announcement).await.taken);
    let before = repository.state(now() - 1, &[("refs/heads/main", &first)]);
    assert!(nostr.send(&before).await.taken);
    let refspec = format!("{first}:refs/heads/main");
    git.push(&url, &[&refspec]).await.expect_ok();
    let state = repository.state(now(), &[("refs/heads/main", &second)]);
    assert!(nostr.send(&state).await.taken);

    let killed = tokio::spawn(async move {
        loop {
            let stopped = wrapper.stop_at(0, GitMoment::After).await.unwrap();
            if stopped.subcommand == "update-ref" {
                signal("KILL", &format!("-{}", stopped.pid));
                return wrapper;
            }
        }
    });
    let said = git.push(&url, &["main"]).await;

    assert!(said.ok && killed.await.is_ok(), "{said:?}");
    let is_told = said
        .stderr
        .contains("the events are released as soon as this server can");
    assert!(is_told || nostr.serves(&state).await, "{said:?}");
    eventually("the state is served", async || nostr.serves(&state).await).await;
}
