//! How lines are measured.

use std::time::Duration;

use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::world::World;
use crate::load::bench::clones::clones;
use crate::load::bench::figures::Figures;
use crate::load::bench::growth::grown_held;
use crate::load::bench::growth::grown_refs;
use crate::load::bench::growth::grown_repositories;
use crate::load::bench::memory::memory;
use crate::load::bench::reads::Reads;
use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::push_time::PushTimes;
use crate::load::push_time::measure_many_refs;
use crate::load::read_rate::ReadRequest;
use crate::load::steady_reading::read_while_refs_change;

/// A measurement, with its sizes.
#[derive(Debug, Clone)]
pub(super) enum Measure {
    /// Requests of readers: of each how many a second, about a repository with so many tags, and the rest.
    Reads {
        requests: Vec<(ReadRequest, usize)>,
        time: Duration,
        tags: usize,
        refs: usize,
        rounds: usize,
    },
    /// Small pushes, and their events.
    SmallPushes { kind: Kind, repositories: usize },
    /// Pushes of many refs.
    ManyRefs {
        kind: Kind,
        refs: usize,
        repositories: usize,
    },
    /// Clones of a long history.
    Clones { commits: usize, rounds: usize },
    /// Memory in a large push and a large clone.
    Memory { kind: Kind, bytes: usize, pushes: usize },
    /// What readers see while refs change.
    Steady { kind: Kind, updates: usize },
    /// With so many refs.
    GrownRefs { refs: usize, rounds: usize },
    /// With so many repositories.
    GrownRepositories {
        count: usize,
        pushes: usize,
        watch: Duration,
    },
    /// With so many held events.
    GrownHeld { held: usize, pushes: usize },
}

impl Measure {
    /// Measures.
    ///
    /// # Panics
    /// Something cannot be measured.
    pub(super) async fn run(&self, figures: &mut Figures<'_>) {
        match self {
            Self::Reads {
                requests,
                time,
                tags,
                refs,
                rounds,
            } => {
                let mut reads = Reads::start(*tags, *rounds).await;
                reads.rates(requests, *time, figures).await;
                reads.after_change(figures).await;
                reads.large(*refs, figures).await;
                reads.nothing_new(figures).await;
            }
            Self::SmallPushes { kind, repositories } => {
                let world = World::start(*kind, Options::default()).await;
                let times = PushTimes::measure(&world, *repositories).await;
                let [into_world, into_file, refused] = times.medians();
                figures.beside([into_world, into_file]);
                figures.beside([&times.next_into_world, &times.next_into_file].map(|times| ms(median(times))));
                figures.beside([refused, into_file]);
                figures.alone(ms(median(&times.events)));
            }
            Self::ManyRefs {
                kind,
                refs,
                repositories,
            } => {
                let world = World::start(*kind, Options::default()).await;
                for times in measure_many_refs(&world, *repositories, *refs).await {
                    let [into_world, into_file, refused] = times.medians();
                    figures.beside([into_world, into_file]);
                    figures.beside([refused, into_file]);
                }
            }
            Self::Clones { commits, rounds } => clones(*commits, *rounds, figures).await,
            Self::Memory { kind, bytes, pushes } => memory(*kind, *bytes, *pushes, figures).await,
            Self::Steady { kind, updates } => steady(*kind, *updates, figures).await,
            Self::GrownRefs { refs, rounds } => grown_refs(*refs, *rounds, figures).await,
            Self::GrownRepositories { count, pushes, watch } => {
                grown_repositories(*count, *pushes, *watch, figures).await;
            }
            Self::GrownHeld { held, pushes } => grown_held(*held, *pushes, figures).await,
        }
    }
}

async fn steady(kind: Kind, updates: usize, figures: &mut Figures<'_>) {
    let options = Options {
        // Replaced packs go while others read.
        gateway: &["--maintenance-packs-max=2", "--replaced-packs-keep-secs=30"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let seen = read_while_refs_change(&world, updates).await;
    for (bad, of) in [
        (seen.with_missing_refs, seen.listings),
        (seen.halves, seen.listings),
        (seen.failed_clones, seen.clones),
    ] {
        figures.beside([bad as f64, of as f64]);
    }
}
