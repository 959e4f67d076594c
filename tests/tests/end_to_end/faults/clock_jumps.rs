//! Redis' host is set to another time: what waits there waits for as long as before.

use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::redis::RedisSetup;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Waiting;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::redis;

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_of_redis_expires_nothing() {
    let options = Options {
        redis: RedisSetup::MovableClock,
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let mut nostr = world.nostr().await;
    let mut redis = redis(&world).await;
    let waiting = Waiting::new(&world, &mut nostr, "r").await;
    let both = [waiting.announcement.id.to_hex(), waiting.state.id.to_hex()];
    for id in &both {
        eventually("the gateway has read it", async || {
            field(&mut redis, id, "waiting_for")
                .await
                .is_some_and(|text| !text.is_empty())
        })
        .await;
    }

    let jump = 10 * options.hold_secs;
    world.redis().clock().move_to(jump as i64);

    for id in &both {
        eventually("it waits as long as before", async || {
            let deadline = field(&mut redis, id, "deadline").await;
            let deadline: u64 = deadline.expect("it is there").parse().unwrap();
            deadline > now() + jump
        })
        .await;
        assert_eq!(field(&mut redis, id, "status").await.as_deref(), Some("held"));
    }
    let served = waiting.push().await;
    assert!(nostr.serves(&served.announcement).await && nostr.serves(&served.state).await);

    // Set back, it holds and releases as before.
    world.redis().clock().move_to(0);
    let second = served.git.commit("two").await;
    let next = served.repository.state(now() + 1, &[("refs/heads/main", &second)]);
    assert_eq!(nostr.send(&next).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&next).await);
}
