//! A short form of `scripts/bench`: everything is measured once, with little. No figures are looked at.

use tests::load::bench::row::Line;
use tests::load::bench::rows::measurements;
use tests::load::bench::run;
use tests::load::bench::sizes::Sizes;

#[tokio::test(flavor = "multi_thread")]
async fn every_line_has_its_figure() {
    let measurements = measurements(&Sizes::SHORT);
    let mut told = Vec::new();

    let lines = run(&measurements, |progress| told.extend(progress.ended.map(Line::cells))).await;

    let failed: Vec<&str> = lines
        .iter()
        .filter(|line| line.figure.is_none())
        .map(|line| line.row.what.as_str())
        .collect();
    assert!(failed.is_empty(), "not measured: {failed:#?}");
    assert!(lines.len() > 40, "only {} lines", lines.len());
    assert_eq!(lines.iter().map(Line::cells).collect::<Vec<_>>(), told);
}
