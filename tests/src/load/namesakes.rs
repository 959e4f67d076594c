//! What it costs that strangers use the same name: events and pushes of repositories whose identifier many others use,
//! beside those whose identifier nobody else uses.

use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;

use crate::clients::nostr::NostrClient;
use crate::clients::nostr::now;
use crate::harness::repository::Repository;
use crate::harness::world::World;

/// What was measured, each time in turns: of a name that nobody else uses, and of one that many do.
#[derive(Debug, Default)]
pub struct NamesakeTimes {
    /// From an event to its answer.
    pub events: [Vec<Duration>; 2],
    /// A push, with its events served at the end.
    pub pushes: [Vec<Duration>; 2],
}

impl NamesakeTimes {
    /// Lets so many strangers hold an announcement and a state of one identifier each, and then publishes and pushes so
    /// many repositories with that identifier, and with others.
    ///
    /// # Panics
    /// An event is refused, or a push fails.
    pub async fn measure(world: &World, strangers: usize, repositories: usize) -> Self {
        let mut nostr = world.nostr().await;
        for _ in 0..strangers {
            let repository = Repository::new(CROWDED);
            for event in events(world, &repository, &"a".repeat(40)) {
                send(&mut nostr, &event).await;
            }
        }
        let mut times = Self::default();
        for number in 0..repositories {
            for (place, name) in [format!("quiet-{number}"), CROWDED.to_owned()].iter().enumerate() {
                times.one(world, &mut nostr, place, name, number).await;
            }
        }
        times
    }

    async fn one(&mut self, world: &World, nostr: &mut NostrClient, place: usize, name: &str, number: usize) {
        let git = world.git(&format!("client-{place}-{number}")).await;
        let commit = git.commit("one").await;
        let repository = Repository::new(name);
        for event in events(world, &repository, &commit) {
            let started = Instant::now();
            send(nostr, &event).await;
            self.events[place].push(started.elapsed());
        }
        let started = Instant::now();
        git.push(&world.url(&repository), &["main"]).await.expect_ok();
        self.pushes[place].push(started.elapsed());
    }
}

fn events(world: &World, repository: &Repository, commit: &str) -> [Event; 2] {
    let announcement = world.announcement(repository, now(), &[]);
    [announcement, repository.state(now(), &[("refs/heads/main", commit)])]
}

async fn send(nostr: &mut NostrClient, event: &Event) {
    let answer = nostr.send(event).await;
    assert!(answer.taken, "{answer:?}");
}

/// The name that everybody uses.
const CROWDED: &str = "dotfiles";
