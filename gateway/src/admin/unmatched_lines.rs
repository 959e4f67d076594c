//! Lines of the operator's lists that match nobody known here: mostly a key or a name that is not spelt as meant, so
//! that nobody is denied, or allowed, by it.
//!
//! Known is a key with an event at the relay, anything in the purgatory, or a repository on disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::key::PublicKey;
use shared::load_facts::FactLoader;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::options::access_files::AccessPaths;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::relay_client::RelayError;
use shared::rules::ListedName;
use shared::rules::listed_names;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use wire::path::npub;

use crate::admin::entries::Pages;
use crate::admin::entries::each_row;
use crate::admin::needs::repository;
use crate::admin::table::plain;
use crate::http::pages::excerpt;
use crate::logged::logged;
use crate::repositories::layout::repositories_below;
use crate::repositories::layout::repository_below;

/// The lines that match nobody known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnmatchedLines {
    /// The first of them, each with its file and number.
    pub(super) first: Vec<String>,
    /// How many there are.
    pub(super) count: usize,
    /// How many lines were checked.
    pub(super) checked: usize,
    /// How many lines there was no time for.
    pub(super) left: usize,
}

/// Why the lines cannot be checked now.
#[derive(Debug, thiserror::Error)]
pub(super) enum UncheckedLines {
    #[error("the relay does not answer")]
    Relay(#[from] RelayError),
    #[error("the purgatory does not answer")]
    Purgatory(#[from] PurgatoryError),
}

/// Logs the lines that match nobody known, once for each content of the lists, for as long as the program runs. It
/// keeps nothing waiting: it asks about a few lines at a time.
pub(crate) async fn name_unmatched_lines(loader: FactLoader, paths: AccessPaths, data_dir: PathBuf) {
    if paths == AccessPaths::default() {
        return;
    }
    let mut checked = String::new();
    loop {
        let digest = loader.access.digest();
        if digest != checked {
            let own = FactLoader {
                // Nobody waits behind these questions.
                relay: loader.relay.apart(),
                ..loader.clone()
            };
            let check = LinesCheck::new(&own, &data_dir);
            match check.run(&paths, CHUNK_PAUSE, None).await {
                Ok(found) => {
                    found.log();
                    checked = digest;
                }
                // That is logged where it is used.
                Err(error) => tracing::debug!(error = logged(&error), "the lines of the lists are not checked yet"),
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

impl UnmatchedLines {
    fn log(&self) {
        if self.count > 0 {
            tracing::warn!(
                lines = self.shown(),
                "{} nobody known here, in the operator's lists: is each spelt as meant?",
                self.counted()
            );
        }
    }

    /// Writes how many match, as the beginning of a sentence.
    pub(super) fn counted(&self) -> String {
        match self.count {
            1 => "1 line matches".to_owned(),
            count => format!("{count} lines match"),
        }
    }

    /// Writes the first of them.
    pub(super) fn shown(&self) -> String {
        let more = self.count - self.first.len();
        let shown = self.first.join(", ");
        if more > 0 {
            format!("{shown} and {more} more")
        } else {
            shown
        }
    }

    fn add(&mut self, file: &Path, number: usize, name: &ListedName) {
        self.count += 1;
        if self.first.len() < SHOWN_MAX {
            let name = excerpt(&text_of(name), SHOWN_CHARS);
            self.first.push(format!("{}:{number} {name}", file.display()));
        }
    }
}

/// A check of all lines.
pub(super) struct LinesCheck<'c> {
    loader: &'c FactLoader,
    data_dir: &'c Path,
    /// Who has something in the purgatory; `None`: it was not read yet.
    held: Option<KnownHere>,
}

impl<'c> LinesCheck<'c> {
    pub(super) fn new(loader: &'c FactLoader, data_dir: &'c Path) -> Self {
        Self {
            loader,
            data_dir,
            held: None,
        }
    }

    /// Checks the lines, with a pause after a few; with `until`, as many as there is time for. A list that cannot be
    /// read is left out: that was named before.
    ///
    /// # Errors
    /// See [`UncheckedLines`].
    pub(super) async fn run(
        mut self,
        paths: &AccessPaths,
        pause: Duration,
        until: Option<Instant>,
    ) -> Result<UnmatchedLines, UncheckedLines> {
        let mut found = UnmatchedLines::default();
        for path in [&paths.allowed, &paths.denied, &paths.denied_authors]
            .into_iter()
            .flatten()
        {
            let to_read = path.clone();
            let read = spawn_blocking(move || fs::read_to_string(to_read)).await;
            let Ok(Ok(text)) = read else { continue };
            let mut lines = listed_names(&text).filter_map(|(number, name)| Some((number, name.ok()?)));
            loop {
                let chunk: Vec<_> = lines.by_ref().take(CHUNK).collect();
                if chunk.is_empty() {
                    break;
                }
                if until.is_some_and(|until| Instant::now() >= until) {
                    found.left += chunk.len() + lines.count();
                    break;
                }
                found.checked += chunk.len();
                for (number, name) in self.unmatched(chunk).await? {
                    found.add(path, number, &name);
                }
                tokio::time::sleep(pause).await;
            }
        }
        Ok(found)
    }

    async fn unmatched(
        &mut self,
        mut lines: Vec<(usize, ListedName)>,
    ) -> Result<Vec<(usize, ListedName)>, UncheckedLines> {
        let filters = lines.iter().map(|(_, name)| filter_of(name)).collect();
        let served = match self.loader.relay.newest(SERVED_BYTES_MAX, filters).await {
            // Somebody among them has published much: which of the others have not is not worth the memory.
            Err(RelayError::TooLarge { .. }) => return Ok(Vec::new()),
            served => KnownHere::of(&served?),
        };
        lines.retain(|(_, name)| !served.has(name));
        let data_dir = self.data_dir.to_owned();
        let on_disk = spawn_blocking(move || {
            lines.retain(|(_, name)| !is_on_disk(&data_dir, name));
            lines
        });
        // A panic there names no line.
        let mut lines = on_disk.await.unwrap_or_default();
        if !lines.is_empty() {
            let held = match self.held.take() {
                Some(held) => held,
                None => KnownHere::held(&self.loader.purgatory).await?,
            };
            lines.retain(|(_, name)| !held.has(name));
            self.held = Some(held);
        }
        Ok(lines)
    }
}

/// Who, and what, is known.
#[derive(Default)]
struct KnownHere {
    authors: BTreeSet<PublicKey>,
    repositories: BTreeSet<Coordinate>,
    identifiers: BTreeSet<Identifier>,
}

impl KnownHere {
    fn of(events: &[Event]) -> Self {
        let mut known = Self::default();
        for event in events {
            known.authors.insert(event.pubkey);
            let is_about_its_own = [nip34::ANNOUNCEMENT, nip34::STATE].contains(&event.kind.as_u16());
            let identifier = event.tags.identifier().filter(|_| is_about_its_own);
            if let Some(identifier) = identifier.and_then(|identifier| identifier.parse::<Identifier>().ok()) {
                known.add(Coordinate {
                    owner: event.pubkey,
                    identifier,
                });
            }
        }
        known
    }

    /// Reads who has something in the purgatory; of very many, some.
    async fn held(purgatory: &Purgatory) -> Result<Self, PurgatoryError> {
        let (mut known, mut read) = (Self::default(), 0);
        let reading = each_row(Pages::new(purgatory), |row| {
            known.authors.extend(row.author);
            row.repositories
                .into_iter()
                .for_each(|coordinate| known.add(coordinate));
            read += 1;
            read < HELD_MAX
        });
        reading.await?;
        Ok(known)
    }

    fn add(&mut self, coordinate: Coordinate) {
        self.identifiers.insert(coordinate.identifier.clone());
        self.repositories.insert(coordinate);
    }

    fn has(&self, name: &ListedName) -> bool {
        match name {
            ListedName::Owner(owner) => self.authors.contains(owner),
            ListedName::Repository(repository) => self.repositories.contains(repository),
            ListedName::Identifier(identifier) => self.identifiers.contains(identifier),
        }
    }
}

/// Returns what one event is enough for.
fn filter_of(name: &ListedName) -> Filter {
    let of_repositories = || Filter::new().kinds([nip34::ANNOUNCEMENT, nip34::STATE].map(Kind::from_u16));
    let filter = match name {
        ListedName::Owner(owner) => Filter::new().author(*owner),
        ListedName::Repository(repository) => of_repositories()
            .author(repository.owner)
            .identifier(repository.identifier.as_str()),
        ListedName::Identifier(identifier) => of_repositories().identifier(identifier.as_str()),
    };
    filter.limit(1)
}

/// Of an identifier alone the relay knows: to find it on disk, all would have to be read.
fn is_on_disk(data_dir: &Path, name: &ListedName) -> bool {
    match name {
        ListedName::Owner(owner) => repositories_below(data_dir, owner).is_dir(),
        ListedName::Repository(repository) => repository_below(data_dir, repository).is_dir(),
        ListedName::Identifier(_) => false,
    }
}

fn text_of(name: &ListedName) -> String {
    match name {
        ListedName::Owner(owner) => npub(owner),
        ListedName::Repository(coordinate) => repository(coordinate),
        ListedName::Identifier(identifier) => plain(identifier.as_str()),
    }
}

/// Between two looks whether the lists have changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Memory of one event of each of them.
const SERVED_BYTES_MAX: usize = 16 << 20;

/// Lines that the relay is asked about at once.
const CHUNK: usize = 50;

/// Between two of these questions: 100,000 lines take some minutes, in which others hardly notice them.
const CHUNK_PAUSE: Duration = Duration::from_millis(50);

/// Entries of the purgatory that are read, once in a check.
const HELD_MAX: usize = 10_000;

/// Lines that are named.
const SHOWN_MAX: usize = 10;

/// Of a line.
const SHOWN_CHARS: usize = 80;
