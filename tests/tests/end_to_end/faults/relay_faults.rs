//! The relay away, slow, restarting, giving up or refusing: what clients hear, and that all goes on by itself when it
//! is back. The built-in relay lives and dies with its gateway, so these are about the strfry world.
//!
//! Times are printed, not asserted: docs/reliability.md has those of a real run.

use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::key::Keys;
use redis::aio::MultiplexedConnection;
use tests::clients::git::Said;
use tests::clients::http;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::clients::slow::EMPTY_PACK;
use tests::faults::frames::Wire;
use tests::faults::tcp_proxy::Moment;
use tests::faults::tcp_proxy::TcpProxy;
use tests::faults::tcp_proxy::Then;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::measure::took;

use crate::fixture::Served;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::redis;

const OPTIONS: Options = Options {
    release_wait_secs: 2,
    ..Options::DEFAULT
};

/// A world whose gateway finds the relay behind a proxy, and a repository in it.
struct Behind {
    world: World,
    proxy: TcpProxy,
    served: Served,
    /// At the relay itself.
    direct: NostrClient,
    /// A second state, held, which declares a second commit.
    second: String,
    state: Event,
}

impl Behind {
    async fn start() -> Self {
        Self::start_with(OPTIONS).await
    }

    async fn start_with(options: Options) -> Self {
        let mut world = World::start(Kind::Strfry, options).await;
        let served = Served::new(&world, &mut world.nostr().await, "r").await;
        let proxy = TcpProxy::start(world.relay_port(), Wire::WebSocket).await;
        let detour = Detour {
            relay_port: Some(proxy.port()),
            ..Detour::default()
        };
        world.send_gateway_round(detour).await;
        let second = served.git.commit("two").await;
        let state = served.repository.state(now(), &[("refs/heads/main", &second)]);
        let mut direct = NostrClient::connect(&world.relay_url()).await;
        assert_eq!(direct.send(&state).await, held());
        Self {
            world,
            proxy,
            served,
            direct,
            second,
            state,
        }
    }

    async fn push(&self) -> Said {
        self.served.git.push(&self.served.url, &["main"]).await
    }

    /// Whoever reads is served what is there, whatever becomes of the relay.
    async fn assert_reads_go_on(&self, name: &str) {
        let began = Instant::now();
        let clone = self
            .world
            .clone(&self.served.repository, name)
            .await
            .expect("it is read");
        took(&format!("a clone, {name}"), began);
        assert_eq!(clone.rev_parse("HEAD").await, self.served.commit);
        assert_eq!(self.served.refs().await, main_at(&self.served.commit));
    }

    async fn assert_pushed(&mut self) {
        assert_eq!(self.served.refs().await, main_at(&self.second));
        assert!(self.direct.serves(&self.state).await);
        let mut redis = redis(&self.world).await;
        eventually("nothing is left to do", async || {
            left(&mut redis, "dirty").await.is_empty() && left(&mut redis, "releasing").await.is_empty()
        })
        .await;
    }
}

fn main_at(commit: &str) -> Vec<(String, String)> {
    vec![("refs/heads/main".to_owned(), commit.to_owned())]
}

/// What stands in one of the purgatory's indices.
async fn left(redis: &mut MultiplexedConnection, index: &str) -> Vec<String> {
    redis::cmd("ZRANGE")
        .arg(format!("{{purgatory}}:{index}"))
        .arg(&["0", "-1"])
        .query_async(redis)
        .await
        .unwrap()
}

/// The refs were set and the events not yet released: a push from before found everything in place, was answered ok at
/// once, and its event could not be queried.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_finds_everything_in_place_waits_for_who_put_it_there() {
    let mut behind = Behind::start_with(Options::DEFAULT).await;
    let (world, proxy, served, second) = (&behind.world, &behind.proxy, &behind.served, &behind.second);
    let line = format!("{} {second} refs/heads/main\0 report-status", served.commit);
    let body = [format!("{:04x}{line}0000", line.len() + 4).as_bytes(), EMPTY_PACK].concat();
    let head = format!(
        "POST {}/git-receive-pack HTTP/1.1\r\ncontent-type: application/x-git-receive-pack-request\r\n\
         content-length: {}\r\n",
        wire::path::repository_path(&served.repository.coordinate()),
        body.len()
    );
    let decided = || world.gateway_log().matches("push decided").count();
    let later = async {
        let stopped = proxy.stop_at(0, Moment::BeforeCommand).await.unwrap();
        let (decided_before, authority) = (decided(), world.authority());
        let answer = http::request(&authority, &head, &body);
        tokio::pin!(answer);
        let goes_on = async {
            eventually("it is decided", async || decided() > decided_before).await;
            // Who did not wait would have been answered by the end of this.
            served.refs().await
        };
        tokio::select! {
            biased;
            answer = &mut answer => panic!("not served yet: {}", String::from_utf8_lossy(&answer.bytes)),
            refs = goes_on => assert_eq!(refs, main_at(second)),
        }
        stopped.then(Then::GoOn);
        answer.await
    };

    let (said, answer) = tokio::join!(behind.push(), later);

    let answer = String::from_utf8_lossy(&answer.bytes).into_owned();
    assert!(said.ok && answer.contains("ok refs/heads/main"), "{said:?} {answer}");
    behind.assert_pushed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_takes_down_is_not_served_while_the_relay_is_away_either() {
    let options = Options {
        with_deny_list: true,
        ..OPTIONS
    };
    let mut world = World::start(Kind::Strfry, options).await;
    let served = Served::new(&world, &mut world.nostr().await, "r").await;
    let other = Served::new(&world, &mut world.nostr().await, "other").await;
    world.stop_relay().await;
    let status = async |served: &Served| {
        let path = wire::path::repository_path(&served.repository.coordinate());
        world
            .get(&format!("{path}/info/refs?service=git-upload-pack"), "")
            .await
            .0
    };
    assert_eq!(status(&served).await, 200);

    std::fs::write(world.deny_list(), format!("{}/r\n", served.repository.npub())).unwrap();

    eventually("it is taken down", async || status(&served).await == 404).await;
    assert_eq!(status(&other).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_relay_is_away_pushes_are_refused_reads_go_on_and_its_return_is_enough() {
    let mut behind = Behind::start().await;
    behind.world.stop_relay().await;

    let said = behind.push().await.expect_refused();
    assert!(said.contains("the relay does not answer, push again later"), "{said}");
    behind.assert_reads_go_on("away").await;
    let (status, answer) = behind.world.upgrade(WEBSOCKET).await;
    assert_eq!(status, 502, "{answer}");
    behind.world.start_relay().await;

    let back = Instant::now();
    eventually("a push goes through", async || behind.push().await.ok).await;
    took("from the relay's return to a push that succeeds", back);
    behind.direct = NostrClient::connect(&behind.world.relay_url()).await;
    behind.assert_pushed().await;
}

/// Reconciles that failed for long rested for a minute, also after the relay was back.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_decided_while_the_relay_was_away_is_decided_when_it_is_back() {
    let mut behind = Behind::start().await;
    behind.push().await.expect_ok();
    let first = &behind.served.commit;
    let back_to_first = behind.served.repository.state(now() + 1, &[("refs/heads/main", first)]);
    behind.world.kill_gateway().await;
    // Everything that it declares is here, and nobody sees it.
    assert_eq!(behind.direct.send(&back_to_first).await, held());
    behind.world.stop_relay().await;
    behind.world.start_gateway().await;
    let failed = || {
        behind
            .world
            .gateway_log()
            .matches("cannot decide, will try again")
            .count()
    };
    eventually("it has tried again and again", async || failed() >= 8).await;

    behind.world.start_relay().await;

    let back = Instant::now();
    let mut direct = NostrClient::connect(&behind.world.relay_url()).await;
    eventually("the state is served", async || direct.serves(&back_to_first).await).await;
    took(
        "from the relay's return to a state that was waiting for a reconcile",
        back,
    );
    assert_eq!(behind.served.refs().await, main_at(&behind.served.commit));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_relay_makes_pushes_slow_and_one_that_hangs_refuses_them() {
    let mut behind = Behind::start().await;

    behind.proxy.set_delay(Duration::from_secs(60));
    let began = Instant::now();
    let said = behind.push().await.expect_refused();
    took("a push while the relay hangs", began);
    assert!(said.contains("the relay does not answer, push again later"), "{said}");
    behind.assert_reads_go_on("hanging").await;

    behind.proxy.set_delay(Duration::from_millis(300));
    let began = Instant::now();
    let said = behind.push().await;
    took("a push with 0.3 s before each message of the relay", began);
    assert!(said.ok, "{}", said.stderr);
    behind.proxy.set_delay(Duration::ZERO);
    eventually("it is served", async || behind.direct.serves(&behind.state).await).await;
    behind.assert_pushed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_restarts_in_the_middle_of_a_release_has_the_event_in_the_end() {
    let mut behind = Behind::start().await;
    for (round, moment) in Moment::ALL.into_iter().enumerate() {
        let tip = behind.served.git.commit(&format!("round-{round}")).await;
        let state = behind
            .served
            .repository
            .state(now() + 1 + round as u64, &[("refs/heads/main", &tip)]);
        let mut direct = NostrClient::connect(&behind.world.relay_url()).await;
        assert_eq!(direct.send(&state).await, held());
        let stopped = behind.proxy.stop_at(0, moment);
        let (git, url) = (behind.served.git.clone(), behind.served.url.clone());
        let push = tokio::spawn(async move { git.push(&url, &["main"]).await });

        let stopped = stopped.await.unwrap();
        behind.world.stop_relay().await;
        stopped.then(Then::Cut);
        behind.world.start_relay().await;

        let back = Instant::now();
        let mut direct = NostrClient::connect(&behind.world.relay_url()).await;
        eventually("the state is served", async || direct.serves(&state).await).await;
        took(&format!("from the relay's return to the release, {moment:?}"), back);
        let said = push.await.unwrap();
        assert!(said.ok, "{moment:?}: {}", said.stderr);
        assert_eq!(behind.served.refs().await, main_at(&tip), "{moment:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_cannot_store_now_is_tried_again_until_it_can() {
    let mut behind = Behind::start().await;
    // A new repository too: its state waits for its announcement.
    let repository = Repository::new("new");
    let git = behind.world.git("new").await;
    let commit = git.commit("one").await;
    let announcement = behind.world.announcement(&repository, now(), &[]);
    let state = repository.state(now(), &[("refs/heads/main", &commit)]);
    for event in [&announcement, &state] {
        assert_eq!(behind.direct.send(event).await, held());
    }
    behind.proxy.set_answer(Some((false, "error: no space left")));

    let quiet = behind.push().await;
    // As on a terminal.
    let shown = git
        .run(&["push", "--progress", &behind.world.url(&repository), "main"])
        .await;
    for said in [&quiet, &shown] {
        assert!(said.ok, "{}", said.stderr);
        let later = "stored; the relay does not answer right now, the events will be served when it is back";
        assert!(said.stderr.contains(later), "{}", said.stderr);
    }
    let waits = "remote: stored, waiting for the relay to store ";
    assert!(shown.stderr.contains(&format!("{waits}2 events")), "{}", shown.stderr);
    assert!(!quiet.stderr.contains(waits), "{}", quiet.stderr);
    let mut redis = redis(&behind.world).await;
    let error = field(&mut redis, &announcement.id.to_hex(), "release_error").await;
    assert_eq!(error.as_deref(), Some("error: no space left"));
    behind.proxy.set_answer(None);

    let back = Instant::now();
    eventually("the state is served", async || {
        behind.direct.serves(&behind.state).await
    })
    .await;
    took("from the relay's recovery to the state of a served repository", back);
    eventually("the new state is served", async || behind.direct.serves(&state).await).await;
    took("from the relay's recovery to announcement and state of a new one", back);
    assert!(behind.direct.serves(&announcement).await);
    behind.assert_pushed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_has_a_newer_version_of_or_a_deletion_is_dropped_and_refs_go_back() {
    for answer in ["replaced: have newer event", "deleted: user requested deletion"] {
        let mut behind = Behind::start().await;
        behind.proxy.set_answer(Some((false, answer)));

        let said = behind.push().await;

        assert!(said.ok, "{}", said.stderr);
        let dropped = Instant::now();
        let mut redis = redis(&behind.world).await;
        assert_eq!(
            field(&mut redis, &behind.state.id.to_hex(), "status").await,
            None,
            "{answer}"
        );
        eventually("the refs are those of what is served", async || {
            behind.served.refs().await == main_at(&behind.served.commit)
        })
        .await;
        took(&format!("from {answer:?} to the refs of what is served"), dropped);
        assert!(!behind.direct.serves(&behind.state).await);
        assert!(behind.direct.serves(&behind.served.state).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_does_not_come_to_its_end_decides_nothing() {
    let mut behind = Behind::start().await;
    behind.push().await.expect_ok();
    let mut redis = redis(&behind.world).await;
    behind.proxy.set_cuts_queries(true);
    // All that it declares is here: only the reconcile is missing.
    let first = &behind.served.commit;
    let back_to_first = behind.served.repository.state(now() + 1, &[("refs/heads/main", first)]);
    assert_eq!(behind.direct.send(&back_to_first).await, held());
    let failed = || {
        behind
            .world
            .gateway_log()
            .matches("cannot decide, will try again")
            .count()
    };
    eventually("it could not decide", async || failed() >= 2).await;

    behind.served.git.commit("three").await;
    let said = behind.push().await.expect_refused();
    assert!(said.contains("the relay does not answer, push again later"), "{said}");
    assert_eq!(behind.served.refs().await, main_at(&behind.second), "nothing has moved");
    let clone = behind.world.clone(&behind.served.repository, "clone").await.unwrap();
    assert_eq!(clone.rev_parse("HEAD").await, behind.second);
    let repository = behind.served.repository.coordinate().to_string();
    assert_eq!(left(&mut redis, "dirty").await, [repository], "the mark stays");
    behind.proxy.set_cuts_queries(false);

    let back = Instant::now();
    eventually("the state is served", async || {
        behind.direct.serves(&back_to_first).await
    })
    .await;
    took("from the first whole answer to the release", back);
    assert_eq!(behind.served.refs().await, main_at(&behind.served.commit));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_on_half_an_answer_and_everything_as_soon_as_it_is_whole() {
    let mut world = World::start(Kind::Strfry, OPTIONS).await;
    let proxy = TcpProxy::start(world.relay_port(), Wire::WebSocket).await;
    world.send_plugin_round(proxy.port()).await;
    let mut nostr = world.nostr().await;
    let repository = Repository::new("r");
    let announcement = world.announcement(&repository, now(), &[]);
    let mut redis = redis(&world).await;

    type Fault = fn(&TcpProxy, bool);
    let faults: [(&str, Fault); 3] = [
        ("down", |proxy, on| proxy.set_down(on)),
        ("slow", |proxy, on| {
            proxy.set_delay(Duration::from_secs(if on { 3 } else { 0 }))
        }),
        ("gives up", |proxy, on| proxy.set_cuts_queries(on)),
    ];
    for (name, fault) in faults {
        let repository = Repository::new(name);
        let announcement = world.announcement(&repository, now(), &[]);
        fault(&proxy, true);
        let began = Instant::now();
        let refused = nostr.send(&announcement).await;
        took(
            &format!("the answer to an event while the relay is {name} for the plugin"),
            began,
        );
        assert!(
            !refused.taken && refused.message.starts_with("error: "),
            "{name}: {refused:?}"
        );
        assert_eq!(field(&mut redis, &announcement.id.to_hex(), "status").await, None);
        fault(&proxy, false);

        let back = Instant::now();
        eventually("it is held", async || nostr.send(&announcement).await == held()).await;
        took(&format!("from the relay's return to a hold, {name}"), back);
    }

    // The relay dies with the event in its hands: the client sees the connection end and no OK.
    world.stop_relay().await;
    world.start_relay().await;
    assert_eq!(world.nostr().await.send(&announcement).await, held());
}

const WEBSOCKET: &str = "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A relay that does not answer has deleted nothing: refs of PRs end by what it serves.
#[tokio::test(flavor = "multi_thread")]
async fn no_ref_of_a_pull_request_goes_because_the_relay_is_away() {
    let mut world = World::start(Kind::Strfry, OPTIONS).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let gone = served.repository.pull_request(&author, &served.commit);
    let stays = served.repository.pull_request(&Keys::generate(), &served.commit);
    for event in [&stays, &gone] {
        assert_eq!(nostr.send(event).await, held());
        eventually("it is served", async || nostr.serves(event).await).await;
    }
    let has_ref = async |event: &Event| {
        let name = format!("refs/nostr/{}", event.id);
        served
            .git
            .ls_remote(&served.url)
            .await
            .iter()
            .any(|(found, _)| *found == name)
    };
    drop(nostr);
    world.kill_gateway().await;
    // Nobody hears of it: the gateway finds it when it reconciles.
    let deletion = sign(&author, 5, now(), &[tag(&["e", &gone.id.to_hex()])]);
    let mut direct = NostrClient::connect(&world.relay_url()).await;
    assert!(direct.send(&deletion).await.taken);
    let proxy = TcpProxy::start(world.relay_port(), Wire::WebSocket).await;
    proxy.set_down(true);
    let detour = Detour {
        relay_port: Some(proxy.port()),
        ..Detour::default()
    };
    let logged = world.gateway_log().len();
    world.send_gateway_round(detour).await;
    let failed = "cannot mark repositories to be reconciled, will try again";
    eventually("it reconciles in vain", async || {
        world.gateway_log()[logged..].contains(failed)
    })
    .await;
    assert!(has_ref(&stays).await && has_ref(&gone).await);

    world.send_gateway_round(Detour::default()).await;

    eventually("what is gone is found", async || !has_ref(&gone).await).await;
    assert!(has_ref(&stays).await);
}
