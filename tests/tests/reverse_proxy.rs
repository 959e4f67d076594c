//! The server behind the reverse proxies whose configurations are shipped, each run here as it is but for addresses and
//! certificates.

#![expect(clippy::unwrap_used, reason = "what cannot be had ends the test")]

use std::io::Read;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use redis::aio::MultiplexedConnection;
use serde_json::Value;
use serde_json::json;
use tests::clients::git::GitClient;
use tests::clients::http;
use tests::clients::http::request;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::harness::options::Options;
use tests::harness::process::free_port;
use tests::harness::redis_connection::connect;
use tests::harness::repository::Repository;
use tests::harness::reverse_proxy::Proxy;
use tests::harness::reverse_proxy::Site;
use tests::harness::wait::eventually;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Makes two tests of each function, one for each proxy.
macro_rules! behind_both_proxies {
    ($($test:ident),+ $(,)?) => {
        mod caddy {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Proxy::Caddy).await;
            })+
        }
        mod nginx {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Proxy::Nginx).await;
            })+
        }
    };
}

behind_both_proxies!(
    a_large_push_and_a_clone_pass,
    the_client_is_who_the_proxy_was_called_by,
    answers_pass_with_their_headers,
    a_push_reaches_the_gateway_before_its_last_byte,
    what_is_silent_for_a_minute_is_the_gateways_to_judge,
    a_second_gateway_that_is_down_costs_no_request,
);

async fn a_large_push_and_a_clone_pass(proxy: Proxy) {
    let site = Site::start(proxy).await;
    let repository = Repository::new("my repo 🦀%20.git");
    let git = site.world.git("work").await;
    let mut noise = vec![0; 30 << 20];
    std::fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    let commit = git.commit_file("noise", &noise).await;
    let mut nostr = NostrClient::connect(&format!("ws://{}", site.authority)).await;
    let announcement = site.world.announcement(&repository, now(), &[]);
    nostr.send(&announcement).await;
    nostr
        .send(&repository.state(now(), &[("refs/heads/main", &commit)]))
        .await;

    git.push(&site.url(&repository), &["main"]).await.expect_ok();

    assert!(nostr.serves(&announcement).await);
    let copy = GitClient::clone_from(&site.url(&repository), &site.world.folder().join("copy")).await;
    assert_eq!(copy.unwrap().rev_parse("HEAD").await, commit);
}

async fn the_client_is_who_the_proxy_was_called_by(proxy: Proxy) {
    let site = Site::start(proxy).await;
    let mut redis = redis(&site).await;
    let own = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    for (identifier, headers) in [
        ("plain", &[][..]),
        (
            "claims",
            &[("x-forwarded-for", "198.51.100.9"), ("x-real-ip", "198.51.100.9")],
        ),
    ] {
        let announcement = site.world.announcement(&Repository::new(identifier), now(), &[]);
        let mut nostr = NostrClient::connect_from(own, &site.authority, headers).await;

        let answer = nostr.send(&announcement).await;

        assert!(answer.taken && answer.message.starts_with("purgatory:"), "{answer:?}");
        let source = field(&mut redis, &announcement.id.to_hex(), "source").await;
        assert_eq!(source.as_deref(), Some("IP4 127.0.0.2"), "{identifier}");
    }
}

async fn answers_pass_with_their_headers(proxy: Proxy) {
    let site = Site::start(proxy).await;

    let document = "GET / HTTP/1.1\r\naccept: application/nostr+json\r\naccept-encoding: identity\r\n";
    let answer = request(&site.authority, document, b"").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head().contains("content-type: application/nostr+json\r\n"),
        "{}",
        answer.head()
    );
    let document: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(document["supported_grasps"], json!(["GRASP-01"]));

    for (method, path, status) in [
        ("GET", "/npub1test/x.git/info/refs?service=git-upload-pack", 404),
        ("GET", "/nothing", 404),
        ("HEAD", "/", 200),
        ("OPTIONS", "/npub1test/x.git/git-upload-pack", 204),
        ("POST", "/", 405),
    ] {
        let answer = request(&site.authority, &format!("{method} {path} HTTP/1.1\r\n"), b"").await;

        assert_eq!(answer.status, status, "{method} {path}");
        let head = answer.head();
        assert_eq!(
            head.matches("access-control-allow-origin: *\r\n").count(),
            1,
            "{method} {path}: {head}"
        );
    }
}

async fn a_push_reaches_the_gateway_before_its_last_byte(proxy: Proxy) {
    let site = Site::start(proxy).await;
    let push = UnfinishedPush::start(&site).await;

    // An authorised push gives its events more time before its pack is read.
    let mut redis = redis(&site).await;
    eventually("the push has begun", async || {
        push.deadline(&mut redis).await > push.held_until
    })
    .await;

    let answer = push.finish().await;
    assert_eq!(answer.status, 200, "{}", answer.head());
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(
        body.contains("unpack ok") && body.contains("ok refs/heads/main"),
        "{body}"
    );
}

/// A minute is what proxies like to wait. Beside the push, a WebSocket is silent for as long, but for the relay's
/// pings.
async fn what_is_silent_for_a_minute_is_the_gateways_to_judge(proxy: Proxy) {
    let site = Site::start(proxy).await;
    let mut nostr = NostrClient::connect(&format!("ws://{}", site.authority)).await;
    let mut push = UnfinishedPush::start(&site).await;

    let answer = http::rest(&mut push.stream).await;

    let body = String::from_utf8_lossy(answer.body()).into_owned();
    assert_eq!(answer.status, 200, "{}", answer.head());
    assert!(body.contains("nothing was received for 60 s"), "{body}");
    let announcement = site.world.announcement(&Repository::new("later"), now(), &[]);
    assert!(nostr.send(&announcement).await.taken);
}

/// With two gateways written the obvious way, Caddy answered 7 of 20 requests with 502 while one was down.
async fn a_second_gateway_that_is_down_costs_no_request(proxy: Proxy) {
    let down = free_port();
    let edits = match proxy {
        Proxy::Caddy => vec![
            ("#to 127.0.0.1:7344", format!("to 127.0.0.1:{down}")),
            ("#fail_duration", "fail_duration".to_owned()),
        ],
        Proxy::Nginx => vec![("#server 127.0.0.1:7344", format!("server 127.0.0.1:{down}"))],
    };
    let edits: Vec<(&str, &str)> = edits.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let site = Site::start_with(proxy, "127.0.0.1", &edits).await;

    for number in 0..20 {
        let answer = request(&site.authority, "GET / HTTP/1.1\r\n", b"").await;

        assert_eq!(answer.status, 200, "request {number}");
    }
}

/// A push whose commands were sent, and of whose pack nothing yet.
struct UnfinishedPush {
    stream: TcpStream,
    event_id: String,
    held_until: u64,
    pack: Vec<u8>,
}

impl UnfinishedPush {
    async fn start(site: &Site) -> Self {
        let repository = Repository::new("r");
        let git = site.world.git("work").await;
        let commit = git.commit("one").await;
        git.run(&["repack", "-adq"]).await.expect_ok();
        let packs = site.world.folder().join("work/.git/objects/pack");
        let mut files = std::fs::read_dir(packs).unwrap().map(|entry| entry.unwrap().path());
        let pack = files.find(|path| path.extension().is_some_and(|extension| extension == "pack"));
        let mut nostr = site.world.nostr().await;
        let announcement = site.world.announcement(&repository, now(), &[]);
        nostr.send(&announcement).await;
        nostr
            .send(&repository.state(now(), &[("refs/heads/main", &commit)]))
            .await;
        let mut push = Self {
            stream: TcpStream::connect(&site.authority).await.unwrap(),
            event_id: announcement.id.to_hex(),
            held_until: 0,
            pack: std::fs::read(pack.unwrap()).unwrap(),
        };
        let mut redis = redis(site).await;
        push.held_until = push.deadline(&mut redis).await;
        // Deadlines have seconds: a later one shows only then.
        eventually("the next second", async || {
            now() + Options::default().hold_secs > push.held_until
        })
        .await;
        let path = site.url(&repository).replace(&format!("http://{}", site.authority), "");
        let head = format!(
            "POST {path}/git-receive-pack HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/x-git-receive-pack-request\r\ntransfer-encoding: chunked\r\n\r\n",
            site.authority
        );
        push.stream.write_all(head.as_bytes()).await.unwrap();
        let command = format!("{} {commit} refs/heads/main\0 report-status", "0".repeat(40));
        push.send(format!("{:04x}{command}0000", command.len() + 4).as_bytes())
            .await;
        push
    }

    /// Returns until when the announcement is held.
    async fn deadline(&self, redis: &mut MultiplexedConnection) -> u64 {
        field(redis, &self.event_id, "deadline").await.unwrap().parse().unwrap()
    }

    async fn send(&mut self, chunk: &[u8]) {
        self.stream
            .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
            .await
            .unwrap();
        self.stream.write_all(chunk).await.unwrap();
        self.stream.write_all(b"\r\n").await.unwrap();
    }

    async fn finish(mut self) -> http::Answer {
        let pack = std::mem::take(&mut self.pack);
        self.send(&pack).await;
        self.send(b"").await;
        http::rest(&mut self.stream).await
    }
}

async fn field(redis: &mut MultiplexedConnection, event_id: &str, name: &str) -> Option<String> {
    let mut command = redis::cmd("HGET");
    command.arg(format!("{{purgatory}}:entry:{event_id}")).arg(name);
    command.query_async(redis).await.unwrap()
}

async fn redis(site: &Site) -> MultiplexedConnection {
    let url = format!("redis://127.0.0.1:{}", site.world.redis_port().unwrap());
    connect(&url).await.unwrap()
}
