//! The tags of a repository as releases: when each was made, and what its author wrote.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

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
    /// Reads the latest releases among `refs`, the newest first: of thousands of tags, among those that have the
    /// highest versions.
    pub(crate) async fn releases(&self, refs: Arc<RefSnapshot>) -> Result<Vec<TaggedRelease>, ReadError> {
        let object_dir = self.object_dir();
        in_background(move || {
            let objects = Objects::open(&[object_dir], TAGS_CPU_MAX)?;
            let tags = refs.refs.iter().filter_map(|(name, oid)| {
                let name = name.as_str().strip_prefix("refs/tags/")?;
                Some((name, *oid))
            });
            let mut tags: Vec<(&str, Oid)> = tags.collect();
            tags.sort_by_cached_key(|(name, _)| Reverse(version_order(name)));
            let mut releases = Vec::new();
            let mut bytes = 0;
            for (name, oid) in tags.into_iter().take(TAGS_READ_MAX) {
                let Some((kind, content)) = tag_or_commit(&objects, oid)? else {
                    continue;
                };
                bytes += content.len();
                if bytes > TAGS_BYTES_MAX {
                    break;
                }
                releases.extend(release(name, oid, kind, &content));
            }
            releases.sort_by_key(|release| Reverse(release.time.seconds));
            releases.truncate(RELEASES_MAX);
            Ok(releases)
        })
        .await
    }
}

/// Reads what a tag names; `None`: it is neither an annotated tag nor a commit, or costs too much to read.
fn tag_or_commit(objects: &Objects, oid: Oid) -> Result<Option<(ObjectKind, Vec<u8>)>, ReadError> {
    for kind in [ObjectKind::Tag, ObjectKind::Commit] {
        if let Some(content) = objects.content(oid, kind, COMMIT_BYTES_MAX)? {
            return Ok(Some((kind, content)));
        }
    }
    Ok(None)
}

/// Returns the release that a tag is, annotated or not; `None`: it has no time.
fn release(name: &str, oid: Oid, kind: ObjectKind, content: &[u8]) -> Option<TaggedRelease> {
    let (time, message) = match kind {
        ObjectKind::Tag => {
            let tag = TagRef::from_bytes(content, Sha1).ok()?;
            (tag.tagger().ok()??.time().ok()?, tag.message)
        }
        ObjectKind::Commit | ObjectKind::Tree | ObjectKind::Blob => {
            let commit = CommitRef::from_bytes(content, Sha1).ok()?;
            (commit.time().ok()?, commit.message)
        }
    };
    Some(TaggedRelease {
        name: name.to_owned(),
        oid,
        time,
        message: String::from_utf8_lossy(&message[..message.len().min(MESSAGE_BYTES_MAX)]).into_owned(),
    })
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

/// Tags that are read; more than few have.
const TAGS_READ_MAX: usize = 2000;

/// Of these: as many tags of some 500 bytes as are read, or fewer.
const TAGS_BYTES_MAX: usize = 1 << 20;

/// To read them. git packs what is read often with few deltas: thousands of tags take some hundredths of a second.
const TAGS_CPU_MAX: Duration = Duration::from_millis(250);

const RELEASES_MAX: usize = 20;

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

    /// Somebody tags a maintenance release of an old version.
    #[tokio::test]
    async fn the_newest_release_is_first_whatever_its_name_among_hundreds() {
        let world = World::new().await;
        let repository = world.repository("a");
        let old = world.commit(&repository, "old", &[]).await;
        let text = world
            .git(&repository, &["cat-file", "commit", &old.to_string()], b"")
            .await;
        let text = String::from_utf8(text).unwrap().replace("1700000000", "1800000000");
        let new = world
            .oid(
                &repository,
                &["hash-object", "-w", "-t", "commit", "--stdin"],
                text.as_bytes(),
            )
            .await;
        let mut refs = RefSnapshot::empty();
        for number in 0..500 {
            refs.refs.insert(format!("refs/tags/v2.{number}").parse().unwrap(), old);
        }
        refs.refs.insert("refs/tags/v0.1.1".parse().unwrap(), new);

        let releases = repository.releases(Arc::new(refs)).await.unwrap();

        let names: Vec<&str> = releases.iter().map(|release| release.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[1]), (RELEASES_MAX, "v0.1.1", "v2.499"));
    }
}
