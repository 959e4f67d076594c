//! Counts what readers see while many refs change and the repository is maintained (`tests::load::steady_reading`).
//!
//! `steady-reading [<updates>]`: 10,000 ref updates, embedded and beside a relay with Redis.

use std::error::Error;
use std::io::Write;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;
use tests::load::steady_reading::read_while_refs_change;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let updates = std::env::args().nth(1).map_or(Ok(10_000), |count| count.parse())?;
    for (name, kind) in [("embedded", Kind::Embedded), ("beside strfry", Kind::Strfry)] {
        let options = Options {
            // Replaced packs go while others read.
            gateway: &["--maintenance-packs-max=2", "--replaced-packs-keep-secs=30"],
            ..Options::default()
        };
        let world = World::start(kind, options).await;
        let readings = read_while_refs_change(&world, updates).await;
        writeln!(std::io::stdout(), "{name}: {readings:?}")?;
    }
    Ok(())
}
