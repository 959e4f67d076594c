//! What the pages of repositories show of the commits that HEAD leads to, kept for later pages.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use shared::git::Oid;
use shared::nip34::Coordinate;

use crate::command_error::causes;
use crate::http::pages::contents::Contents;
use crate::repositories::Repositories;

/// The shown content of commits, by its maximum size. It never changes.
pub(super) struct ShownContents {
    cache: Arc<Cache<ContentsOf, Arc<Contents>, ContentsBytes>>,
}

type ContentsOf = (Coordinate, Oid, usize);

#[derive(Debug, Clone)]
struct ContentsBytes;

impl Weighter<ContentsOf, Arc<Contents>> for ContentsBytes {
    fn weight(&self, _: &ContentsOf, contents: &Arc<Contents>) -> u64 {
        CONTENTS_BYTES + contents.bytes() as u64
    }
}

impl ShownContents {
    pub(super) fn new() -> Self {
        Self {
            cache: Arc::new(Cache::with_weighter(
                CONTENTS_EXPECTED,
                CONTENTS_BYTES_MAX,
                ContentsBytes,
            )),
        }
    }

    /// Returns the content, up to a size, of a commit in a repository; nothing if it cannot be read.
    pub(super) async fn of(
        &self,
        repositories: &Repositories,
        coordinate: &Coordinate,
        head: Oid,
        bytes_max: usize,
    ) -> Arc<Contents> {
        let key = (coordinate.clone(), head, bytes_max);
        if let Some(contents) = self.cache.get(&key) {
            return contents;
        }
        let (cache, repository) = (Arc::clone(&self.cache), repositories.at(coordinate));
        // What has begun ends, whether its client waits for it or not: the next one would begin again.
        let shown = tokio::spawn(async move {
            let rendered = repository.head_contents(head, move |read| Arc::new(Contents::new(read, bytes_max)));
            cache.get_or_insert_async(&key, rendered).await
        });
        let error = match shown.await {
            Ok(Ok(contents)) => return contents,
            Ok(Err(error)) => causes(&error),
            Err(error) => causes(&error),
        };
        tracing::warn!(repo.coordinate = %coordinate, error, "cannot read the content of a repository's page");
        Arc::default()
    }
}

/// For the shown content of commits: that of some thousand repositories.
const CONTENTS_BYTES_MAX: u64 = 16 << 20;

/// Of one, in addition to the content.
const CONTENTS_BYTES: u64 = 512;

/// Commits whose content is kept; more are not an error.
const CONTENTS_EXPECTED: usize = 4_000;
