//! A citation can be opened: it names a document of this repository and a section that it has, and nothing that only
//! its author had.

use std::fs;

use crate::tree::assert_none;
use crate::tree::documents;
use crate::tree::root;
use crate::tree::sources;

#[test]
fn no_citation_is_without_its_document() {
    let (mut cited, mut missing) = (0, Vec::new());
    // These files cite documents that are not there, to see that it is found.
    for source in sources().iter().filter(|it| !it.path.starts_with("tests/tests/tidy/")) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let next = lines.get(index + 1).map_or("", |next| without_comment_mark(next));
            for citation in citations_in(&source.path, line, next) {
                cited += 1;
                missing.extend(citation.flaw().map(|flaw| format!("{} {flaw}", source.at(index + 1))));
            }
        }
    }

    assert!(cited > 60, "only {cited} citations found: are the files read?");
    assert_none(
        &missing,
        "a citation gives the reason for the line that it stands at, and its reader has nothing but this repository: \
         cite a document in docs/ with a section that it has, a NIP, a manual page or a file of a public project",
    );
}

/// A document, and what of it is named.
#[derive(Debug, PartialEq, Eq)]
enum Citation {
    /// From the root of the repository.
    Document { path: String, place: Option<Place> },
    /// Something that is not in the repository.
    Foreign(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// `3.2`
    Section(String),
    /// `rule 7`
    Rule(String),
    /// `"Limits"`
    Heading(String),
    /// `#limits`
    Anchor(String),
    /// Words of a section that is named before them.
    Words(String),
}

impl Citation {
    /// Returns why it leads nowhere; `None`: it can be opened.
    fn flaw(&self) -> Option<String> {
        let (path, place) = match self {
            Self::Foreign(text) => return Some(format!("`{text}` is not in this repository")),
            Self::Document { path, place } => (path, place),
        };
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            return Some(format!("{path} does not exist"));
        };
        let place = place.as_ref().filter(|place| !place.is_in(&text))?;
        Some(format!("{path} has no {place:?}"))
    }
}

impl Place {
    fn is_in(&self, document: &str) -> bool {
        let title = |line: &str| line.trim_start_matches('#').trim().to_owned();
        let mut titles = document.lines().filter(|line| line.starts_with('#')).map(title);
        match self {
            Self::Section(number) => {
                titles.any(|title| title.split(' ').next().unwrap_or_default().trim_end_matches('.') == number)
            }
            Self::Heading(text) => titles.any(|title| title == *text),
            Self::Anchor(anchor) => titles.any(|title| anchor_of(&title) == *anchor),
            Self::Rule(number) => {
                let start = format!("{number}. **");
                document.lines().any(|line| line.starts_with(&start))
            }
            Self::Words(words) => document.contains(words.as_str()),
        }
    }
}

/// The name by which Markdown links to a heading.
fn anchor_of(title: &str) -> String {
    let kept = title.to_lowercase().chars().collect::<Vec<_>>();
    let kept = kept.into_iter().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Returns the citations that begin in a line; each may go on in the next one.
fn citations_in(citing: &str, line: &str, next: &str) -> Vec<Citation> {
    let text = format!("{line} {next}");
    let mut citations = Vec::new();
    for (at, _) in text.match_indices(".md") {
        let start = text[..at].rfind(|c| !is_path(c)).map_or(0, |before| before + 1);
        let (before, path, after) = (&text[..start], &text[start..at + 3], &text[at + 3..]);
        if start < line.len()
            && let Some(path) = document(citing, before, path)
        {
            citations.extend(places_in(after).into_iter().map(|place| Citation::Document {
                path: path.clone(),
                place,
            }));
        }
    }
    for (at, _) in line.match_indices("ARCHITECTURE rule") {
        let places = places_in(&text[at + "ARCHITECTURE".len()..]);
        citations.extend(places.into_iter().map(|place| Citation::Document {
            path: "docs/ARCHITECTURE.md".to_owned(),
            place,
        }));
    }
    citations.extend(foreign_in(citing, &text, line.len()).map(Citation::Foreign));
    citations
}

/// Returns the document that a path names from the root of the repository; `None`: it is no citation.
fn document(citing: &str, before: &str, path: &str) -> Option<String> {
    let of_another = before.trim_end_matches(['`', ' ']).ends_with("strfry");
    if path.starts_with("docs/") {
        return (!of_another).then(|| path.to_owned());
    }
    let is_link = citing.ends_with(".md") && before.ends_with("](");
    let folder = citing.rsplit_once('/').map_or("", |(folder, _)| folder);
    is_link.then(|| inside(folder, path))
}

/// Joins a folder and a path, without `..`.
fn inside(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns what is named behind a document's path: `None` alone if that is the whole document.
fn places_in(after: &str) -> Vec<Option<Place>> {
    if let Some(anchor) = after.strip_prefix('#') {
        let anchor = anchor
            .split(|c: char| !(c.is_alphanumeric() || "-_".contains(c)))
            .next();
        return vec![anchor.map(|anchor| Place::Anchor(anchor.to_owned()))];
    }
    let mut rest = after.trim_start_matches(['`', ')']);
    let mut places = Vec::new();
    let mut are_rules = false;
    // A quotation mark right behind the path ends a literal.
    let mut may_be_quoted = rest.starts_with(' ');
    loop {
        rest = rest.trim_start_matches(' ');
        rest = ["rules ", "rule "].iter().fold(rest, |rest, word| {
            let behind = rest.strip_prefix(word);
            are_rules |= behind.is_some();
            behind.unwrap_or(rest)
        });
        let number_len = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let number = rest[..number_len].trim_end_matches('.');
        if number.starts_with(|c: char| c.is_ascii_digit()) {
            let number_text = number.to_owned();
            places.push(Some(match are_rules {
                true => Place::Rule(number_text),
                false => Place::Section(number_text),
            }));
            rest = &rest[number.len()..];
        } else if let Some((quoted, behind)) = rest
            .strip_prefix('"')
            .filter(|_| may_be_quoted)
            .and_then(|rest| rest.split_once('"'))
        {
            places.push(Some(match places.is_empty() {
                true => Place::Heading(quoted.to_owned()),
                false => Place::Words(quoted.to_owned()),
            }));
            rest = behind;
        }
        let separator = [", ", " and ", " to "]
            .iter()
            .find(|separator| rest.starts_with(*separator));
        // What stands behind a separator belongs to the citation if it is a number or a quotation.
        let behind = separator.map(|separator| rest[separator.len()..].trim_start());
        match behind.filter(|behind| behind.starts_with(|c: char| c.is_ascii_digit() || c == '"')) {
            Some(behind) => (rest, may_be_quoted) = (behind, true),
            None => break,
        }
    }
    if places.is_empty() { vec![None] } else { places }
}

/// Returns citations of documents that only some authors have.
fn foreign_in<'t>(citing: &'t str, text: &'t str, end: usize) -> impl Iterator<Item = String> {
    let designs = text.match_indices("design ").filter(|(at, word)| {
        let is_word = !text[..*at].ends_with(|c: char| c.is_alphanumeric());
        is_word && text[at + word.len()..].starts_with(|c: char| c.is_ascii_digit())
    });
    let facts = text.match_indices("facts/").filter(move |(at, word)| {
        let here = citing.starts_with("docs/") && (text[..*at].ends_with("](") || text[..*at].ends_with('['));
        // A `/` before it belongs to a path that is checked as a whole.
        let is_word = !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '/');
        let names_one = text[at + word.len()..].starts_with(|c: char| c.is_ascii_lowercase());
        is_word && names_one && !here && !is_code_path(&text[at + word.len()..])
    });
    let found = designs.chain(facts).filter(move |(at, _)| *at < end);
    found.map(|(at, _)| text[at..].chars().take(20).collect())
}

/// Whether a path goes on to a Rust file: there may be a module of that name.
fn is_code_path(rest: &str) -> bool {
    let path: String = rest.chars().take_while(|c| is_path(*c)).collect();
    path.ends_with(".rs")
}

fn is_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-".contains(c)
}

fn without_comment_mark(line: &str) -> &str {
    let line = line.trim_start();
    let marks = ["//!", "///", "//", "--", "#"];
    let mark = marks.iter().find(|mark| line.starts_with(*mark));
    mark.map_or(line, |mark| &line[mark.len()..]).trim_start()
}

/// As root they are refused: the gateway could not read what root writes.
#[test]
fn no_command_that_needs_the_gateways_user_stands_without_it() {
    let (mut seen, mut without) = (0, Vec::new());
    for document in documents() {
        let is_for_operators = ["README.md", "docs/how-to.md", "docs/operations.md"].contains(&&*document.path);
        for block in document.text.split("\n\n").filter(|_| is_for_operators) {
            // In prose a note beside it is enough; what is copied has its user.
            let is_copied = block.starts_with("```") || block.starts_with('|');
            let units: Vec<&str> = if is_copied {
                block.lines().collect()
            } else {
                vec![block]
            };
            for unit in units {
                if !["grasp-gateway repo ", "grasp-gateway doctor"]
                    .iter()
                    .any(|command| unit.contains(command))
                {
                    continue;
                }
                seen += 1;
                let is_noted = ["runuser -u", "exec gateway grasp-gateway"]
                    .iter()
                    .any(|user| unit.contains(user))
                    || !is_copied && unit.contains("gateway's user");
                if !is_noted {
                    without.push(format!("{}: {unit}", document.path));
                }
            }
        }
    }

    assert!(seen > 8, "only {seen} commands are seen");
    assert_none(
        &without,
        "`runuser -u grasp --` stands before what only the gateway's user may run",
    );
}

#[test]
fn citations_are_seen() {
    let of = |places: Vec<Option<Place>>, path: &str| -> Vec<Citation> {
        let path = path.to_owned();
        let document = |place| Citation::Document {
            path: path.clone(),
            place,
        };
        places.into_iter().map(document).collect()
    };
    let section = |number: &str| Some(Place::Section(number.to_owned()));
    let rule = |number: &str| Some(Place::Rule(number.to_owned()));
    for (line, next, expected) in [
        ("//! why (docs/a.md)", "", of(vec![None], "docs/a.md")),
        (
            "//! why (docs/a.md 1.6,",
            "1.7 and 2). More",
            of(vec![section("1.6"), section("1.7"), section("2")], "docs/a.md"),
        ),
        (
            "//! `docs/a.md` rules 5 to 8.",
            "",
            of(vec![rule("5"), rule("8")], "docs/a.md"),
        ),
        ("// docs/a.md", "rule 2: so", of(vec![rule("2")], "docs/a.md")),
        (
            "// docs/a.md, \"Two words\").",
            "",
            of(vec![Some(Place::Heading("Two words".to_owned()))], "docs/a.md"),
        ),
        (
            "// docs/a.md#two-words.",
            "",
            of(vec![Some(Place::Anchor("two-words".to_owned()))], "docs/a.md"),
        ),
        ("open(\"docs/a.md\").then(\"b\")", "", of(vec![None], "docs/a.md")),
        (
            "// ARCHITECTURE rule 4",
            "",
            of(vec![rule("4")], "docs/ARCHITECTURE.md"),
        ),
        ("// strfry `docs/plugins.md`", "", Vec::new()),
        ("// facts/a 3.2", "", vec![Citation::Foreign("facts/a 3.2 ".to_owned())]),
        (
            "// (design 2, rule 9)",
            "",
            vec![Citation::Foreign("design 2, rule 9) ".to_owned())],
        ),
        ("// by design, 2 of them", "docs/a.md", Vec::new()),
    ] {
        assert_eq!(citations_in("src/a.rs", line, next), expected, "{line}");
    }

    let document = "# A\n## 3. Third\n### 3.2 Two words\n7. **Rule.** Text\n";
    for (place, is_in) in [
        (Place::Section("3".to_owned()), true),
        (Place::Section("3.2".to_owned()), true),
        (Place::Section("3.3".to_owned()), false),
        (Place::Rule("7".to_owned()), true),
        (Place::Rule("8".to_owned()), false),
        (Place::Heading("A".to_owned()), true),
        (Place::Heading("Two words".to_owned()), false),
        (Place::Anchor("32-two-words".to_owned()), true),
    ] {
        assert_eq!(place.is_in(document), is_in, "{place:?}");
    }
}
