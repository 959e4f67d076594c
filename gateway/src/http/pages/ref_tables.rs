//! The branches and tags on the page of a repository. Pure.

use std::collections::BTreeSet;

use shared::git::Namespace;
use shared::git::Oid;
use shared::git::RefName;
use shared::nip34::Coordinate;
use shared::rules::Facts;
use wire::path::releases_path;

use crate::http::pages::and_more;
use crate::http::pages::escape;
use crate::repositories::releases::version_order;

/// Returns the branches and tags that the governing state of a repository declares; empty: there are none.
pub(super) fn ref_tables(coordinate: &Coordinate, facts: &Facts) -> String {
    let governing = facts.governing_state(coordinate);
    let Some(declared) = governing.and_then(|state| state.declared.as_ref().ok()) else {
        return String::new();
    };
    let of = |namespace| {
        declared
            .refs
            .iter()
            .filter(move |(name, _)| name.namespace() == namespace)
    };
    let default = declared.head.as_ref();
    // The default branch first, or it could be among those that are not shown.
    let (head, others): (Vec<_>, Vec<_>) = of(Namespace::Branch).partition(|(name, _)| default == Some(name));
    let (branches_count, branches) = (head.len() + others.len(), head.into_iter().chain(others));
    let tags = of(Namespace::Tag).map(|(name, oid)| (version_order(name.as_str()), name, oid));
    let (tags_count, tags) = (of(Namespace::Tag).count(), highest(tags, ROWS_MAX));
    let tags = tags.iter().rev().map(|(_, name, oid)| (*name, *oid));
    let releases = match tags_count {
        0 => String::new(),
        _ => format!(
            "<p><a href=\"{}\">Feed of releases</a> (Atom)</p>",
            escape(&releases_path(coordinate))
        ),
    };
    table("Branches", "refs/heads/", branches_count, branches, default)
        + &table("Tags", "refs/tags/", tags_count, tags, default)
        + &releases
}

/// Returns the highest of very many, without sorting the others.
fn highest<T: Ord>(all: impl Iterator<Item = T>, count_max: usize) -> BTreeSet<T> {
    let mut highest = BTreeSet::new();
    for one in all {
        highest.insert(one);
        if highest.len() > count_max {
            highest.pop_first();
        }
    }
    highest
}

/// A table of the first of `count` refs.
fn table<'r>(
    title: &str,
    prefix: &str,
    count: usize,
    refs: impl Iterator<Item = (&'r RefName, &'r Oid)>,
    default: Option<&RefName>,
) -> String {
    if count == 0 {
        return String::new();
    }
    let row = |(name, oid): (&RefName, &Oid)| {
        let short = name.as_str().strip_prefix(prefix).unwrap_or(name.as_str());
        let mark = match default == Some(name) {
            true => " <span class=\"mark\">default</span>",
            false => "",
        };
        format!(
            "<tr><td><bdi>{}</bdi>{mark}</td><td><code title=\"{oid}\">{}</code></td></tr>",
            escape(short),
            oid.short()
        )
    };
    let mut bytes = 0;
    let rows = refs.map(row).take(ROWS_MAX).take_while(|row| {
        bytes += row.len();
        bytes <= REFS_BYTES_MAX
    });
    let rows: Vec<String> = rows.collect();
    let more = and_more(count - rows.len());
    format!("<h2>{title}</h2><table>{}</table>{more}", rows.concat())
}

/// Of the rows of branches, and of those of tags, in a page of 30 KB: some twenty of each.
const REFS_BYTES_MAX: usize = 2500;

/// Rows of branches, and of tags: more have no room.
const ROWS_MAX: usize = 25;
