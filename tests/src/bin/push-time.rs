//! Measures how long a `git push` takes beside one to `file://` (`scripts/push-time`).
//!
//! `push-time [<repositories>]`: one small push into each, embedded and beside a relay with Redis.
//! `push-time <repositories> --refs <n>`: into each one push that creates so many branches, and one that moves them.

use std::error::Error;
use std::io::Write;

use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;
use tests::load::push_time::PushTimes;
use tests::load::push_time::measure_many_refs;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (repositories, refs) = match arguments[..] {
        [] => (30, None),
        [repositories] => (repositories.parse()?, None),
        [repositories, "--refs", refs] => (repositories.parse()?, Some(refs.parse()?)),
        _ => return Err("push-time [<repositories> [--refs <n>]]".into()),
    };
    for (name, kind) in [("embedded", Kind::Embedded), ("beside strfry", Kind::Strfry)] {
        let world = World::start(kind, Options::default()).await;
        match refs {
            None => {
                let times = PushTimes::measure(&world, repositories).await;
                print(
                    &format!("{name}: {repositories} small pushes into fresh repositories"),
                    &times,
                )?;
            }
            Some(refs) => {
                let [created, moved] = measure_many_refs(&world, repositories, refs).await;
                for (what, times) in [("create", created), ("move", moved)] {
                    print(
                        &format!("{name}: {repositories} pushes that {what} {refs} refs"),
                        &times,
                    )?;
                }
            }
        }
    }
    Ok(())
}

fn print(what: &str, times: &PushTimes) -> std::io::Result<()> {
    let [into_world, into_file, refused] = times.medians().map(|median| median.as_secs_f64() * 1e3);
    let ratio = into_world / into_file;
    let mut line = format!("{what}: p50 {into_world:.1} ms; file:// {into_file:.1} ms; {ratio:.2} times");
    if !times.refused.is_empty() {
        let ratio = refused / into_file;
        line += &format!("; one that is refused, which is the client's own time, {refused:.1} ms, {ratio:.2} times");
    }
    writeln!(std::io::stdout(), "{line}")
}
