//! How costs grow: with the refs of a repository, with repositories, with held events.

use std::time::Duration;

use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::world::World;
use crate::load::bench::figures::Figures;
use crate::load::bench::reads::add_refs;
use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::publisher::Publisher;
use crate::load::read_rate::ConstantServer;
use crate::load::read_rate::ReadRequest;
use crate::load::read_rate::SentRequest;
use crate::load::scale::held::HeldCosts;
use crate::load::scale::start::Start;

pub(super) async fn grown_refs(refs: usize, rounds: usize, figures: &mut Figures<'_>) {
    let world = World::start(Kind::Embedded, Options::default()).await;
    let mut publisher = Publisher::announce(&world, "many").await;
    publisher.commit(&[]).await;
    publisher.publish().await;
    add_refs(&world, &publisher, refs - 1).await;
    let request = ReadRequest::InfoRefs.of(&world, &publisher.repository);
    let server = ConstantServer::start(world.folder()).await;
    let constant = server.like(&request).await;
    figures.beside(SentRequest::answer_times([&request, &constant], rounds).await.map(ms));
    let mut pushes = Vec::new();
    let after = request
        .time_after_change(rounds, async || {
            publisher.commit(&[]).await;
            pushes.push(publisher.publish().await);
        })
        .await;
    figures.alone(ms(median(&pushes)));
    figures.alone(ms(after));
}

pub(super) async fn grown_repositories(count: usize, pushes: usize, watch: Duration, figures: &mut Figures<'_>) {
    let starts = Start::measure(count, count, pushes, watch).await;
    let [one, all, ..] = &starts[..] else {
        panic!("{} starts", starts.len());
    };
    figures.beside([all, one].map(|start| ms(start.first_refs)));
    figures.beside([all, one].map(|start| ms(start.push)));
    figures.beside([all, one].map(|start| start.peak_kib as f64 * 1024.0 / 1e6));
}

pub(super) async fn grown_held(held: usize, pushes: usize, figures: &mut Figures<'_>) {
    let costs = HeldCosts::measure(held, pushes).await;
    for [without, with] in [costs.event, costs.push, costs.script] {
        figures.beside([ms(with), ms(without)]);
    }
    figures.alone(costs.redis_bytes as f64 / held as f64);
}
