//! What git's own check of `.gitmodules` lets pass, and what harms who clones with submodules: a carriage return in a
//! path (CVE-2025-48384: git writes it without quotes, and then reads another path) or in a URL (CVE-2024-52006: it is
//! passed on to a credential helper, which takes it for the end of a line).

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use gix::odb::pack::index::File as PackIndex;
use shared::git::ObjectKind;
use shared::git::Oid;

use crate::repositories::layout::in_background;
use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::to_oid;
use crate::repositories::packs::packs_in;

/// Returns a `.gitmodules` with a carriage return in a pack; `None`: there is none.
///
/// Checks every tree of the packs in `object_dir`, unless they are so many that it takes too long: then only those that
/// a checkout of `tips` reads. `of_repository` has the objects that the pack builds on.
pub(super) async fn dangerous_gitmodules(
    object_dir: &Path,
    of_repository: PathBuf,
    tips: BTreeSet<Oid>,
) -> Result<Option<Oid>, ReadError> {
    let object_dir = object_dir.to_owned();
    in_background(move || find(&object_dir, of_repository, &tips)).await
}

fn find(object_dir: &Path, of_repository: PathBuf, tips: &BTreeSet<Oid>) -> Result<Option<Oid>, ReadError> {
    let objects = Objects::open(&[object_dir.to_owned(), of_repository], CHECK_CPU_MAX)?;
    let found = match in_all_trees(object_dir, &objects)? {
        Some(found) => found,
        None => in_roots(&objects, tips)?,
    };
    for blob in found {
        let content = objects.content(blob, ObjectKind::Blob, u64::MAX)?;
        if content.is_none_or(|content| is_dangerous(&content)) {
            return Ok(Some(blob));
        }
    }
    Ok(None)
}

/// Returns what the trees of the packs call `.gitmodules`; `None`: there are too many, or one is too large to read.
fn in_all_trees(object_dir: &Path, objects: &Objects) -> Result<Option<BTreeSet<Oid>>, ReadError> {
    let (dir, begun) = (object_dir.join("pack"), Instant::now());
    let mut found = BTreeSet::new();
    for name in packs_in(&dir)? {
        let path = dir.join(name).with_extension("idx");
        let index = PackIndex::at(&path, gix::hash::Kind::Sha1).map_err(|_| ReadError::Malformed { path })?;
        for entry in index.iter() {
            let Some(oid) = to_oid(&entry.oid) else { continue };
            match objects.entries_named(oid, is_gitmodules)? {
                Some(named) if begun.elapsed() < SEARCH_MAX => found.extend(named),
                Some(_) | None => return Ok(None),
            }
        }
    }
    Ok(Some(found))
}

/// Returns what a checkout of these commits, or tags of commits, finds as `.gitmodules`; and a tip, if that costs too
/// much to find out.
fn in_roots(objects: &Objects, tips: &BTreeSet<Oid>) -> Result<BTreeSet<Oid>, ReadError> {
    let mut found = BTreeSet::new();
    for tip in tips {
        let commit = objects.peel(*tip)?.unwrap_or(*tip);
        // The first that a commit refers to is its tree.
        let root = objects.links(commit)?.map(|links| links.first().copied());
        let named = match root {
            Some(Some(root)) => objects.entries_named(root, is_gitmodules)?,
            Some(None) => Some(Vec::new()),
            None => None,
        };
        found.extend(named.unwrap_or_else(|| vec![*tip]));
    }
    Ok(found)
}

/// Whether git on some system takes a name for `.gitmodules`: in any case, with what HFS+ leaves out or NTFS cuts off,
/// or as NTFS shortens it (git `path.c` and `utf8.c`, `is_ntfs_dotgitmodules`, `is_hfs_dotgitmodules`).
fn is_gitmodules(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    let seen: String = name.chars().filter(|char| !LEFT_OUT_BY_HFS.contains(char)).collect();
    let seen = seen.to_lowercase();
    let seen = seen.split(':').next().unwrap_or_default().trim_end_matches([' ', '.']);
    let is_short = |start: &str| {
        let number = seen.strip_prefix(start);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    seen == ".gitmodules" || is_short("gitmod~") || is_short("gi7eba~")
}

/// Whether the content of a `.gitmodules` has a carriage return that is no part of a line's end, or one in a URL that
/// is written as `%0d`.
fn is_dangerous(content: &[u8]) -> bool {
    let is_bare = |place: usize| content[place] == b'\r' && content.get(place + 1) != Some(&b'\n');
    let is_encoded = |window: &[u8]| window.eq_ignore_ascii_case(b"%0d");
    (0..content.len()).any(is_bare) || content.windows(3).any(is_encoded)
}

const LEFT_OUT_BY_HFS: [char; 16] = [
    '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}',
    '\u{206a}', '\u{206b}', '\u{206c}', '\u{206d}', '\u{206e}', '\u{206f}', '\u{feff}',
];

/// What the whole check may take: it ends as if something had been found.
const CHECK_CPU_MAX: Duration = Duration::from_secs(30);

/// How long the trees of a pack are checked: some 100,000 trees.
const SEARCH_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::quarantine::Quarantine;
    use crate::repositories::spool::Spool;
    use crate::repositories::testing::World;

    #[test]
    fn names_that_some_git_takes_for_it() {
        for name in [
            ".gitmodules",
            ".GitModules",
            ".gitmodules ",
            ".gitmodules::$DATA",
            "GITMOD~1",
            "gi7eba~12",
        ] {
            assert!(is_gitmodules(name.as_bytes()), "{name}");
        }
        assert!(is_gitmodules(".git\u{200c}modules".as_bytes()));
        for name in ["gitmodules", ".gitmodules2", "gitmod~", "gitmod~x", ".git"] {
            assert!(!is_gitmodules(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn line_ends_of_windows_are_no_danger() {
        assert!(!is_dangerous(
            b"[submodule \"a\"]\r\n\tpath = a\r\n\turl = https://x/a\r\n"
        ));
        assert!(is_dangerous(b"[submodule \"a\"]\n\tpath = \"a\r\"\n"));
        assert!(is_dangerous(b"[submodule \"a\"]\n\tpath = a\r\r\n"));
        assert!(is_dangerous(b"[submodule \"a\"]\n\turl = https://x%0Dhost=y/a\n"));
    }

    /// What costs too much to read was taken for harmless.
    #[tokio::test]
    async fn a_tip_that_cannot_be_checked_is_found() {
        let world = World::new().await;
        let repository = world.repository("a");
        let [_, tip] = world.two_commits(&repository).await;
        let (dirs, tips) = ([repository.object_dir()], BTreeSet::from([tip]));

        for (cpu_max, expected) in [(Duration::MAX, None), (Duration::ZERO, Some(tip))] {
            let objects = Objects::open(&dirs, cpu_max).unwrap();
            assert_eq!(in_roots(&objects, &tips).unwrap().pop_first(), expected);
        }
    }

    #[tokio::test]
    async fn a_carriage_return_is_found_in_what_comes_and_in_what_is_here() {
        let world = World::new().await;
        let (from, into) = (world.repository("from"), world.repository("into"));
        into.create().await.unwrap();
        let hash = ["hash-object", "-w", "--stdin"];
        let evil = world.oid(&from, &hash, b"[submodule \"a\"]\n\tpath = \"a\r\"\n").await;
        let plain = world
            .oid(&from, &hash, b"[submodule \"a\"]\n\tpath = a\n\turl = ../a\n")
            .await;
        let commit = async |entries: String| {
            let tree = world.oid(&from, &["mktree"], entries.as_bytes()).await;
            world
                .oid(&from, &["commit-tree", "-m", "x", &tree.to_string()], b"")
                .await
        };
        let named = async |blob: Oid, name: &str| commit(format!("100644 blob {blob}\t{name}\n")).await;
        let harmless = named(evil, "notes").await;
        for (story, commit, have, expected) in [
            ("a plain one", named(plain, ".gitmodules").await, None, None),
            ("by another name", harmless, None, None),
            ("one that comes", named(evil, ".gitmodules").await, None, Some(evil)),
            (
                "of a blob that is here",
                named(evil, ".gitmodules").await,
                Some(harmless),
                Some(evil),
            ),
            ("by its short name", named(evil, "GITMOD~1").await, None, Some(evil)),
        ] {
            let limits = IngestLimits::default();
            let ingested = async |revs: String| {
                let args = ["pack-objects", "--revs", "--stdout", "--thin", "--quiet"];
                let pack = world.git(&from, &args, revs.as_bytes()).await;
                let quarantine = Quarantine::open(&into).await.unwrap();
                let mut spool = Spool::new(world.store.layout().clone(), limits);
                spool.push(&pack).await.unwrap();
                quarantine.ingest(None, spool, &limits).await.unwrap();
                quarantine
            };
            let mut revs = format!("{commit}\n");
            if let Some(have) = have {
                ingested(format!("{have}\n")).await.migrate().await.unwrap();
                revs.push_str(&format!("^{have}\n"));
            }
            let quarantine = ingested(revs).await;

            let found = dangerous_gitmodules(quarantine.object_dir(), into.object_dir(), [commit].into()).await;

            assert_eq!(found.unwrap(), expected, "{story}");
            let dirs = [quarantine.object_dir().to_owned(), into.object_dir()];
            let objects = Objects::open(&dirs, Duration::MAX).unwrap();
            let at_root = in_roots(&objects, &[commit].into()).unwrap();
            let content = |blob| objects.content(blob, ObjectKind::Blob, u64::MAX);
            let has_it = at_root
                .iter()
                .any(|blob| is_dangerous(&content(*blob).unwrap().unwrap()));
            assert_eq!(has_it, expected.is_some(), "{story}");
        }
    }
}
