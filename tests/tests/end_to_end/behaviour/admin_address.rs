//! The admin address: whether the server is ready, and what it counts.

use std::time::Duration;

use tests::clients::http;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::redis::RedisSetup;
use tests::harness::wait::eventually;
use tests::harness::wait::within;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::in_both_worlds;

in_both_worlds!(what_is_pushed_and_waits_is_counted_and_not_shown_to_clients);

/// As the documents promise.
const NOTICED: Duration = Duration::from_secs(2);

async fn ask(authority: &str, path: &str) -> (u16, String) {
    let answer = http::request(authority, &format!("GET {path} HTTP/1.1\r\n"), b"").await;
    (answer.status, answer.text())
}

async fn start(kind: Kind) -> World {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        redis: RedisSetup::Alone,
        ..Options::default()
    };
    World::start(kind, options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_hears_which_part_is_away() {
    let mut world = start(Kind::Strfry).await;
    let admin = world.admin_authority().await;
    let is_ready = async |wanted: bool, part: &str| {
        let (status, text) = ask(&admin, "/readyz").await;
        let says_so = text
            .lines()
            .any(|line| line.starts_with(part) && line.contains("ok") == wanted);
        (status == 200) == wanted && says_so
    };
    eventually("all is well", async || is_ready(true, "redis").await).await;

    world.redis().signal("STOP").await;
    eventually("a Redis that hangs is noticed", async || is_ready(false, "redis").await).await;
    assert_eq!(ask(&admin, "/livez").await.0, 200);
    let (_, page) = ask(&admin, "/metrics").await;
    assert!(page.contains("grasp_part_up{part=\"redis\"} 0") && page.contains("grasp_part_up{part=\"relay\"} 1"));
    world.redis().signal("CONT").await;
    eventually("it is back", async || is_ready(true, "redis").await).await;

    world.redis().kill().await;
    within(NOTICED, "a Redis that is gone is noticed", async || {
        is_ready(false, "redis").await
    })
    .await;
    world.redis().start_again().await;
    eventually("another is found", async || is_ready(true, "redis").await).await;

    world.stop_relay().await;
    within(NOTICED, "a relay that is gone is noticed", async || {
        is_ready(false, "relay").await
    })
    .await;
    world.start_relay().await;
    eventually("it is found again", async || is_ready(true, "relay").await).await;
    eventually("its return is logged", async || {
        world.gateway_log().contains("the relay answers again")
    })
    .await;
    let log = world.gateway_log();
    let lost = log.matches("the subscription at the relay is lost").count();
    assert_eq!(lost, 1, "once, and not each second: {log}");
}

/// All that was told was that it "failed or was slow a moment ago", for hours, and of a password nothing was logged.
#[tokio::test(flavor = "multi_thread")]
async fn why_redis_is_away_is_told_and_for_how_long() {
    let mut world = start(Kind::Strfry).await;
    let admin = world.admin_authority().await;
    let told = async |why: &str| ask(&admin, "/readyz").await.1.contains(why);
    world.redis().kill().await;
    for part in ["Connection refused", " s; it is used again when"] {
        eventually("it is down, and since when", async || told(part).await).await;
    }
    world.redis().start_again().await;
    eventually("it is back", async || told("redis: ok").await).await;

    let () = world.redis().ask(&["CONFIG", "SET", "requirepass", "x"]).await;
    world.redis().signal("STOP").await;
    eventually("it hangs", async || told("timed out, for").await).await;
    world.redis().signal("CONT").await;

    eventually("the password is why now", async || {
        told("NOAUTH").await && world.gateway_log().contains("Redis refuses to be asked again")
    })
    .await;
}

async fn what_is_pushed_and_waits_is_counted_and_not_shown_to_clients(kind: Kind) {
    let world = start(kind).await;
    let admin = world.admin_authority().await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let undeclared = served.git.commit("two").await;
    served.git.push(&served.url, &["main"]).await.expect_refused();
    let state = served
        .repository
        .state(tests::clients::nostr::now(), &[("refs/heads/main", &undeclared)]);
    assert!(nostr.send(&state).await.taken);

    eventually("it is counted", async || {
        let (status, page) = ask(&admin, "/metrics").await;
        let lines = [
            "grasp_pushes_total{outcome=\"taken\"} 1",
            "grasp_pushes_total{outcome=\"refused\"} 1",
            "grasp_purgatory_events{status=\"waiting\"} 1",
            "grasp_part_up{part=\"disk\"} 1",
        ];
        status == 200 && lines.iter().all(|line| page.lines().any(|found| found == *line))
    })
    .await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(world.get(path, "").await.0, 404, "{path}");
    }
    assert_eq!(ask(&admin, "/elsewhere").await.0, 404);
}
