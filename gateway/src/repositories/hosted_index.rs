//! The names of the repositories that are hosted here, in memory, sorted: a page of them costs the same whoever asks,
//! however many there are. It is filled by a walk over the disk, and follows what this gateway does.
//!
//! What another gateway on the same disk makes, the next walk finds.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;

use shared::nip34::Coordinate;

/// The names, by which a repository is found.
#[derive(Debug, Default)]
pub(crate) struct HostedIndex {
    names: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// Sorted by name and owner.
    all: Vec<Arc<Hosted>>,
    /// Sorted in the same way: every word with what follows it in its name.
    words: Vec<Word>,
    /// Counts the changes.
    version: u64,
}

#[derive(Debug)]
struct Hosted {
    /// Its identifier in lower case.
    name: String,
    coordinate: Coordinate,
}

#[derive(Debug)]
struct Word {
    of: Arc<Hosted>,
    /// Where it begins in the name.
    start: usize,
}

/// A page of repositories.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HostedPage {
    pub(crate) coordinates: Vec<Coordinate>,
    /// How many there are on all pages.
    pub(crate) found: usize,
    /// Which page it is, from 0.
    pub(crate) number: usize,
    /// How many pages there are, at least one.
    pub(crate) pages: usize,
}

impl HostedIndex {
    /// Adds repositories, those that are there already too.
    pub(crate) fn add(&self, coordinates: impl IntoIterator<Item = Coordinate>) {
        let mut names = self.write();
        let hosted = coordinates.into_iter().map(Hosted::of);
        let mut added: BTreeSet<Hosted> = hosted.filter(|hosted| names.place(hosted).is_err()).collect();
        while names.all.len() + added.len() > NAMES_MAX && added.pop_last().is_some() {}
        if added.is_empty() {
            return;
        }
        let added: Vec<Arc<Hosted>> = added.into_iter().map(Arc::new).collect();
        insert(&mut names.words, added.iter().flat_map(Word::all_of).collect());
        insert(&mut names.all, added);
        names.version += 1;
    }

    /// Removes a repository.
    pub(crate) fn remove(&self, coordinate: &Coordinate) {
        let mut names = self.write();
        if let Ok(place) = names.place(&Hosted::of(coordinate.clone())) {
            let hosted = names.all.remove(place);
            names.words.retain(|word| !Arc::ptr_eq(&word.of, &hosted));
            names.version += 1;
        }
    }

    /// Returns a number that changes with what is in it.
    pub(crate) fn version(&self) -> u64 {
        self.read().version
    }

    /// Returns the page with this number, or the last one, of those repositories whose name has a word that begins with
    /// `searched`; of all, if that is empty. One with two such words may be found twice.
    pub(crate) fn page(&self, searched: &str, number: usize) -> HostedPage {
        let (searched, names) = (searched.trim().to_lowercase(), self.read());
        if searched.is_empty() {
            return page_of(&names.all, number, |hosted| &hosted.coordinate);
        }
        let start = names.words.partition_point(|word| word.text() < searched.as_str());
        let found = names.words[start..].partition_point(|word| word.text().starts_with(&searched));
        let mut page = page_of(&names.words[start..start + found], number, |word| &word.of.coordinate);
        let mut seen = BTreeSet::new();
        page.coordinates.retain(|coordinate| seen.insert(coordinate.clone()));
        page
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Inserts `added` where they belong: moving the rest costs least for one, sorting for many.
fn insert<T: Ord>(sorted: &mut Vec<T>, added: Vec<T>) {
    if added.len() > SORTED_FROM {
        sorted.extend(added);
        sorted.sort();
        return;
    }
    for item in added {
        let place = sorted.partition_point(|other| *other < item);
        sorted.insert(place, item);
    }
}

fn page_of<T>(rows: &[T], number: usize, coordinate: impl Fn(&T) -> &Coordinate) -> HostedPage {
    let pages = rows.len().div_ceil(ROWS_MAX).max(1);
    let number = number.min(pages - 1);
    let shown = rows.iter().skip(number * ROWS_MAX).take(ROWS_MAX);
    HostedPage {
        coordinates: shown.map(|row| coordinate(row).clone()).collect(),
        found: rows.len(),
        number,
        pages,
    }
}

impl Names {
    fn place(&self, hosted: &Hosted) -> Result<usize, usize> {
        self.all.binary_search_by(|other| (**other).cmp(hosted))
    }
}

impl Hosted {
    fn of(coordinate: Coordinate) -> Self {
        Self {
            name: coordinate.identifier.as_str().to_lowercase(),
            coordinate,
        }
    }
}

impl Ord for Hosted {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_name = self.name.cmp(&other.name);
        by_name.then_with(|| self.coordinate.cmp(&other.coordinate))
    }
}

impl PartialOrd for Hosted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Hosted {
    fn eq(&self, other: &Self) -> bool {
        self.coordinate == other.coordinate
    }
}

impl Eq for Hosted {}

impl Word {
    fn all_of(hosted: &Arc<Hosted>) -> Vec<Self> {
        let mut is_within = false;
        let starts = hosted.name.char_indices().filter(|(place, character)| {
            let begins = *place == 0 || !is_within && character.is_alphanumeric();
            is_within = character.is_alphanumeric();
            begins
        });
        let word = |(start, _)| Self {
            of: Arc::clone(hosted),
            start,
        };
        starts.take(WORDS_MAX).map(word).collect()
    }

    fn text(&self) -> &str {
        &self.of.name[self.start..]
    }
}

impl Ord for Word {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_text = self.text().cmp(other.text());
        by_text.then_with(|| self.of.cmp(&other.of))
    }
}

impl PartialOrd for Word {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Word {}

/// On a page, which has a budget of 30 KB.
const ROWS_MAX: usize = 20;

/// As many as cost more to insert than to sort in, among some 100,000.
const SORTED_FROM: usize = 2 * WORDS_MAX;

/// Some 70 MB. More are hosted all the same, and found by who knows their names.
const NAMES_MAX: usize = 250_000;

/// Words of a name by which it is found.
const WORDS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::coordinate;

    fn index(names: &[&str]) -> HostedIndex {
        let index = HostedIndex::default();
        index.add(names.iter().map(|name| coordinate(name)));
        index
    }

    fn names(page: &HostedPage) -> Vec<&str> {
        page.coordinates.iter().map(|at| at.identifier.as_str()).collect()
    }

    #[test]
    fn repositories_are_found_by_the_beginnings_of_their_words() {
        let index = index(&["nostr-relay", "Relay_Tools", "git.relay", "a b c", "émile", "🦀"]);
        for (searched, found) in [
            (
                "",
                vec!["a b c", "git.relay", "nostr-relay", "Relay_Tools", "émile", "🦀"],
            ),
            ("REL", vec!["git.relay", "nostr-relay", "Relay_Tools"]),
            (" nostr-r ", vec!["nostr-relay"]),
            ("É", vec!["émile"]),
            ("🦀", vec!["🦀"]),
            ("elay", vec![]),
            ("\u{10ffff}", vec![]),
        ] {
            assert_eq!(names(&index.page(searched, 0)), found, "{searched}");
        }
        index.remove(&coordinate("git.relay"));
        assert_eq!(names(&index.page("relay", 0)), ["nostr-relay", "Relay_Tools"]);
        assert_eq!(index.page("git", 0).found, 0);
    }

    #[test]
    fn what_is_added_or_removed_twice_is_there_once_or_not_at_all() {
        let index = index(&["b", "a", "b"]);
        let version = index.version();

        index.add([coordinate("a")]);
        index.remove(&coordinate("c"));

        assert_eq!(index.version(), version);
        assert_eq!(index.page("", 0).found, 2);
        index.remove(&coordinate("a"));
        index.remove(&coordinate("a"));
        assert_eq!(names(&index.page("", 0)), ["b"]);
    }

    #[test]
    fn pages_together_are_everything_and_none_is_beyond_the_last() {
        let index = HostedIndex::default();
        // As a walk brings them.
        for page in 0..20 {
            index.add((0..500).map(|number| coordinate(&format!("name-{:05}", (number * 20 + page) * 7 % 10_000))));
        }

        let first = index.page("", 0);

        assert_eq!((first.found, first.pages), (10_000, 500));
        let all: Vec<Coordinate> = (0..500).flat_map(|number| index.page("", number).coordinates).collect();
        assert_eq!(all.len(), 10_000);
        assert!(all.is_sorted());
        assert_eq!(index.page("", usize::MAX), index.page("", 499));
        assert_eq!(index.page("name-0123", 0).found, 10);
        assert_eq!(
            index.page("nothing", 7),
            HostedPage {
                pages: 1,
                ..HostedPage::default()
            }
        );
    }

    #[test]
    fn a_name_of_many_words_is_found_by_the_first_of_them() {
        let index = index(&[&"a ".repeat(100)]);

        let page = index.page("a", 0);

        assert_eq!((page.coordinates.len(), page.found), (1, WORDS_MAX));
    }
}
