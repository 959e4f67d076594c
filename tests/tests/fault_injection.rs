//! The tools that stop a program between two of its steps: the proxy before Redis and the relay, and the git wrapper.

#![expect(clippy::unwrap_used, reason = "what cannot be reached ends the test")]

use tests::faults::frames::Wire;
use tests::faults::git_wrapper::GitMoment;
use tests::faults::git_wrapper::GitWrapper;
use tests::faults::tcp_proxy::Moment;
use tests::faults::tcp_proxy::TcpProxy;
use tests::faults::tcp_proxy::Then;
use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::wait::eventually;
use tests::harness::wait::is_listened_at;

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
        is_listened_at(("127.0.0.1", port)).await
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
    let url = format!("redis://127.0.0.1:{port}/?protocol=resp3");
    tests::harness::redis_connection::connect(&url).await.unwrap()
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
