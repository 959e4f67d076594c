//! The code map of docs/ARCHITECTURE.md has what a reader finds first in the two crates that have most.

use std::collections::BTreeSet;
use std::fs;

use crate::tree::assert_none;
use crate::tree::paths;
use crate::tree::root;

#[test]
fn the_code_map_names_what_is_at_the_root_of_shared_and_gateway() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let mut unnamed = Vec::new();
    for folder in ["shared/src/", "gateway/src/"] {
        let at_root: BTreeSet<String> = paths().iter().filter_map(|path| first_in(folder, path)).collect();
        assert!(at_root.len() > 8, "only {at_root:?} in {folder}");
        let named = named_below(folder, &document);
        let missing = at_root.iter().filter(|name| !named.contains(name.as_str()));
        unnamed.extend(missing.map(|name| format!("{folder}{name}")));
    }

    assert_none(
        &unnamed,
        "docs/ARCHITECTURE.md, \"Code map\": a newcomer looks there for what a file or folder is for",
    );
}

/// Returns the file, or the folder with a slash, by which a path goes on in `folder`.
fn first_in(folder: &str, path: &str) -> Option<String> {
    let below = path.strip_prefix(folder)?;
    let name = match below.split_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => below.to_owned(),
    };
    // The root of a library has only the names of its parts.
    (name != "lib.rs").then_some(name)
}

/// Returns the words of the map below the line of `folder`.
fn named_below<'d>(folder: &str, document: &'d str) -> BTreeSet<&'d str> {
    let lines = document.lines().skip_while(|line| *line != folder).skip(1);
    let lines = lines.take_while(|line| line.starts_with(' '));
    let words = lines.flat_map(str::split_whitespace);
    words.map(|word| word.trim_end_matches([',', ':', ';', '.'])).collect()
}

#[test]
fn what_the_map_lacks_is_seen() {
    let map = "```\na/src/\n    one.rs, two.rs  some\n    three/          more: four.rs\nb/src/\n    five.rs\n```\n";

    assert_eq!(first_in("a/src/", "a/src/three/mod.rs").unwrap(), "three/");
    assert_eq!(first_in("a/src/", "a/src/lib.rs"), None);
    let named = named_below("a/src/", map);
    for (name, is_named) in [
        ("one.rs", true),
        ("two.rs", true),
        ("three/", true),
        ("four.rs", true),
        ("five.rs", false),
    ] {
        assert_eq!(named.contains(name), is_named, "{name}");
    }
}
