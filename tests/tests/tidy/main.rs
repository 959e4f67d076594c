//! Rules about the tree itself, checked on every file that git knows or would add. A rule that is said twice in a
//! review becomes one here, with its reason in the text of the failure.

#![expect(clippy::unwrap_used, reason = "what cannot be read ends the test")]

mod citations;
mod code;
mod code_map;
mod commands;
mod imports;
mod tree;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::tree::assert_none;
use crate::tree::defined_in;
use crate::tree::documents;
use crate::tree::paths;
use crate::tree::root;
use crate::tree::rust_sources;
use crate::tree::sources;
use crate::tree::without_comments_and_literals;
use crate::tree::without_tests;
use crate::tree::words_of;

#[test]
fn every_file_says_what_is_in_it() {
    let silent: Vec<String> = rust_sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| source.path)
        .collect();

    assert_none(
        &silent,
        "a file begins with `//!`: what lives here and what does not, so that a reader knows whether to go on",
    );
}

/// A push is read in the five files that its walkthrough names, without what they import and their tests.
#[test]
fn a_push_is_told_in_less_than_a_thousand_lines() {
    let is_import = |line: &&str| {
        let item = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        (item.starts_with("use ") || item.starts_with("mod ")) && item.ends_with(';')
    };
    let lines = |path: &&str| {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let lines = without_tests(&text).lines().filter(|line| !line.trim().is_empty());
        lines.filter(|line| !is_import(line)).count()
    };

    let all: usize = PUSH.iter().map(lines).sum();

    assert!(
        all < 1000,
        "{all} lines in {PUSH:?}: move what is not the story to where it belongs"
    );
}

/// In the order of docs/ARCHITECTURE.md, "Walkthrough: a push".
const PUSH: [&str; 5] = [
    "gateway/src/http/routes.rs",
    "gateway/src/push/mod.rs",
    "shared/src/rules/push.rs",
    "gateway/src/push/commit.rs",
    "gateway/src/reconcile/mod.rs",
];

#[test]
fn no_file_is_too_long_without_saying_why() {
    let mut long = Vec::new();
    for source in rust_sources() {
        // Tests are tables, and as long as what they list.
        let is_test = source.path.starts_with("tests/tests/") || source.path.contains("/tests/");
        let lines = without_tests(&source.text).lines().count();
        let mut header = source.text.lines().take_while(|line| line.starts_with("//!"));
        if !is_test && lines > LINES_MAX && !header.any(|line| line.contains("long because")) {
            long.push(format!("{}: {lines} lines", source.path));
        }
    }

    assert_none(
        &long,
        "a file over 500 lines before its tests has two reasons to change: split it, or say `long because` in its header",
    );
}

#[test]
fn no_line_is_too_wide() {
    let mut wide = Vec::new();
    for source in rust_sources() {
        for (number, line) in source.lines() {
            // rustfmt does not break literals; a text that a person reads is searched for in one piece.
            if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
                wide.push(source.at(number));
            }
        }
    }

    assert_none(&wide, "lines end at 120 columns, so that two files fit side by side");
}

#[test]
fn nothing_is_left_to_do_in_comments() {
    // Put together here, or this file would be found.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let mut left = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            if words_of(line).any(|word| words.contains(&word)) {
                left.push(source.at(number));
            }
        }
    }

    assert_none(
        &left,
        "what is left to do is an issue, where somebody sees it: not a comment",
    );
}

#[test]
fn names_say_what_is_done() {
    let mut vague = Vec::new();
    for source in rust_sources() {
        let code = without_comments_and_literals(&source.text);
        for (index, line) in code.lines().enumerate() {
            for (item, name) in defined_in(line) {
                if let Some(instead) = objection(item, name) {
                    vague.push(format!("{} {name}: {instead}", source.at(index + 1)));
                }
            }
        }
    }

    assert_none(&vague, "some words say nothing about what a thing is or does");
}

/// Returns what to say instead; `None`: the name is fine.
fn objection(item: &str, name: &str) -> Option<&'static str> {
    let is_function = item == "fn";
    let lower = name.to_lowercase();
    let has = |word: &str| lower.contains(word);
    if is_function && name.starts_with("get_") {
        Some("name what it returns")
    } else if is_function && (name.starts_with("handle_") || name.starts_with("process_")) {
        Some("name what is done")
    } else if has("manager") || has("helper") || lower.split('_').any(|word| matches!(word, "util" | "utils")) {
        Some("name the one thing that it is or does")
    } else if is_function && name.starts_with(concat!("te", "st_")) {
        Some("a test is named as the fact that it proves")
    } else {
        None
    }
}

#[test]
fn no_path_of_a_developers_machine_is_in_the_tree() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/tmp", "/h-"),
    ];
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            if places.iter().any(|place| line.contains(place)) {
                found.push(source.at(number));
            }
        }
    }

    assert_none(&found, "such a path exists on one machine only, and tells of it");
}

#[test]
fn scripts_can_be_run() {
    let scripts: Vec<String> = paths()
        .into_iter()
        .filter(|path| path.starts_with("scripts/") || path == ".ci/run")
        .collect();
    assert!(scripts.len() > 2, "only {scripts:?}");

    let broken: Vec<String> = scripts
        .into_iter()
        .filter(|path| {
            let file = root().join(path);
            let is_executable = fs::metadata(&file).unwrap().permissions().mode() & 0o111 != 0;
            !is_executable || !fs::read_to_string(&file).unwrap().starts_with("#!")
        })
        .collect();

    assert_none(
        &broken,
        "a script is executable and begins with `#!`, since the documents call it by its path",
    );
}

/// Tables in docs/, and paragraphs that begin `- **Test:**`, say which function and which test a fact stands on.
#[test]
fn functions_and_tests_named_in_tables_exist() {
    let defined: BTreeSet<String> = rust_sources()
        .iter()
        .flat_map(|source| functions_in(&without_comments_and_literals(&source.text)))
        .collect();
    let mut named = 0;
    let mut missing = Vec::new();
    for source in documents() {
        let mut columns: Vec<bool> = Vec::new();
        let mut is_of_tests = false;
        for (number, line) in source.lines() {
            let cells: Vec<&str> = cells_of(line);
            if cells.is_empty() {
                columns.clear();
            } else if columns.is_empty() {
                columns = cells.iter().map(|cell| matches!(*cell, "test" | "function")).collect();
            }
            // The next lines of a paragraph in a list are indented.
            is_of_tests = line.starts_with("- **Test:**") || (is_of_tests && line.starts_with("  "));
            let checked = cells.iter().zip(&columns).filter(|(_, checked)| **checked);
            let texts = checked.map(|(cell, _)| *cell).chain(is_of_tests.then_some(line));
            for name in texts.flat_map(in_backticks).filter(|name| is_name(name)) {
                named += 1;
                if !defined.contains(name) {
                    missing.push(format!("{} {name}", source.at(number)));
                }
            }
        }
    }

    assert!(named > 100, "only {named} names found: are the tables read?");
    assert_none(
        &missing,
        "a document names a function or test that is not there: it no longer tells the truth",
    );
}

#[test]
fn files_named_in_documents_exist() {
    let folders = [
        "shared/",
        "plugin/",
        "gateway/",
        "tests/",
        "scripts/",
        "strfry-config/",
        "docs/",
    ];
    let mut named = 0;
    let mut missing = Vec::new();
    for source in documents() {
        let folder = Path::new(&source.path).parent().unwrap();
        for (number, line) in source.lines() {
            let is_path = |text: &&str| folders.iter().any(|folder| text.starts_with(folder)) && is_plain_path(text);
            let quoted = in_backticks(line).filter(is_path).map(|text| root().join(text));
            let linked = links_in(line).map(|target| root().join(folder).join(target));
            for file in quoted.chain(linked) {
                named += 1;
                if !file.exists() {
                    missing.push(format!("{} {}", source.at(number), file.display()));
                }
            }
        }
    }

    assert!(named > 30, "only {named} files named: are the documents read?");
    assert_none(
        &missing,
        "a document names a file that is not there: it no longer tells the truth",
    );
}

/// Returns the cells of a row of a table; nothing if the line is none.
fn cells_of(line: &str) -> Vec<&str> {
    match line.strip_prefix('|') {
        Some(row) => row.trim_end().trim_end_matches('|').split('|').map(str::trim).collect(),
        None => Vec::new(),
    }
}

fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the targets of links to files, without their anchors.
fn links_in(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|after| after.split([')', '#']).next())
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Tells whether a text is the name of a function, and no path, option or sentence.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Tells whether a text is a path, without a pattern or a place to be filled in.
fn is_plain_path(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    text.bytes().all(is_plain)
}

fn functions_in(code: &str) -> BTreeSet<String> {
    let defined = code.lines().flat_map(defined_in);
    defined
        .filter(|(item, _)| *item == "fn")
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "fn a() { \"fn b\\\"\"; 'x'; '\\''; '\"'; r#\"fn c\"#; } // fn d\n/* fn e\n*/ fn f<'a>(x: &'a str) {}";

    let code = without_comments_and_literals(text);

    assert_eq!(functions_in(&code), BTreeSet::from(["a".to_owned(), "f".to_owned()]));
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn vague_names_are_seen() {
    for (line, is_vague) in [
        ("fn get_refs() {}", true),
        ("async fn handle_push() {}", true),
        ("struct LockManager;", true),
        ("mod utils;", true),
        ("fn processed() {}", false),
        ("mod process;", false),
        ("fn futility() {}", false),
    ] {
        let objected = defined_in(line).any(|(item, name)| objection(item, name).is_some());

        assert_eq!(objected, is_vague, "{line}");
    }
}

/// Lines of a file before its tests.
const LINES_MAX: usize = 500;

/// Columns of a line.
const COLUMNS_MAX: usize = 120;
