//! Two gateways on one data directory, one Redis and one relay, and several plugins: whatever comes through which, each
//! answer is true afterwards, and one goes on where the other dies. These need a Redis, so they run in the strfry world
//! only.

use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use tests::clients::git::GitClient;
use tests::clients::git::Said;
use tests::clients::http::KeepAlive;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::faults::frames::Wire;
use tests::faults::git_wrapper::GitMoment;
use tests::faults::git_wrapper::GitWrapper;
use tests::faults::held_refs::HeldRefs;
use tests::faults::tcp_proxy::Moment;
use tests::faults::tcp_proxy::TcpProxy;
use tests::faults::tcp_proxy::Then;
use tests::harness::gateway::Detour;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::repository::Repository;
use tests::harness::second_gateway::Gateway;
use tests::harness::wait::eventually;
use tests::harness::world::World;
use tests::load::measure::heard;
use tests::load::measure::took;

use crate::fixture::Served;
use crate::fixture::held;

/// A world with a second gateway.
struct Two {
    world: World,
    other: Gateway,
    /// At the relay itself.
    relay: NostrClient,
}

impl Two {
    async fn start() -> Self {
        let world = World::start(Kind::Strfry, Options::default()).await;
        let other = world.another_gateway(&Detour::default()).await;
        let relay = NostrClient::connect(&world.relay_url()).await;
        Self { world, other, relay }
    }

    async fn is_served_or_overtaken(&mut self, state: &Event, newer: &Event) -> bool {
        self.relay.serves(state).await || self.relay.serves(newer).await
    }

    /// Both gateways give the refs that the newest served state declares; one that has not made the change may give
    /// what it has read up to a second before.
    async fn assert_governed(&mut self, served: &Served, expected: &str) {
        let expected = [("refs/heads/main".to_owned(), expected.to_owned())];
        eventually("the first gateway gives it", async || served.refs().await == expected).await;
        eventually("the second gives it", async || {
            self.other.refs(&served.git, &served.repository).await == expected
        })
        .await;
    }
}

/// A working directory of somebody else with a commit of its own on top of what is served.
struct Pusher {
    git: GitClient,
    commit: String,
    state: Event,
}

impl Pusher {
    async fn new(world: &World, served: &Served, name: &str, created_at: u64) -> Self {
        let git = world.clone(&served.repository, name).await.unwrap();
        let commit = git.commit(name).await;
        let state = served.repository.state(created_at, &[("refs/heads/main", &commit)]);
        Self { git, commit, state }
    }

    async fn push(&self, url: &str) -> Said {
        let refspec = format!("+{}:refs/heads/main", self.commit);
        self.git.push(url, &[&refspec]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_states_pushed_at_once_through_both_the_newer_governs_and_every_ok_was_true() {
    let mut two = Two::start().await;
    let served = Served::new(&two.world, &mut two.world.nostr().await, "r").await;
    for round in 0..ROUNDS {
        let at = now() + 2 * round;
        let older = Pusher::new(&two.world, &served, &format!("older-{round}"), at).await;
        let newer = Pusher::new(&two.world, &served, &format!("newer-{round}"), at + 1).await;
        for state in [&older.state, &newer.state] {
            assert_eq!(two.relay.send(state).await, held());
        }
        let (here, there) = (served.url.clone(), two.other.url(&served.repository));
        let urls = if round % 2 == 0 { (here, there) } else { (there, here) };

        let (of_older, of_newer) = tokio::join!(older.push(&urls.0), newer.push(&urls.1));

        for (pusher, said, url) in [(&older, of_older, &urls.0), (&newer, of_newer, &urls.1)] {
            if said.ok {
                assert!(
                    two.is_served_or_overtaken(&pusher.state, &newer.state).await,
                    "round {round}"
                );
                continue;
            }
            assert!(says_who_was_faster(&said.stderr), "round {round}: {}", said.stderr);
            let again = pusher.push(url).await;
            // What is older than what is served by now is no candidate any more.
            assert!(
                again.ok || pusher.commit == older.commit,
                "round {round}: {}",
                again.stderr
            );
        }
        assert!(two.relay.serves(&newer.state).await, "round {round}");
        two.assert_governed(&served, &newer.commit).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_state_pushed_at_once_through_both_is_served_once_and_both_pushes_succeed() {
    let mut two = Two::start().await;
    let served = Served::new(&two.world, &mut two.world.nostr().await, "r").await;
    for round in 0..ROUNDS {
        let pusher = Pusher::new(&two.world, &served, &format!("work-{round}"), now() + round).await;
        assert_eq!(two.relay.send(&pusher.state).await, held());
        let there = two.other.url(&served.repository);

        let (here, there) = tokio::join!(pusher.push(&served.url), pusher.push(&there));

        assert!(here.ok && there.ok, "round {round}: {} {}", here.stderr, there.stderr);
        assert!(two.relay.serves(&pusher.state).await, "round {round}");
        two.assert_governed(&served, &pusher.commit).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn different_repositories_go_through_both_gateways_and_several_plugins_at_once() {
    let two = std::sync::Arc::new(Two::start().await);
    let began = Instant::now();
    let mut pushes = tokio::task::JoinSet::new();
    for number in 0..REPOSITORIES {
        let two = std::sync::Arc::clone(&two);
        pushes.spawn(async move {
            let repository = Repository::new(&format!("r{number}"));
            let git = two.world.git(&format!("work-{number}")).await;
            let commit = git.commit("one").await;
            let announcement = two.world.announcement(&repository, now(), &[]);
            let state = repository.state(now(), &[("refs/heads/main", &commit)]);
            // Every second one's events come by plugins of their own, as a router's do.
            let mut nostr = two.other.nostr().await;
            for event in [&announcement, &state] {
                match number % 2 {
                    0 => assert_eq!(nostr.send(event).await, held()),
                    _ => assert_eq!(two.world.stream(event).await["msg"], held().message),
                }
            }
            let url = if number % 3 == 0 {
                two.world.url(&repository)
            } else {
                two.other.url(&repository)
            };
            git.push(&url, &["main"]).await.expect_ok();
            assert!(
                nostr.serves(&announcement).await && nostr.serves(&state).await,
                "{number}"
            );
            let expected = [("refs/heads/main".to_owned(), commit)];
            assert_eq!(two.other.refs(&git, &repository).await, expected, "{number}");
        });
    }
    while let Some(pushed) = pushes.join_next().await {
        pushed.unwrap();
    }
    took(&format!("{REPOSITORIES} new repositories through two gateways"), began);
}

/// Each gives from memory what its readers have found, and learns of what the other changes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_through_one_is_soon_read_from_the_other_however_many_read_there() {
    let mut two = Two::start().await;
    let served = Served::new(&two.world, &mut two.world.nostr().await, "r").await;
    let path = wire::path::repository_path(&served.repository.coordinate());
    let path = format!("{path}/info/refs?service=git-upload-pack");
    let mut readers = tokio::task::JoinSet::new();
    for authority in [two.other.authority(), two.world.authority()] {
        let (mut client, path) = (KeepAlive::new(authority), path.clone());
        readers.spawn(async move {
            loop {
                drop(client.get(&path).await);
            }
        });
    }
    for round in 0..ROUNDS {
        let at = now() + 2 * round;
        let first = Pusher::new(&two.world, &served, &format!("first-{round}"), at).await;
        let second = Pusher::new(&two.world, &served, &format!("second-{round}"), at + 1).await;
        for state in [&first.state, &second.state] {
            assert_eq!(two.relay.send(state).await, held());
        }

        first.push(&served.url).await.expect_ok();
        // At once where it was pushed.
        let expected = [("refs/heads/main".to_owned(), first.commit.clone())];
        assert_eq!(served.refs().await, expected, "round {round}");
        // It replaces what the other gateway has just written, whatever readers are given there.
        second.push(&two.other.url(&served.repository)).await.expect_ok();

        two.assert_governed(&served, &second.commit).await;
    }
}

/// Where a gateway dies in a push.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// Before or after a run of git.
    Git(&'static str, GitMoment),
    /// Behind the objects, before the refs.
    BeforeRefs,
    /// At the first event that it publishes.
    Event(Moment),
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_gateway_dies_in_a_push_the_other_goes_on() {
    let two = Two::start().await;
    let mut relay = NostrClient::connect(&two.world.relay_url()).await;
    let served = Served::new(&two.world, &mut two.other.nostr().await, "r").await;
    let deaths = [
        (Death::Git("index-pack", GitMoment::After), false),
        (Death::BeforeRefs, true),
        (Death::Event(Moment::BeforeCommand), true),
        (Death::Event(Moment::AfterCommand), true),
        (Death::Event(Moment::BeforeAnswer), true),
        (Death::Event(Moment::AfterAnswer), true),
    ];
    for (round, (death, is_complete)) in deaths.into_iter().enumerate() {
        let pusher = Pusher::new(&two.world, &served, &format!("work-{round}"), now() + round as u64).await;
        assert_eq!(relay.send(&pusher.state).await, held());

        let said = push_and_die(&two.world, &served, &pusher, death).await;

        let died = Instant::now();
        heard(&format!("a push, gateway killed, {death:?}"), &said.stderr);
        // Whoever has the relay's answer may have told the pusher before it dies.
        assert!(
            !said.ok || matches!(death, Death::Event(Moment::AfterAnswer)),
            "{death:?}: a push that is cut off does not succeed: {}",
            said.stderr
        );
        if !is_complete {
            pusher.push(&served.url).await.expect_ok();
        }
        eventually("the other gateway has finished it", async || {
            relay.serves(&pusher.state).await
        })
        .await;
        took(&format!("from the death of a gateway, {death:?}, to the release"), died);
        let expected = [("refs/heads/main".to_owned(), pusher.commit.clone())];
        eventually("the first gateway gives it", async || served.refs().await == expected).await;
        // Whoever was cut off tries again and hears that it is done.
        pusher.push(&served.url).await.expect_ok();
    }
}

/// Pushes through a gateway of its own, which dies. Returns what git says.
async fn push_and_die(world: &World, served: &Served, pusher: &Pusher, death: Death) -> Said {
    let folder = world.folder().join(format!("bin-{}", pusher.commit));
    let wrapper = GitWrapper::install(&folder);
    let proxy = TcpProxy::start(world.relay_port(), Wire::WebSocket).await;
    let detour = Detour {
        relay_port: Some(proxy.port()),
        path: Some(wrapper.path()),
        ..Detour::default()
    };
    let mut dying = world.another_gateway(&detour).await;
    let url = dying.url(&served.repository);
    let held = match death {
        Death::BeforeRefs => Some(HeldRefs::of(&world.repository_dir(&served.repository))),
        Death::Git(..) | Death::Event(_) => None,
    };
    let dies = async {
        match death {
            Death::BeforeRefs => {
                let held = held.unwrap();
                held.objects_are_in().await;
                dying.kill().await;
                drop(held);
            }
            Death::Git(subcommand, moment) => {
                let run = wrapper.run_of(subcommand, moment).await;
                dying.kill().await;
                drop(run);
            }
            Death::Event(moment) => {
                let stopped = proxy.stop_at(0, moment).await.unwrap();
                dying.kill().await;
                stopped.then(Then::Cut);
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), dies);
    let (said, died) = tokio::join!(pusher.push(&url), in_time);
    assert!(died.is_ok(), "{death:?} did not come: {}", said.stderr);
    said
}

/// The refusals of a push that comes too late, by a moment or by the whole push of another.
fn says_who_was_faster(said: &str) -> bool {
    [
        "stale: ",
        "another state event has overtaken this push",
        "no state event declares the result of this push",
    ]
    .iter()
    .any(|text| said.contains(text))
}

const ROUNDS: u64 = 6;
const REPOSITORIES: usize = 12;
