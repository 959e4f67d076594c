//! The tags of a repository as releases: when each was made, and what its author wrote.

use std::cmp::Reverse;
use std::sync::Arc;

use gix::date::Time;
use gix::hash::Kind::Sha1;
use gix::objs::CommitRef;
use gix::objs::TagRef;
use shared::git::ObjectKind;
use shared::git::Oid;

use crate::repositories::head_contents::COMMIT_BYTES_MAX;
use crate::repositories::layout::in_background;
use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::refs::RefSnapshot;
use crate::repositories::repository::Repository;

/// A tag.
#[derive(Debug)]
pub(crate) struct TaggedRelease {
    /// Without `refs/tags/`.
    pub(crate) name: String,
    pub(crate) oid: Oid,
    pub(crate) time: Time,
    /// Of the tag, or of the commit that it names.
    pub(crate) message: String,
}

impl Repository {
    /// Reads the latest releases among `refs`, the newest first.
    ///
    /// # Errors
    /// An object that exists cannot be read.
    pub(crate) async fn releases(&self, refs: Arc<RefSnapshot>) -> Result<Vec<TaggedRelease>, ReadError> {
        let object_dir = self.object_dir();
        in_background(move || {
            let objects = Objects::open(&[object_dir])?;
            let tags = refs.refs.iter().filter_map(|(name, oid)| {
                let name = name.as_str().strip_prefix("refs/tags/")?;
                Some((name, *oid))
            });
            let mut tags: Vec<(&str, Oid)> = tags.collect();
            tags.sort_by_cached_key(|(name, _)| Reverse(version_order(name)));
            let mut releases = Vec::new();
            for (name, oid) in tags.into_iter().take(TAGS_READ_MAX) {
                releases.extend(release(&objects, name, oid)?);
            }
            releases.sort_by_key(|release| Reverse(release.time.seconds));
            releases.truncate(RELEASES_MAX);
            Ok(releases)
        })
        .await
    }
}

/// Reads one tag, annotated or not; `None`: it has no time, or costs too much to read.
fn release(objects: &Objects, name: &str, oid: Oid) -> Result<Option<TaggedRelease>, ReadError> {
    let read = |time: Option<Time>, message: &[u8]| {
        Some(TaggedRelease {
            name: name.to_owned(),
            oid,
            time: time?,
            message: String::from_utf8_lossy(&message[..message.len().min(MESSAGE_BYTES_MAX)]).into_owned(),
        })
    };
    if let Some(content) = objects.content(oid, ObjectKind::Tag, COMMIT_BYTES_MAX)? {
        let tag = TagRef::from_bytes(&content, Sha1).ok();
        return Ok(tag.and_then(|tag| {
            let tagger = tag.tagger().ok().flatten();
            read(tagger.and_then(|tagger| tagger.time().ok()), tag.message)
        }));
    }
    let Some(content) = objects.content(oid, ObjectKind::Commit, COMMIT_BYTES_MAX)? else {
        return Ok(None);
    };
    let commit = CommitRef::from_bytes(&content, Sha1).ok();
    Ok(commit.and_then(|commit| read(commit.time().ok(), commit.message)))
}

/// Returns by what names with numbers are sorted, so that 1.10 comes after 1.9: each run of digits has its length
/// before it.
pub(crate) fn version_order(name: &str) -> Vec<u8> {
    let mut order = Vec::with_capacity(name.len() + 8);
    let mut rest = name.as_bytes();
    while let Some(first) = rest.first() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match digits {
            0 => {
                order.push(*first);
                rest = &rest[1..];
            }
            _ => {
                let zeros = rest[..digits].iter().take_while(|byte| **byte == b'0').count();
                let number = &rest[zeros..digits];
                // Where other names have a letter or a dot, a digit sorts between the two, as it does without this.
                order.push(b'0');
                order.extend(u16::try_from(number.len()).unwrap_or(u16::MAX).to_be_bytes());
                order.extend(number);
                rest = &rest[digits..];
            }
        }
    }
    order
}

/// Tags that are read, by the order of their versions: each may cost as much as an object may.
const TAGS_READ_MAX: usize = 50;

/// In a feed.
const RELEASES_MAX: usize = 20;

/// Of what is shown of a message.
const MESSAGE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

    #[test]
    fn versions_are_sorted_by_their_numbers() {
        let mut names = ["v1.10", "v1.9", "v2.0", "v1.2-rc1", "v01.9.1", "a", "v1.10.1", "1"];
        names.sort_by_cached_key(|name| version_order(name));

        assert_eq!(
            names,
            ["1", "a", "v1.2-rc1", "v1.9", "v01.9.1", "v1.10", "v1.10.1", "v2.0"]
        );
    }

    #[tokio::test]
    async fn tags_of_either_kind_are_releases_and_others_are_not() {
        let world = World::new().await;
        let repository = world.repository("a");
        let commit = world.commit(&repository, "plain", &[]).await;
        let annotated = world.tag(&repository, commit, "commit").await;
        let blob = world.oid(&repository, &["hash-object", "-w", "--stdin"], b"x").await;
        let mut refs = RefSnapshot::empty();
        for (name, oid) in [
            ("refs/tags/v1", annotated),
            ("refs/tags/v2", commit),
            ("refs/tags/blob", blob),
            ("refs/heads/main", commit),
        ] {
            refs.refs.insert(name.parse().unwrap(), oid);
        }

        let releases = repository.releases(Arc::new(refs)).await.unwrap();

        let named: Vec<(&str, &str)> = releases
            .iter()
            .map(|release| (release.name.as_str(), release.message.trim()))
            .collect();
        assert_eq!(named, [("v2", "plain"), ("v1", "t")]);
        assert_eq!(releases[1].time.seconds, 1_700_000_000);
    }
}
