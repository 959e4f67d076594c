//! Plain words: documents and texts of the programs use the terms of docs/GLOSSARY.md and of the field, so that a
//! stranger can read them. Comments and tests are not checked.

use crate::tree::Source;
use crate::tree::assert_none;
use crate::tree::documents;
use crate::tree::literals;
use crate::tree::rust_sources;
use crate::tree::without_tests;
use crate::tree::words_of;

#[test]
fn documents_and_texts_use_plain_words() {
    let mut private = Vec::new();
    for source in documents() {
        // A phrase may go on in the next line.
        let (words, lines) = numbered_words(source.lines());
        private.extend(found_in(&source, &words, &lines));
    }
    let mut texts = 0;
    for source in rust_sources().into_iter().filter(is_of_a_program) {
        for (line, text) in literals(without_tests(&source.text)) {
            texts += 1;
            let (words, _) = numbered_words([(line, text)].into_iter());
            private.extend(found_in(&source, &words, &vec![line; words.len()]));
        }
    }

    assert!(texts > 1000, "only {texts} literals found: are the files read?");
    assert_none(
        &private,
        "a word or a phrase that only its authors use: say it in the words of docs/GLOSSARY.md and of the field",
    );
}

fn is_of_a_program(source: &Source) -> bool {
    let folders = ["gateway/", "plugin/", "shared/src/"];
    folders.iter().any(|folder| source.path.starts_with(folder)) && !source.path.ends_with("tests.rs")
}

/// Returns the words in lower case, and the line of each.
fn numbered_words<'t>(lines: impl Iterator<Item = (usize, &'t str)>) -> (Vec<String>, Vec<usize>) {
    let words = lines.flat_map(|(line, text)| words_of(text).map(move |word| (word.to_lowercase(), line)));
    words.unzip()
}

fn found_in(source: &Source, words: &[String], lines: &[usize]) -> Vec<String> {
    let mut found = Vec::new();
    for (phrase, instead) in INSTEAD {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        for (at, window) in words.windows(phrase.len()).enumerate() {
            if window == phrase {
                found.push(format!("{} {:?}: {instead}", source.at(lines[at]), phrase.join(" ")));
            }
        }
    }
    found
}

#[test]
fn private_words_are_seen() {
    for (text, is_private) in [
        ("one step\nof Redis", true),
        ("Whoever comes", true),
        ("two steps of Redis", true),
        ("call to Redis", false),
        ("step of a plan", false),
        ("whoever_asks", false),
    ] {
        let source = Source {
            path: "docs/a.md".to_owned(),
            text: text.to_owned(),
        };
        let (words, lines) = numbered_words(source.lines());

        assert_eq!(!found_in(&source, &words, &lines).is_empty(), is_private, "{text}");
    }
}

/// In lower case, with what to say instead. Only phrases that are never right: a false alarm teaches to get around it.
const INSTEAD: [(&str, &str); 18] = [
    ("anew", "again"),
    ("as ever", "as before, or nothing"),
    ("became of", "the outcome, the result"),
    ("becomes of", "the outcome, the result"),
    ("besides", "also, in addition to"),
    ("complaint", "configuration error"),
    ("complaints", "configuration errors"),
    ("of one second", "with the same timestamp"),
    ("spoilt", "malformed"),
    ("step of redis", "call to Redis"),
    ("steps of redis", "calls to Redis"),
    ("that which", "name the thing"),
    ("to look at prs", "to reconcile PRs"),
    ("wakings", "notifications"),
    ("what is held", "held events"),
    ("what was held", "held events"),
    ("whoever", "name the one who acts: the client, the author, a reader"),
    ("whomever", "name the one who is meant"),
];
