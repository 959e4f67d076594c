//! Floods a server with announcements while somebody else works (`scripts/flood`).
//!
//! `flood [<announcements> [<authors>]]`; ends with 1 if a bound is broken.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;
use tests::load::flood::Flood;

/// The flood is to reach the limits on held events, not those on a day.
const OPTIONS: Options = Options {
    held: &["--new-repositories-per-source-and-day-max=1000000"],
    ..Options::DEFAULT
};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let announcements = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let authors = arguments.next().map_or(Ok(1000), |count| count.parse())?;
    let mut world = World::start(Kind::Strfry, OPTIONS).await;
    // What is the default of both programs.
    let flood = Flood {
        announcements,
        authors,
        per_author_max: 1000,
        per_source_max: 10_000,
    };

    let flooded = flood.run(&mut world).await;

    let mut output = std::io::stdout().lock();
    writeln!(output, "{flooded}")?;
    let complaints = flooded.complaints();
    for complaint in &complaints {
        writeln!(output, "BROKEN: {complaint}")?;
    }
    Ok(match complaints.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
