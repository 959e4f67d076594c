//! Rules about the programs' code: one name for one type, errors that are types, lints that stand, one place where
//! other programs are started.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;

use crate::tree::Source;
use crate::tree::assert_none;
use crate::tree::root;
use crate::tree::rust_sources;
use crate::tree::without_comments_and_literals;
use crate::tree::without_tests;
use crate::tree::words_of;

#[test]
fn no_type_name_stands_twice() {
    let files = production_files();
    let mut defined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let code = without_comments_and_literals(&file.text);
        for (line, name) in types_in(&code) {
            defined.entry(name).or_default().insert(file.at(line));
        }
    }
    assert!(defined.len() > 150, "only {} types found", defined.len());

    let twice = |places: &BTreeSet<String>| places.len() > 1;
    let is_allowed = |name: &str| SAME_NAMES.iter().any(|(same, _)| *same == name);
    let mut violations: Vec<String> = defined
        .iter()
        .filter(|(name, places)| twice(places) && !is_allowed(name))
        .map(|(name, places)| format!("{name}: {}", places.iter().cloned().collect::<Vec<_>>().join(", ")))
        .collect();
    let unused = SAME_NAMES
        .iter()
        .filter(|(name, _)| !defined.get(*name).is_some_and(twice));
    violations.extend(unused.map(|(name, _)| format!("{name} stands once: it needs no exception")));
    if SAME_NAMES.len() > SAME_NAMES_MAX {
        violations.push(format!("{} exceptions, at most {SAME_NAMES_MAX}", SAME_NAMES.len()));
    }

    assert_none(
        &violations,
        "one noun, one type: of two types with one name a reader never knows which is meant; name each for what it is",
    );
}

/// Names that may stand more than once, each with its reason.
const SAME_NAMES: &[(&str, &str)] = &[("Inner", "what the clones of a handle share, private to its file")];

/// Exceptions at the most.
const SAME_NAMES_MAX: usize = 6;

#[test]
fn no_error_is_a_string() {
    let mut found = Vec::new();
    for file in production_files() {
        let code = without_comments_and_literals(&file.text);
        for (index, line) in code.lines().enumerate() {
            if results_in(line).any(|arguments| arguments.last() == Some(&"String")) {
                found.push(file.at(index + 1));
            }
        }
    }

    assert_none(
        &found,
        "an error is an enum whose variants name what went wrong: a caller cannot match on a String, and its text is \
         written wherever it is made",
    );
}

#[test]
fn functions_stay_short_by_lints_that_nobody_switches_off() {
    let mut violations = Vec::new();
    let clippy = fs::read_to_string(root().join("clippy.toml")).unwrap();
    for setting in ["too-many-arguments-threshold = 6", "too-many-lines-threshold = 70"] {
        if !clippy.lines().any(|line| line == setting) {
            violations.push(format!("clippy.toml: {setting} is missing"));
        }
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for lint in ["too_many_arguments", "too_many_lines", "disallowed_methods"] {
        if !workspace.lines().any(|line| line == format!("{lint} = \"warn\"")) {
            violations.push(format!("Cargo.toml: {lint} = \"warn\" is missing"));
        }
    }
    let members = crate::tree::paths();
    for manifest in members
        .iter()
        .filter(|path| path.ends_with("/Cargo.toml") && !path.contains("libfuzzer"))
    {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        if !text.contains("[lints]\nworkspace = true") {
            violations.push(format!("{manifest}: [lints] workspace = true is missing"));
        }
    }
    for file in production_files() {
        violations.extend(exceptions_in(&file.text, "clippy::too_many_").map(|line| file.at(line)));
    }

    assert_none(
        &violations,
        "a function has at most 70 lines and 6 parameters, so that it is read in one piece: split it by kind of work \
         (load, decide, act) instead of switching the lint off",
    );
}

#[test]
fn other_programs_are_started_in_one_place() {
    let clippy = fs::read_to_string(root().join("clippy.toml")).unwrap();
    let mut violations = Vec::new();
    for method in ["std::process::Command::new", "tokio::process::Command::new"] {
        if !clippy.contains(&format!("path = \"{method}\"")) {
            violations.push(format!("clippy.toml: {method} is allowed everywhere"));
        }
    }
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in production_files() {
        let program = file.path.split('/').next().unwrap_or_default().to_owned();
        let found = exceptions_in(&file.text, "clippy::disallowed_methods").map(|line| file.at(line));
        places.entry(program).or_default().extend(found);
    }
    for (program, places) in places {
        let most = usize::from(program != "shared");
        violations.extend(places.into_iter().skip(most));
    }

    assert_none(
        &violations,
        "other programs are started in one place of each program, where each flag, variable and limit has its reason, \
         and where the whole group is killed in the end",
    );
}

/// The files that the programs are built of, without their tests.
fn production_files() -> Vec<Source> {
    let sources = rust_sources();
    let tests: BTreeSet<String> = sources.iter().flat_map(modules_for_tests).collect();
    let is_production = |path: &str| {
        let package = ["shared/", "plugin/", "gateway/"]
            .iter()
            .any(|package| path.starts_with(package));
        package && path.contains("/src/") && !tests.contains(path)
    };
    let files: Vec<Source> = sources
        .into_iter()
        .filter(|source| is_production(&source.path))
        .map(|source| Source {
            text: without_tests(&source.text).to_owned(),
            path: source.path,
        })
        .collect();
    assert!(files.len() > 100, "only {} files found", files.len());
    files
}

/// Returns the files of a file's modules that are for its tests alone.
fn modules_for_tests(source: &Source) -> Vec<String> {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let mut modules = Vec::new();
    for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
        let name = pair[1].strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
        modules.extend(name.map(|(_, name)| format!("{folder}/{name}.rs")));
    }
    modules
}

/// Returns the types that are defined at the outermost level or in a module, with their lines.
fn types_in(code: &str) -> Vec<(usize, String)> {
    let mut types = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut words = words_of(line).skip_while(|word| matches!(*word, "pub" | "crate" | "super" | "in" | "self"));
        let (Some(keyword), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        // Indented, `type` belongs to a trait.
        let is_type =
            matches!(keyword, "struct" | "enum" | "trait" | "union") || (keyword == "type" && !line.starts_with(' '));
        if is_type {
            types.push((index + 1, name.to_owned()));
        }
    }
    types
}

/// Returns the arguments of each `Result<…>` in a line.
fn results_in(line: &str) -> impl Iterator<Item = Vec<&str>> {
    line.match_indices("Result<").map(|(at, found)| {
        let rest = &line[at + found.len()..];
        let (mut depth, mut start, mut arguments) = (0, 0, Vec::new());
        for (i, c) in rest.char_indices() {
            match c {
                '<' | '(' | '[' => depth += 1,
                '>' if depth == 0 => {
                    arguments.push(rest[start..i].trim());
                    break;
                }
                // The arrow of a function type ends nothing.
                '>' if rest[..i].ends_with('-') => {}
                '>' | ')' | ']' => depth -= 1,
                ',' if depth == 0 => {
                    arguments.push(rest[start..i].trim());
                    start = i + 1;
                }
                _ => {}
            }
        }
        arguments
    })
}

/// Returns the lines of attributes that switch a lint off, but for those of test builds.
fn exceptions_in<'t>(text: &'t str, lint: &'t str) -> impl Iterator<Item = usize> {
    text.match_indices(lint).filter_map(move |(at, _)| {
        let attribute = &text[text[..at].rfind("#[").max(text[..at].rfind("#!["))?..at];
        let of_tests = attribute
            .split_whitespace()
            .collect::<String>()
            .starts_with("#![cfg_attr(test,");
        (!of_tests).then(|| text[..at].lines().count())
    })
}

#[test]
fn types_results_and_exceptions_are_seen() {
    let code = "pub(crate) struct A;\nenum B {}\n    type Item = u8;\ntype C = u8;\nimpl A {}\n    struct D(u8);\n";
    let types: Vec<String> = types_in(code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(types, ["A", "B", "C", "D"]);

    for (line, is_string) in [
        ("fn f() -> Result<(), String> {", true),
        ("fn f() -> Result<Vec<(u8, u8)>, String>;", true),
        ("fn f(g: impl Fn(u8) -> Result<u8, String>) {", true),
        ("fn f() -> Result<String, Error> {", false),
        ("fn f() -> io::Result<String> {", false),
        ("fn f() -> Result<u8, Box<String>> {", false),
    ] {
        let mut results = results_in(line).map(|arguments| arguments.len() > 1 && arguments[1] == "String");
        assert_eq!(results.any(|found| found), is_string, "{line}");
    }

    let lint = "clippy::too_many_";
    for (text, lines) in [
        ("\n#[expect(clippy::too_many_lines, reason = \"\")]", vec![2]),
        ("#![allow(\n    clippy::too_many_arguments,\n)]", vec![2]),
        (
            "#![cfg_attr(\n    test,\n    allow(\n        clippy::too_many_lines,\n",
            vec![],
        ),
    ] {
        assert_eq!(exceptions_in(text, lint).collect::<Vec<_>>(), lines, "{text}");
    }
}
