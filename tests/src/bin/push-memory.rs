//! Measures what the gateway takes of the memory while many clients push at the same time (`scripts/push-memory`).
//!
//! `push-memory [<clients> [<MB of each push>]]`; ends with 1 if it is more than it may be.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;
use tests::load::push_memory::GROWTH_KIB_MAX;
use tests::load::push_memory::PushMemory;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let clients = arguments.next().map_or(Ok(50), |count| count.parse())?;
    let megabytes: usize = arguments.next().map_or(Ok(20), |count| count.parse())?;
    let world = World::start(Kind::Strfry, Options::default()).await;

    let measured = PushMemory::measure(&world, clients, megabytes * 1_000_000).await;

    let mib = |kib: u64| kib / 1024;
    writeln!(
        std::io::stdout(),
        "{clients} clients, {megabytes} MB each, all pushed in {} s\n\
         gateway: {} MiB idle, {} MiB at most, {} MiB more (it may be {})\n\
         its gits, apart: {} MiB at most, {} at the same time at most",
        measured.duration.as_secs(),
        mib(measured.idle_kib),
        mib(measured.peak_kib),
        mib(measured.growth_kib()),
        mib(GROWTH_KIB_MAX),
        mib(measured.children_kib),
        measured.children,
    )?;
    Ok(match measured.growth_kib() <= GROWTH_KIB_MAX {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
