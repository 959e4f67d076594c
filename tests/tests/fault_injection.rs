//! The tools that stop a program between two of its steps: the proxy before Redis and the relay, and the git wrapper.

#![expect(clippy::unwrap_used, reason = "what cannot be reached ends the test")]

use nostr::event::Event;
use shared::nip34;
use tempfile::TempDir;
use tests::clients::git::GitClient;
use tests::clients::git::Said;
use tests::clients::http;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::faults::frames::Wire;
use tests::faults::git_wrapper::GitMoment;
use tests::faults::git_wrapper::GitWrapper;
use tests::faults::git_wrapper::StoppedGit;
use tests::faults::tcp_proxy::Moment;
use tests::faults::tcp_proxy::TcpProxy;
use tests::faults::tcp_proxy::Then;
use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::program;
use tests::harness::process::signal;
use tests::harness::repository::Repository;
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

/// An embedded server whose git can be stopped, with a repository that is served at its first commit and waits for its
/// second, which `state` declares.
struct Waiting {
    wrapper: GitWrapper,
    nostr: NostrClient,
    git: GitClient,
    authority: String,
    path: String,
    commits: [String; 2],
    state: Event,
    _gateway: Process,
    _folder: TempDir,
}

impl Waiting {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wrapper = GitWrapper::install(&folder.path().join("bin"));
        let authority = format!("127.0.0.1:{}", free_port());
        let arguments = [
            "serve".to_owned(),
            format!("--bind={authority}"),
            format!("--data-dir={}", folder.path().join("data").display()),
        ];
        let path = [("PATH", wrapper.path())];
        let log = folder.path().join("log");
        let mut gateway = Process::start_with(&program("grasp-gateway"), &arguments, &log, &path);
        eventually("the gateway listens", async || {
            assert!(gateway.is_running(), "{}", gateway.output());
            is_listened_at(&authority).await
        })
        .await;
        let repository = Repository::new("r");
        let path = format!("/{}/r.git", repository.npub());
        let tags = [
            tag(&["d", "r"]),
            tag(&["clone", &format!("http://{authority}{path}")]),
            tag(&["relays", &format!("ws://{authority}")]),
        ];
        let announcement = sign(&repository.owner, nip34::ANNOUNCEMENT, now(), &tags);
        let git = GitClient::init(&folder.path().join("work")).await;
        let commits = [git.commit("one").await, git.commit("two").await];
        let states = [(now() - 1, &commits[0]), (now(), &commits[1])];
        let [before, state] = states.map(|(at, commit)| repository.state(at, &[("refs/heads/main", commit)]));
        let mut nostr = NostrClient::connect(&format!("ws://{authority}")).await;
        assert!(nostr.send(&announcement).await.taken && nostr.send(&before).await.taken);
        let waiting = Self {
            wrapper,
            nostr,
            git,
            authority,
            path,
            commits,
            state,
            _gateway: gateway,
            _folder: folder,
        };
        waiting.push(0).await.expect_ok();
        let mut waiting = waiting;
        assert!(waiting.nostr.send(&waiting.state).await.taken);
        waiting
    }

    async fn push(&self, commit: usize) -> Said {
        let url = format!("http://{}{}", self.authority, self.path);
        let refspec = format!("{}:refs/heads/main", self.commits[commit]);
        self.git.push(&url, &[&refspec]).await
    }

    /// Waits until a git with that subcommand has ended and nobody knows.
    async fn stop_behind(wrapper: &GitWrapper, subcommand: &str) -> StoppedGit {
        loop {
            // One that was killed meanwhile, as a git that waits for a push is, comes to no end.
            if let Ok(stopped) = wrapper.stop_at(0, GitMoment::After).await
                && stopped.subcommand == subcommand
            {
                return stopped;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_git_died_behind_its_work_says_that_its_events_come_later() {
    let mut waiting = Waiting::start().await;

    let (said, ()) = tokio::join!(waiting.push(1), async {
        let stopped = Waiting::stop_behind(&waiting.wrapper, "update-ref").await;
        signal("KILL", &format!("-{}", stopped.pid));
    });

    assert!(said.ok, "{said:?}");
    let is_told = said.stderr.contains("the events will be released as soon as possible");
    let (nostr, state) = (&mut waiting.nostr, &waiting.state);
    assert!(is_told || nostr.serves(state).await, "{said:?}");
    eventually("the state is served", async || nostr.serves(state).await).await;
}

/// The refs were set and the events not yet released: a push from before found everything in place, was answered ok at
/// once, and its event could not be queried.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_finds_everything_in_place_waits_for_who_put_it_there() {
    let mut waiting = Waiting::start().await;
    let (first, second) = (&waiting.commits[0], &waiting.commits[1]);
    let line = format!("{first} {second} refs/heads/main\0 report-status");
    let mut body = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
    body.extend_from_slice(EMPTY_PACK);
    let head = format!(
        "POST {}/git-receive-pack HTTP/1.1\r\ncontent-type: application/x-git-receive-pack-request\r\n\
         content-length: {}\r\n",
        waiting.path,
        body.len()
    );
    let later = async {
        let stopped = Waiting::stop_behind(&waiting.wrapper, "update-ref").await;
        let answer = http::request(&waiting.authority, &head, &body);
        tokio::pin!(answer);
        tokio::select! {
            // It has been decided upon once, and goes on.
            going_on = waiting.wrapper.stop_at(0, GitMoment::Before) => {
                drop((going_on, stopped));
                answer.await
            }
            answer = &mut answer => {
                waiting.wrapper.disarm();
                let mut nostr = NostrClient::connect(&format!("ws://{}", waiting.authority)).await;
                let is_served = nostr.serves(&waiting.state).await;
                drop(stopped);
                assert!(is_served, "{}", String::from_utf8_lossy(&answer.bytes));
                answer
            }
        }
    };

    let (said, answer) = tokio::join!(waiting.push(1), later);

    let answer = String::from_utf8_lossy(&answer.bytes).into_owned();
    assert!(said.ok && answer.contains("ok refs/heads/main"), "{said:?} {answer}");
    assert!(waiting.nostr.serves(&waiting.state).await);
}

/// A pack without objects (gitformat-pack).
const EMPTY_PACK: &[u8] =
    b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";
