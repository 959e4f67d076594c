//! The short form of what `scripts/plugin-rate` measures: everything is measured, and every answer is right.

use std::time::Duration;

use tests::load::plugin_rate::PluginRate;

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_is_measured_in_every_way_and_no_answer_is_wrong() {
    let rates = PluginRate {
        plugin: None,
        notes: 200,
        published: 40,
        git_events: 20,
        held: 100,
        patience: Duration::from_millis(100),
    }
    .measure()
    .await;

    assert!(rates.wrong.is_empty(), "{:#?}", rates.wrong);
    let names: Vec<&str> = rates.lines.iter().map(|line| &*line.row.what).collect();
    for name in [
        "pass-through, line by line",
        "pass-through, in a stream",
        "pass-through, through a relay",
        "Redis' memory, with 100 held",
        "announcements",
        "states",
        "PRs",
        "comments on what is served",
        "comments behind held PRs",
        "states, with 100 held",
        "while Redis hangs",
        "while the relay hangs",
        "while Redis is down",
        "while the relay is down",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    // What a slow machine does not change.
    let steps = rates.lines.iter().filter(|line| line.row.unit == "scripts");
    assert!(
        steps.clone().all(|line| line.verdict() != "over"),
        "{:?}",
        steps.collect::<Vec<_>>()
    );
}
