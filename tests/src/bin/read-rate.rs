//! Measures how many requests a second readers are answered (`scripts/read-rate`).
//!
//! `read-rate [<seconds>]`: of each kind, half of it for the constant body beside.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;
use tests::load::read_rate::ReadRate;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(6), |seconds| seconds.parse())?;
    let world = World::start(Kind::Embedded, Options::default()).await;
    for rate in ReadRate::measure(&world, Duration::from_secs(seconds)).await {
        writeln!(std::io::stdout(), "{rate}")?;
    }
    Ok(())
}
