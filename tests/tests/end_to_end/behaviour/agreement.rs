//! Gateway and plugin name what they do not have the same, and what is wrong with their Redis, also when that comes
//! later.

use tests::clients::nostr::now;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::redis::RedisSetup;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;

fn plugin_log(world: &World) -> String {
    std::fs::read_to_string(world.folder().join("plugin.log")).unwrap_or_default()
}

async fn world() -> World {
    let options = Options {
        with_deny_list: true,
        redis: RedisSetup::Alone,
        ..Options::default()
    };
    let world = World::start(Kind::Strfry, options).await;
    // strfry starts its plugin with the first event.
    let announcement = world.announcement(&Repository::new("first"), now(), &[]);
    world.nostr().await.send(&announcement).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_differ_are_named_by_both_with_the_mend() {
    let mut world = world().await;
    std::fs::write(world.deny_list(), "somebody\n").unwrap();
    world.kill_gateway().await;
    world
        .start_gateway_with(Options {
            hold_secs: 60,
            gateway: &["--domain=git.example.com"],
            redis: RedisSetup::Alone,
            ..Options::default()
        })
        .await;
    for (named, there) in [("domain", "git.example.com"), ("hold-secs", "60")] {
        eventually("the plugin names it", async || {
            plugin_log(&world).contains(&format!("the gateway runs with {named} {there}, but this program with"))
        })
        .await;
        eventually("the gateway names it", async || {
            world
                .gateway_log()
                .contains(&format!("but this program with {there}: give both the same"))
        })
        .await;
    }
    eventually("and lists", async || {
        world
            .gateway_log()
            .contains("give both the same repos-allow, repos-deny")
    })
    .await;
    let settings: String = world.redis().ask(&["GET", "{purgatory}:settings:plugin"]).await;
    assert!(settings.contains(&world.authority()), "{settings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_differ_are_named_by_each() {
    let world = world().await;
    let detour = Detour {
        launcher: ["env", "GRASP_MAINTAINER_MODE=recursive"].map(str::to_owned).into(),
        ..Detour::default()
    };

    let other = world.another_gateway(&detour).await;

    for (log, text) in [
        (
            &(|| world.gateway_log()) as &dyn Fn() -> String,
            "runs with maintainer-mode recursive, but this program with hybrid",
        ),
        (
            &|| other.log(),
            "runs with maintainer-mode hybrid, but this program with recursive",
        ),
    ] {
        eventually("it is named", async || log().contains(&format!("the gateway {text}"))).await;
    }
}

/// It was checked at the gateway's start only.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_becomes_unsafe_is_named_once_and_so_is_its_mend() {
    let mut world = world().await;
    for (value, programs_say) in [
        ("no", "redis has appendonly no, not yes: held events are lost"),
        ("yes", "resolved: redis has appendonly no"),
    ] {
        let () = world.redis().ask(&["CONFIG", "SET", "appendonly", value]).await;
        eventually("the gateway names it", async || {
            world.gateway_log().contains(programs_say)
        })
        .await;
        eventually("the plugin names it", async || {
            plugin_log(&world).contains(programs_say)
        })
        .await;
    }
    let log = world.gateway_log();
    assert_eq!(log.matches("redis has appendonly no").count(), 2, "{log}");
}
