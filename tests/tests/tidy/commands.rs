//! A command that a document tells an operator to type is run by a test, or says why it is not.

use std::fs;

use crate::tree::assert_none;
use crate::tree::documents;
use crate::tree::root;

/// What an operator reads.
const OF_OPERATORS: [&str; 11] = [
    "README.md",
    "docs/commands.md",
    "docs/configuration.md",
    "docs/first-hour.md",
    "docs/how-to.md",
    "docs/http.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/redis.md",
    "docs/set-up.md",
    "docs/tutorial.md",
];

/// What runs the commands of whole documents, which it names.
const RUNNERS: [&str; 2] = ["tests/tests/end_to_end/behaviour/how_to.rs", "scripts/test-set-up"];

#[test]
fn commands_of_documents_are_run_or_say_why_not() {
    let runners = RUNNERS.map(|path| fs::read_to_string(root().join(path)).unwrap());
    let (mut seen, mut silent) = (0, Vec::new());
    for document in documents() {
        if !OF_OPERATORS.contains(&document.path.as_str()) {
            continue;
        }
        seen += 1;
        let is_run = runners.iter().any(|text| text.contains(&document.path));
        let mut before = "";
        for (number, line) in document.lines() {
            if line == "```sh" {
                match mark(before) {
                    Some(Mark::RunBy(path)) if root().join(path).exists() => {}
                    Some(Mark::NotRun) => {}
                    None if is_run => {}
                    Some(Mark::RunBy(_)) | None => silent.push(document.at(number)),
                }
            }
            before = line;
        }
    }

    assert_eq!(seen, OF_OPERATORS.len(), "a document has another name");
    assert_none(
        &silent,
        "before a block of commands stands `<!-- run by PATH -->` or `<!-- not run: REASON -->`, unless one of RUNNERS runs it",
    );
}

#[derive(Debug, PartialEq)]
enum Mark<'l> {
    RunBy(&'l str),
    NotRun,
}

fn mark(line: &str) -> Option<Mark<'_>> {
    let comment = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    if let Some(runner) = comment.strip_prefix("run by ") {
        return runner.split([' ', ',']).next().map(Mark::RunBy);
    }
    let reason = comment.strip_prefix("not run: ")?;
    (!reason.is_empty()).then_some(Mark::NotRun)
}

#[test]
fn marks_are_read() {
    assert_eq!(
        mark("<!-- run by scripts/test, twice -->"),
        Some(Mark::RunBy("scripts/test"))
    );
    assert_eq!(mark("<!-- not run: it needs systemd -->"), Some(Mark::NotRun));
    for line in ["<!-- a comment -->", "<!-- not run:  -->", "text", ""] {
        assert_eq!(mark(line), None, "{line}");
    }
}
