//! What readers of refs and pages get.

use std::time::Duration;

use crate::faults::git_wrapper::GitWrapper;
use crate::faults::git_wrapper::wrap_git;
use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::wait::eventually;
use crate::harness::world::World;
use crate::load::bench::figures::Figures;
use crate::load::measure::ms;
use crate::load::publisher::Publisher;
use crate::load::read_rate::ConstantServer;
use crate::load::read_rate::ReadRequest;
use crate::load::read_rate::SentRequest;

/// A server with a repository of one branch, and one of many tags.
pub(super) struct Reads {
    world: World,
    gits: GitWrapper,
    constant: ConstantServer,
    one: Publisher,
    many: Publisher,
    rounds: usize,
}

impl Reads {
    pub(super) async fn start(tags: usize, rounds: usize) -> Self {
        let mut world = World::start(Kind::Embedded, Options::default()).await;
        let gits = wrap_git(&mut world).await;
        let constant = ConstantServer::start(world.folder()).await;
        let mut one = Publisher::announce(&world, "one").await;
        let mut many = Publisher::announce(&world, "many").await;
        let tags: Vec<String> = (0..tags).map(|number| format!("refs/tags/v{number}")).collect();
        for (publisher, tags) in [(&mut one, &[][..]), (&mut many, &tags[..])] {
            publisher.commit(tags).await;
            publisher.publish().await;
        }
        Self {
            world,
            gits,
            constant,
            one,
            many,
            rounds,
        }
    }

    /// Of each request how many answers a second come.
    pub(super) async fn rates(&self, requests: &[(ReadRequest, usize)], time: Duration, figures: &mut Figures<'_>) {
        for (request, tags) in requests {
            let publisher = if *tags == 0 { &self.one } else { &self.many };
            let request = request.of(&self.world, &publisher.repository);
            let constant = self.constant.like(&request).await;
            figures.beside(SentRequest::rates([&request, &constant], time).await);
        }
    }

    /// The first answer after a push, with many tags.
    pub(super) async fn after_change(&mut self, figures: &mut Figures<'_>) {
        let (many, rounds) = (&mut self.many, self.rounds);
        let request = ReadRequest::InfoRefs.of(&self.world, &many.repository);
        let change = async || {
            many.commit(&[]).await;
            many.publish().await;
        };
        figures.alone(ms(request.time_after_change(rounds, change).await));
    }

    /// Answers of so many refs.
    pub(super) async fn large(&self, refs: usize, figures: &mut Figures<'_>) {
        let mut large = Publisher::announce(&self.world, "large").await;
        large.commit(&[]).await;
        large.publish().await;
        add_refs(&self.world, &large, refs - 1).await;
        for request in [ReadRequest::InfoRefs, ReadRequest::LsRefsAll] {
            let request = request.of(&self.world, &large.repository);
            let constant = self.constant.like(&request).await;
            let times = SentRequest::answer_times([&request, &constant], self.rounds).await;
            figures.beside(times.map(ms));
        }
    }

    /// How many git processes the server needs when nothing is new for those who fetch.
    pub(super) async fn nothing_new(&self, figures: &mut Figures<'_>) {
        let clone = self
            .world
            .clone(&self.many.repository, "clone")
            .await
            .expect("it can be cloned");
        let before = self.runs_at_rest().await;
        for version in [0, 2] {
            let version = format!("protocol.version={version}");
            for _ in 0..self.rounds {
                clone.run(&["-c", &version, "fetch", "--quiet"]).await.expect_ok();
            }
        }
        figures.alone((self.gits.all_runs() - before) as f64);
    }

    /// Waits until the server has run no git for a second, and returns how many it has run.
    async fn runs_at_rest(&self) -> u64 {
        let (mut runs, mut looks) = (self.gits.all_runs(), 0);
        eventually("the server runs no git", async || {
            let now = self.gits.all_runs();
            looks = if now == runs { looks + 1 } else { 0 };
            runs = now;
            looks > 100
        })
        .await;
        runs
    }
}

/// Writes so many refs more into a repository of the server. An event declares some thousand at the most, so these are
/// neither branches nor tags.
pub(super) async fn add_refs(world: &World, publisher: &Publisher, count: usize) {
    let packed = world.repository_dir(&publisher.repository).join("packed-refs");
    let before = std::fs::read_to_string(&packed).unwrap_or_default();
    let request = ReadRequest::InfoRefs.of(world, &publisher.repository);
    let (bytes, commit) = (request.body_bytes().await, publisher.git.rev_parse("main").await);
    let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    text.extend(
        before
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n")),
    );
    text.extend((0..count).map(|number| format!("{commit} refs/imported/{number:06}\n")));
    let beside = packed.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, &packed).unwrap();
    eventually("all refs are shown", async || {
        request.body_bytes().await >= bytes + 60 * count
    })
    .await;
}
