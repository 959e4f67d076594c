//! The content of the commit that HEAD leads to, for pages: its README and the last commits, read with the usual limits
//! for objects. Missing, malformed or too expensive parts are left out.

use std::time::Duration;

use gix::date::Time;
use gix::hash::Kind::Sha1;
use gix::objs::CommitRef;
use gix::objs::TreeRefIter;
use shared::git::ObjectKind;
use shared::git::Oid;

use crate::repositories::layout::in_background;
use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::to_oid;
use crate::repositories::repository::Repository;

#[derive(Debug, Default)]
pub(crate) struct HeadContents {
    pub(crate) readme: Option<Readme>,
    /// The last ones, by their first parents.
    pub(crate) commits: Vec<CommitLine>,
}

#[derive(Debug)]
pub(crate) struct Readme {
    pub(crate) text: String,
    pub(crate) is_markdown: bool,
    /// Whether `text` is all of it.
    pub(crate) is_whole: bool,
}

#[derive(Debug)]
pub(crate) struct CommitLine {
    pub(crate) oid: Oid,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) time: Option<Time>,
}

impl Repository {
    /// Reads the content of the commit `head`, and returns the result of `render` on it, outside the async threads.
    pub(crate) async fn head_contents<T: Send + 'static>(
        &self,
        head: Oid,
        render: impl FnOnce(&HeadContents) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let object_dir = self.object_dir();
        in_background(move || {
            let objects = Objects::open(&[object_dir], CONTENTS_CPU_MAX)?;
            Ok(render(&HeadContents {
                readme: readme(&objects, head)?,
                commits: last_commits(&objects, head)?,
            }))
        })
        .await
    }
}

fn last_commits(objects: &Objects, head: Oid) -> Result<Vec<CommitLine>, ReadError> {
    let (mut commits, mut next) = (Vec::new(), Some(head));
    while let Some(oid) = next.filter(|_| commits.len() < COMMITS_MAX) {
        let Some(content) = objects.content(oid, ObjectKind::Commit, COMMIT_BYTES_MAX)? else {
            break;
        };
        let Ok(commit) = CommitRef::from_bytes(&content, Sha1) else {
            break;
        };
        let (author, committer) = (commit.author().ok(), commit.committer().ok());
        commits.push(CommitLine {
            oid,
            title: first_line(commit.message),
            author: author.map_or_else(String::new, |author| first_line(author.trim().name)),
            time: committer.and_then(|committer| committer.time().ok()),
        });
        next = commit.parents().next().and_then(|parent| to_oid(&parent));
    }
    Ok(commits)
}

/// Returns the first line of a text, or the beginning of it.
pub(super) fn first_line(text: &[u8]) -> String {
    let text = text.trim_ascii();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).into_owned()
}

fn readme(objects: &Objects, head: Oid) -> Result<Option<Readme>, ReadError> {
    let Some(commit) = objects.content(head, ObjectKind::Commit, COMMIT_BYTES_MAX)? else {
        return Ok(None);
    };
    let tree = CommitRef::from_bytes(&commit, Sha1).ok();
    let Some(tree) = tree.and_then(|commit| to_oid(&commit.tree())) else {
        return Ok(None);
    };
    let Some(tree) = objects.content(tree, ObjectKind::Tree, TREE_BYTES_MAX)? else {
        return Ok(None);
    };
    let files = TreeRefIter::from_bytes(&tree, Sha1).map_while(Result::ok);
    let ranked = files.filter(|entry| entry.mode.is_blob()).filter_map(|entry| {
        let rank = rank(entry.filename)?;
        Some((rank, to_oid(entry.oid)?))
    });
    let Some((rank, oid)) = ranked.min_by_key(|(rank, _)| *rank) else {
        return Ok(None);
    };
    let Some(blob) = objects.content(oid, ObjectKind::Blob, README_BYTES_MAX)? else {
        return Ok(None);
    };
    let shown = &blob[..blob.len().min(README_SHOWN_BYTES_MAX)];
    // A character may be cut in two.
    let text = String::from_utf8_lossy(shown);
    Ok(Some(Readme {
        text: text.trim_end_matches('\u{fffd}').to_owned(),
        is_markdown: README_ENDINGS[rank].1,
        is_whole: shown.len() == blob.len(),
    }))
}

/// Returns the rank of a file's name among those of READMEs; `None`: it is not one.
fn rank(name: &[u8]) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    let ending = name.strip_prefix(b"readme")?;
    README_ENDINGS.iter().position(|(known, _)| known.as_bytes() == ending)
}

/// Endings of the names of READMEs, the best first, and whether they are Markdown.
const README_ENDINGS: [(&str, bool); 7] = [
    (".md", true),
    (".markdown", true),
    ("", false),
    (".txt", false),
    (".rst", false),
    (".org", false),
    (".adoc", false),
];

const COMMITS_MAX: usize = 10;

/// Of a commit that is shown; the largest that people write have some KB.
pub(super) const COMMIT_BYTES_MAX: u64 = 64 * 1024;

/// Of the tree in which a README is looked for: some 20,000 files beside each other.
const TREE_BYTES_MAX: u64 = 1024 * 1024;

/// Of a README that is read.
const README_BYTES_MAX: u64 = 1024 * 1024;

/// Of a README that is kept.
const README_SHOWN_BYTES_MAX: usize = 16 * 1024;

const LINE_BYTES_MAX: usize = 500;

/// To read all of it; a README of 1 MiB behind some deltas takes a tenth.
const CONTENTS_CPU_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn a_head_shows_its_readme_and_its_last_commits() {
        let world = World::new().await;
        let repository = world.repository("a");
        let mut head = None;
        for number in 0..COMMITS_MAX + 5 {
            let parents: Vec<Oid> = head.into_iter().collect();
            head = Some(
                world
                    .commit(&repository, &format!("number {number}\n\nbody"), &parents)
                    .await,
            );
        }

        let read = |read: &HeadContents| {
            assert!(read.commits[0].time.is_some());
            let titles = read.commits.iter().map(|commit| commit.title.clone());
            titles.collect::<Vec<_>>()
        };
        let titles = repository.head_contents(head.unwrap(), read).await.unwrap();

        assert_eq!(titles.len(), COMMITS_MAX);
        assert_eq!((titles[0].as_str(), titles[9].as_str()), ("number 14", "number 5"));
    }

    #[test]
    fn the_best_of_several_readmes_is_taken_whatever_its_case() {
        let mut names = ["readme.rst", "README", "Readme.md", "README.MARKDOWN"];
        names.sort_by_key(|name| rank(name.as_bytes()));

        assert_eq!(names, ["Readme.md", "README.MARKDOWN", "README", "readme.rst"]);
        for other in ["READMEs", "README.md.bak", "a-readme.md", "README.exe"] {
            assert_eq!(rank(other.as_bytes()), None, "{other}");
        }
    }
}
