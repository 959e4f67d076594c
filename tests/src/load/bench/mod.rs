//! What git and its readers get here, beside what the machine could give, line by line (`scripts/bench`,
//! docs/performance.md).

mod clones;
mod figures;
mod growth;
pub mod machine;
mod measure;
mod memory;
mod reads;
pub mod row;
pub mod rows;
pub mod sizes;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::load::bench::figures::Figures;
pub use crate::load::bench::figures::Measured;
use crate::load::bench::row::Line;
use crate::load::bench::rows::Measurement;

/// Measures one after the other, and tells how far it is. One that fails ends no other: the lines that are left of it
/// have no figures.
pub async fn run(measurements: &[Measurement], mut tell: impl FnMut(&Measured<'_>)) -> Vec<Line> {
    let count = measurements.iter().map(|measurement| measurement.rows.len()).sum();
    let mut lines = Vec::with_capacity(count);
    for Measurement { part, rows, measure } in measurements {
        let mut figures = Figures::begin(*part, rows, (&mut lines, count), &mut tell);
        let measured = AssertUnwindSafe(measure.run(&mut figures)).catch_unwind().await;
        // Why it failed was said when it panicked.
        drop(measured);
        figures.end();
    }
    lines
}
