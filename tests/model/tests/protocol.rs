//! The protocol holds in every configuration of the model, and each known mistake breaks it in one of them.

use std::fs;
use std::path::Path;

use protocol_model::*;

#[test]
fn no_configuration_has_a_counterexample() {
    let document = fs::read_to_string(document()).unwrap();
    let configurations = configurations();
    assert!(configurations.len() > 10, "only {}", configurations.len());
    for configuration in configurations {
        let found = configuration.explore();

        let Configuration { name, .. } = configuration;
        assert!(found.broken.is_empty(), "{name}: {}", texts(&found.broken).join("\n"));
        assert!(found.has_end, "{name}: nothing comes to its end");
        let row = format!("| {name} | {} |", found.states);
        assert!(document.contains(&row), "docs/protocol.md does not say {row}");
    }
}

/// Each in a configuration that has no counterexample without the mistake, by the test above.
#[test]
fn each_mistake_breaks_an_invariant() {
    assert_eq!(MISTAKES.map(|(bug, ..)| bug), Bug::ALL, "each mistake has a row");

    let document = fs::read_to_string(document()).unwrap();
    for (bug, name, invariant) in MISTAKES {
        let configuration = configurations()
            .into_iter()
            .find(|configuration| configuration.name == name);
        let found = configuration.expect("it has that name").with_bug(bug).find(invariant);

        assert!(found.is_some(), "{bug:?} does not break {invariant:?} in {name:?}");
        let row = format!("| `{bug:?}` | {name} | {invariant} |");
        assert!(document.contains(&row), "docs/protocol.md does not say {row}");
    }
}

/// The steps are those of the programs: a script that is renamed is renamed in the model.
#[test]
fn every_script_that_the_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = root.join("../../shared/src/purgatory/store/scripts");
    let model = ["action.rs", "scripts.rs"].map(|file| fs::read_to_string(root.join("src").join(file)).unwrap());
    let quoted = model.iter().flat_map(|text| text.split('`').skip(1).step_by(2));

    let mut named = 0;
    for name in quoted.filter(|quoted| quoted.ends_with(".lua")) {
        assert!(scripts.join(name).exists(), "{name}");
        named += 1;
    }

    assert!(named > 20, "only {named}");
}

/// Each mistake, a configuration that has no counterexample without it, and the invariant that it breaks there.
const MISTAKES: [(Bug, &str, &str); 26] = [
    (Bug::SettleBeforePublish, "two maintainers", NOTHING_LOST),
    (Bug::SettleWithoutLease, "the newer state is deleted", DELETION_STAYS),
    (Bug::HeldIsStored, "Redis fails over", NOTHING_LOST),
    (Bug::ClearUnconditionally, "two maintainers", COMPLETE_IS_RELEASED),
    (Bug::DirtyBeforeUpload, "two maintainers", COMPLETE_IS_RELEASED),
    (Bug::NoOtherPublisher, "two maintainers", RELEASING_ENDS),
    (
        Bug::GoverningWithoutReleasing,
        "two states of one author",
        NOT_OLDER_OVER_NEWER,
    ),
    (
        Bug::RelayBeforePurgatory,
        "two states of one author",
        NOT_OLDER_OVER_NEWER,
    ),
    (Bug::ShortReadIsFact, "two maintainers", NOT_OLDER_OVER_NEWER),
    (Bug::PluginJudgesData, "two maintainers", NOT_SERVED_EARLY),
    (
        Bug::ReleasedOutOfOrder,
        "a repository begins",
        NOT_BEFORE_ITS_ANNOUNCEMENT,
    ),
    (Bug::ExpireWithoutWidening, "a PR to two repositories", NOTHING_LOST),
    (Bug::AnswerWithoutWait, "Redis fails over", NOTHING_LOST),
    (
        Bug::OnlyHeldIsMarked,
        "Redis fails over and a program dies",
        REFS_GOVERNED,
    ),
    (Bug::NothingIsWrittenAgain, "Redis comes back empty", NOTHING_LOST),
    (
        Bug::ReleasedAgainWithoutReconcile,
        "Redis comes back empty",
        REFS_GOVERNED,
    ),
    (
        Bug::OwnCommitsIgnoredForGood,
        "the newer state is deleted and the relay goes away",
        REFS_GOVERNED,
    ),
    (
        Bug::ExpireWithoutReading,
        "the disk fails where a repository begins",
        NOTHING_LOST,
    ),
    (
        Bug::LeftWithoutMark,
        "a push to one of two repositories of a maintainer set",
        REFS_GOVERNED,
    ),
    (
        Bug::ExtendedWithoutReading,
        "a repository that lists another's owner begins",
        NOT_OLDER_OVER_NEWER,
    ),
    (
        Bug::UnreadIsSettled,
        "a repository that lists another's owner is brought along",
        REFS_GOVERNED,
    ),
    (
        Bug::ListingsAreNeverMended,
        "Redis comes back empty under a repository that lists another's owner",
        REFS_GOVERNED,
    ),
    (
        Bug::NotedInSilence,
        "a repository that lists another's owner begins",
        REFS_GOVERNED,
    ),
    (
        Bug::ReliesOnUnlocked,
        "the disk fails under two maintainers",
        NOTHING_LOST,
    ),
    (
        Bug::FailureStopsOthers,
        "one repository of a maintainer set fails",
        FAILURES_HAVE_OWNERS,
    ),
    (Bug::PartsEndUnasked, "a deadline passes between two parts", PARTS_STAY),
];

/// The tables in it are what is found here.
fn document() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md"))
}

fn texts(ways: &[Way]) -> Vec<String> {
    let text = |way: &Way| format!("{} does not hold\n  {}", way.invariant, way.steps.join("\n  "));
    ways.iter().map(text).collect()
}
