//! The files of the tree, and what the rules need to read them: without comments, word by word.

use std::fs;
use std::path::Path;

/// A text file of the tree.
pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Returns the lines that are numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the rule is for the programs; here git lists files"
)]
pub(crate) fn paths() -> Vec<String> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "the tree must be a git repository");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let paths = listed.split_terminator('\0').map(str::to_owned);
    paths.filter(|path| root().join(path).exists()).collect()
}

pub(crate) fn sources() -> Vec<Source> {
    let sources: Vec<Source> = paths()
        .into_iter()
        .filter(|path| path != "Cargo.lock")
        .filter_map(|path| Some((fs::read_to_string(root().join(&path)).ok()?, path)))
        .map(|(text, path)| Source { path, text })
        .collect();
    let rust = sources.iter().filter(|source| source.is_rust()).count();
    assert!(rust > 50, "only {rust} Rust files found");
    sources
}

pub(crate) fn rust_sources() -> Vec<Source> {
    sources().into_iter().filter(Source::is_rust).collect()
}

/// Fails with every place at once, each on a line of its own.
pub(crate) fn assert_none(violations: &[String], reason: &str) {
    assert!(violations.is_empty(), "{reason}:\n  {}", violations.join("\n  "));
}

pub(crate) fn documents() -> Vec<Source> {
    sources()
        .into_iter()
        .filter(|source| source.path.ends_with(".md"))
        .collect()
}

pub(crate) fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Returns what a line of code defines: the keyword and the name behind it.
pub(crate) fn defined_in(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let items = ["fn", "struct", "enum", "trait", "mod", "type", "const", "static"];
    words_of(line)
        .zip(words_of(line).skip(1))
        .filter(move |(item, _)| items.contains(item))
}

/// Returns a file up to the tests at its end.
pub(crate) fn without_tests(text: &str) -> &str {
    let mut marks = text.match_indices("#[cfg(test)]\n");
    let tests = marks.find(|(at, mark)| {
        let line = text[at + mark.len()..].lines().next().unwrap_or_default();
        line.trim_start_matches("pub(crate) ").starts_with("mod ") && line.ends_with('{')
    });
    &text[..tests.map_or(text.len(), |(at, _)| at)]
}

/// Blanks comments and what is between quotes, and keeps the lines.
pub(crate) fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = skipped_at(rest);
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    code
}

/// Returns the string literals of a file, with the lines in which they begin.
pub(crate) fn literals(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(c) = rest.chars().next() {
        let skipped = skipped_at(rest);
        let part = &rest[..skipped.max(c.len_utf8())];
        if part.starts_with(['"', 'r']) && skipped > 0 {
            found.push((line, part));
        }
        line += part.matches('\n').count();
        rest = &rest[part.len()..];
    }
    found
}

/// Returns how many bytes of a comment or a literal `text` begins with.
fn skipped_at(text: &str) -> usize {
    let to_end_of = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return to_end_of(2, "*/");
    }
    if text.starts_with("r\"") {
        return to_end_of(2, "\"");
    }
    if text.starts_with("r#\"") {
        return to_end_of(3, "\"#");
    }
    if text.starts_with('"') {
        return after_quote(text, '"');
    }
    let mut chars = text.chars();
    let (opens, first, second) = (chars.next() == Some('\''), chars.next(), chars.next());
    match (first, second) {
        (Some('\\'), _) if opens => after_quote(text, '\''),
        // A lifetime has no second quote right behind its first letter.
        (Some(c), Some('\'')) if opens => "''".len() + c.len_utf8(),
        _ => 0,
    }
}

/// Returns where the literal ends that `text` begins with.
fn after_quote(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}
