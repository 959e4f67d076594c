//! The authors of the PRs whose refs a repository has: a small file beside HEAD, a line for each. It determines whose
//! share a ref counts for; a ref whose line was lost counts for nobody until a re-check has read its event again.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::repository::Repository;

/// Reads who offered what in the repository at `repository`. A line that nobody wrote whole is left out. Blocks.
pub(super) fn read_authors(repository: &Path) -> Result<BTreeMap<EventId, PublicKey>, FileError> {
    let path = repository.join(FILE);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        // A crash may leave half a character of nothing that is ours.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {}
        Err(error) => return Err(failed("read", &path)(error)),
    }
    let author_of = |line: &str| {
        let (event_id, author) = line.split_once(' ')?;
        Some((EventId::from_hex(event_id).ok()?, PublicKey::from_hex(author).ok()?))
    };
    Ok(text.lines().filter_map(author_of).collect())
}

impl Repository {
    /// Returns who offered the PRs that it has refs of, as far as that is noted.
    pub(crate) async fn authors(&self) -> Result<BTreeMap<EventId, PublicKey>, FileError> {
        let path = self.path().to_owned();
        in_background(move || read_authors(&path)).await
    }

    /// Notes who offers a PR whose ref is about to be set.
    pub(super) async fn note_author(&self, event_id: &EventId, author: &PublicKey) -> Result<(), FileError> {
        let (path, line) = (self.path().join(FILE), format!("{event_id} {author}\n"));
        in_background(move || {
            let file = File::options().append(true).create(true).open(&path);
            let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
            written.map_err(failed("write", &path))
        })
        .await
    }

    pub(super) async fn write_authors(&self, authors: &BTreeMap<EventId, PublicKey>) -> Result<(), FileError> {
        let path = self.path().join(FILE);
        let lines = authors
            .iter()
            .map(|(event_id, author)| format!("{event_id} {author}\n"));
        let text: String = lines.collect();
        in_background(move || {
            let fresh = path.with_extension("new");
            fs::write(&fresh, text).map_err(failed("write", &fresh))?;
            fs::rename(&fresh, &path).map_err(failed("replace", &path))
        })
        .await
    }
}

const FILE: &str = "grasp-pull-requests";

/// 250,000 lines: more refs than any limit allows.
const BYTES_MAX: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn what_is_noted_is_read_and_half_a_line_is_nobodys() {
        let world = World::new().await;
        let repository = world.repository("a");
        repository.create().await.unwrap();
        let read = || read_authors(repository.path()).unwrap();
        let event_id = |digit: &str| EventId::from_hex(&digit.repeat(64)).unwrap();
        let author = nostr::key::Keys::generate().public_key();
        assert!(read().is_empty());

        repository.note_author(&event_id("a"), &author).await.unwrap();
        repository.note_author(&event_id("b"), &author).await.unwrap();
        let path = repository.path().join(FILE);
        let cut = fs::read_to_string(&path).unwrap() + "cccc";
        fs::write(&path, cut).unwrap();
        assert_eq!(read(), [(event_id("a"), author), (event_id("b"), author)].into());

        repository
            .write_authors(&[(event_id("b"), author)].into())
            .await
            .unwrap();
        assert_eq!(read(), [(event_id("b"), author)].into());
    }
}
