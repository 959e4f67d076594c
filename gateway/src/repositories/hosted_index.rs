//! The names of the hosted repositories, in memory, sorted: a page of them costs the same however many there are. A
//! walk over the disk fills it, and it follows the changes of this gateway. Repositories that the operator's lists do
//! not permit are kept separately: they are neither shown nor counted.
//!
//! What another gateway on the same disk makes or removes, the next walk finds.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use parking_lot::RwLock;
use shared::nip34::Coordinate;
use shared::rules::Access;

use crate::repositories::sorted::SortedPieces;

#[derive(Debug, Default)]
pub(crate) struct HostedIndex {
    /// Locked for one name at a time.
    names: RwLock<Names>,
    /// Held while other lists of the operator are applied.
    applying: Mutex<()>,
}

#[derive(Debug, Default)]
struct Names {
    shown: SortedPieces<Arc<Hosted>>,
    /// Every word with what follows it in its name.
    words: SortedPieces<Word>,
    /// What `access` does not permit.
    hidden: BTreeSet<Coordinate>,
    access: Arc<Access>,
    /// The lists by which everything in it is shown or hidden.
    applied: Arc<Access>,
    /// Counts the changes of the shown names.
    version: u64,
}

/// By name, then by owner.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        for coordinate in coordinates {
            self.names.write().add(coordinate);
        }
    }

    pub(crate) fn remove(&self, coordinate: &Coordinate) {
        let mut names = self.names.write();
        names.hidden.remove(coordinate);
        names.unlist(&Arc::new(Hosted::of(coordinate.clone())));
    }

    /// Returns all there are, shown or not: away from the async threads.
    pub(crate) fn all(&self) -> Vec<Coordinate> {
        let hidden = self.names.read().hidden.clone();
        let shown = self.shown();
        let shown = shown.iter().map(|hosted| hosted.coordinate.clone());
        shown.chain(hidden).collect()
    }

    /// Whether it shows what `access` permits, and nothing else.
    pub(crate) fn shows_by(&self, access: &Arc<Access>) -> bool {
        Arc::ptr_eq(&self.names.read().applied, access)
    }

    /// Shows what `access` permits, and nothing else. It goes over all names: away from the async threads.
    pub(crate) fn show_by(&self, access: &Arc<Access>) {
        let _applying = self.applying.lock();
        if self.shows_by(access) {
            return;
        }
        let hidden = {
            let mut names = self.names.write();
            names.access = Arc::clone(access);
            take(&mut names.hidden)
        };
        self.add(hidden);
        for hosted in self.shown().iter().filter(|hosted| !access.permits(&hosted.coordinate)) {
            let mut names = self.names.write();
            if names.unlist(hosted) {
                names.hidden.insert(hosted.coordinate.clone());
            }
        }
        self.names.write().applied = Arc::clone(access);
    }

    /// Returns a number that changes with the shown names.
    pub(crate) fn version(&self) -> u64 {
        self.names.read().version
    }

    /// Returns the page with this number, or the last one, of those repositories whose name has a word that begins with
    /// `searched`; of all, if that is empty. One with two such words may be found twice.
    pub(crate) fn page(&self, searched: &str, number: usize) -> HostedPage {
        let (searched, names) = (searched.trim().to_lowercase(), self.names.read());
        if searched.is_empty() {
            return page_of(&names.shown, 0..names.shown.len(), number, |hosted| &hosted.coordinate);
        }
        let is_before = |word: &Word| word.text() < searched.as_str();
        let start = names.words.partition_point(is_before);
        let end = names
            .words
            .partition_point(|word| is_before(word) || word.text().starts_with(&searched));
        let mut page = page_of(&names.words, start..end, number, |word| &word.of.coordinate);
        let mut seen = BTreeSet::new();
        page.coordinates.retain(|coordinate| seen.insert(coordinate.clone()));
        page
    }

    fn shown(&self) -> Vec<Arc<Hosted>> {
        self.names.read().shown.from(0).cloned().collect()
    }
}

fn page_of<T: Ord>(
    rows: &SortedPieces<T>,
    rows_found: Range<usize>,
    number: usize,
    coordinate: impl Fn(&T) -> &Coordinate,
) -> HostedPage {
    let found = rows_found.len();
    let pages = found.div_ceil(ROWS_MAX).max(1);
    let number = number.min(pages - 1);
    let before = number * ROWS_MAX;
    let shown = rows.from(rows_found.start + before).take(ROWS_MAX.min(found - before));
    HostedPage {
        coordinates: shown.map(|row| coordinate(row).clone()).collect(),
        found,
        number,
        pages,
    }
}

impl Names {
    fn add(&mut self, coordinate: Coordinate) {
        let is_full = self.shown.len() + self.hidden.len() >= NAMES_MAX;
        if !self.access.permits(&coordinate) {
            if !is_full {
                self.hidden.insert(coordinate);
            }
            return;
        }
        let hosted = Arc::new(Hosted::of(coordinate));
        if !is_full && self.shown.insert(Arc::clone(&hosted)) {
            for word in Word::all_of(&hosted) {
                self.words.insert(word);
            }
            self.version += 1;
        }
    }

    /// Shows a repository no longer; returns whether it was shown.
    fn unlist(&mut self, hosted: &Arc<Hosted>) -> bool {
        let was_shown = self.shown.remove(hosted);
        if was_shown {
            for word in Word::all_of(hosted) {
                self.words.remove(&word);
            }
            self.version += 1;
        }
        was_shown
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

/// Some 100 MB. More are hosted all the same, and found by who knows their names.
const NAMES_MAX: usize = 250_000;

/// Words of a name by which it is found.
const WORDS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::coordinate;

    fn denying(names: &str) -> Arc<Access> {
        Arc::new(Access {
            denied: names.parse().unwrap(),
            ..Access::default()
        })
    }

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

    /// A visitor who tries a name letter by letter learns nothing about denied repositories, and no page is empty
    /// because of them.
    #[test]
    fn what_the_operator_denies_is_neither_shown_nor_counted_until_it_is_permitted() {
        let index = index(&["a", "secret", "secret-two"]);
        index.show_by(&denying("secret\nsecret-two\nlater"));

        index.add(["secret", "later"].map(coordinate));

        assert_eq!((names(&index.page("", 0)), index.page("", 0).found), (vec!["a"], 1));
        for searched in ["s", "secret", "two", "later"] {
            assert_eq!(index.page(searched, 0).found, 0, "{searched}");
        }
        index.remove(&coordinate("secret-two"));
        let version = index.version();
        index.show_by(&denying("a"));
        assert_eq!(names(&index.page("", 0)), ["later", "secret"]);
        assert_ne!(index.version(), version);
        assert_eq!(index.all().len(), 3);
    }

    #[test]
    fn lists_that_are_applied_are_told_from_others_of_the_same_content() {
        let (index, access) = (index(&["a"]), denying("b"));
        assert!(!index.shows_by(&access));

        index.show_by(&access);

        assert!(index.shows_by(&access) && !index.shows_by(&denying("b")));
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
