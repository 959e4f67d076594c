//! Which faults of objects are taken, and which are not, of all that git's fsck knows (git `fsck-msgids.txt`;
//! docs/clients.md, "Old histories", has each with its reason). Whatever can harm who fetches or checks out is refused.

/// Returns the severities of faults that differ from git's own, as `index-pack --strict=` reads them.
pub(super) fn severities() -> String {
    let tolerated = TOLERATED.iter().map(|fault| format!("{fault}=ignore"));
    let refused = REFUSED.iter().map(|fault| format!("{fault}=error"));
    tolerated.chain(refused).collect::<Vec<_>>().join(",")
}

/// Faults of honest histories that tools before git, or beside it, wrote: what no client stumbles over.
const TOLERATED: [&str; 11] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// What git only notes, and what harms who checks out: links that lead git to read another file of that machine, and a
/// `.gitmodules` of which nothing was checked because it cannot be read.
const REFUSED: [&str; 4] = [
    "gitattributesSymlink",
    "gitignoreSymlink",
    "gitmodulesParse",
    "mailmapSymlink",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use shared::git::Oid;

    use crate::repositories::ingest::tests::ingest;
    use crate::repositories::pack::IngestError;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::repository::Repository;
    use crate::repositories::testing::World;

    /// An object with one fault.
    enum Faulty {
        /// A commit with these lines between its tree and its message.
        By(&'static str),
        /// A complete object of this kind, in which `TREE` and `BLOB` stand for ids.
        Text(&'static str, &'static str),
        /// A tree of these modes and names.
        Tree(&'static [(&'static str, &'static str)]),
        /// A tree of one file with this content.
        File(&'static str, &'static str),
    }
    use Faulty::By;
    use Faulty::File;
    use Faulty::Text;
    use Faulty::Tree;

    const GOOD: &str = "author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n";

    /// Longer than any path or line that git takes.
    const LONG: &str = match std::str::from_utf8(&[b'x'; 5000]) {
        Ok(long) => long,
        Err(_) => "",
    };

    const FAULTS: &[(&str, Faulty)] = &[
        ("badDate", By("author A <a@x> soon +0000\ncommitter A <a@x> 1 +0000\n")),
        (
            "badDateOverflow",
            By("author A <a@x> 99999999999999999999 +0000\ncommitter A <a@x> 1 +0000\n"),
        ),
        ("badEmail", By("author A <a <b> 1 +0000\ncommitter A <a@x> 1 +0000\n")),
        ("badName", By("author A> <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n")),
        (
            "badTimezone",
            By("author A <a@x> 1 +0000\ncommitter A <a@x> 1 +1234567\n"),
        ),
        ("missingEmail", By("author A 1 +0000\ncommitter A <a@x> 1 +0000\n")),
        (
            "missingNameBeforeEmail",
            By("author <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n"),
        ),
        (
            "missingSpaceBeforeDate",
            By("author A <a@x>1 +0000\ncommitter A <a@x> 1 +0000\n"),
        ),
        (
            "missingSpaceBeforeEmail",
            By("author A<a@x> 1 +0000\ncommitter A<a@x> 1 +0000\n"),
        ),
        (
            "zeroPaddedDate",
            By("author A <a@x> 01000000000 +0000\ncommitter A <a@x> 1 +0000\n"),
        ),
        ("zeroPaddedFilemode", Tree(&[("0100644", "f")])),
        ("badFilemode", Tree(&[("100664", "f")])),
        (
            "badTagName",
            Text("tag", "object TREE\ntype tree\ntag a~b\ntagger A <a@x> 1 +0000\n\nm\n"),
        ),
        (
            "extraHeaderEntry",
            Text(
                "tag",
                "object TREE\ntype tree\ntag t\ntagger A <a@x> 1 +0000\nx y\n\nm\n",
            ),
        ),
        (
            "missingTaggerEntry",
            Text("tag", "object TREE\ntype tree\ntag t\n\nm\n"),
        ),
        (
            "badObjectSha1",
            Text("tag", "object 123\ntype tree\ntag t\ntagger A <a@x> 1 +0000\n\nm\n"),
        ),
        (
            "badParentSha1",
            By("parent 123\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n"),
        ),
        ("badTree", Text("tree", "100644 f")),
        (
            "badTreeSha1",
            Text(
                "commit",
                "tree 123\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nm\n",
            ),
        ),
        (
            "badType",
            Text("tag", "object TREE\ntype thing\ntag t\ntagger A <a@x> 1 +0000\n\nm\n"),
        ),
        ("duplicateEntries", Tree(&[("100644", "f"), ("100644", "f")])),
        ("emptyName", Tree(&[("100644", "")])),
        ("fullPathname", Tree(&[("100644", "a/b")])),
        ("gitattributesBlob", Tree(&[("40000", ".gitattributes")])),
        ("gitattributesLineLength", File(".gitattributes", LONG)),
        ("gitattributesSymlink", Tree(&[("120000", ".gitattributes")])),
        ("gitignoreSymlink", Tree(&[("120000", ".gitignore")])),
        ("gitmodulesBlob", Tree(&[("40000", ".gitmodules")])),
        (
            "gitmodulesName",
            File(".gitmodules", "[submodule \"../x\"]\n\tpath = y\n\turl = https://x/y\n"),
        ),
        ("gitmodulesParse", File(".gitmodules", "[submodule \"x\n\tpath = \"y")),
        (
            "gitmodulesPath",
            File(".gitmodules", "[submodule \"x\"]\n\tpath = -y\n\turl = https://x/y\n"),
        ),
        ("gitmodulesSymlink", Tree(&[("120000", ".gitmodules")])),
        (
            "gitmodulesUpdate",
            File(".gitmodules", "[submodule \"x\"]\n\tpath = y\n\tupdate = !touch z\n"),
        ),
        (
            "gitmodulesUrl",
            File(
                ".gitmodules",
                "[submodule \"x\"]\n\tpath = y\n\turl = --upload-pack=z\n",
            ),
        ),
        ("hasDot", Tree(&[("40000", ".")])),
        ("hasDotdot", Tree(&[("40000", "..")])),
        ("hasDotgit", Tree(&[("40000", ".GIT")])),
        ("largePathname", Tree(&[("100644", LONG)])),
        ("mailmapSymlink", Tree(&[("120000", ".mailmap")])),
        ("missingAuthor", By("committer A <a@x> 1 +0000\n")),
        ("missingCommitter", By("author A <a@x> 1 +0000\n")),
        (
            "missingObject",
            Text("tag", "type tree\ntag t\ntagger A <a@x> 1 +0000\n\nm\n"),
        ),
        ("missingTag", Text("tag", "object TREE\ntype tree\ntag t")),
        (
            "missingTagEntry",
            Text("tag", "object TREE\ntype tree\ntagger A <a@x> 1 +0000\n\nm\n"),
        ),
        (
            "missingTree",
            Text("commit", "author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nm\n"),
        ),
        ("missingType", Text("tag", "object TREE\ntype tree")),
        (
            "missingTypeEntry",
            Text("tag", "object TREE\ntag t\ntagger A <a@x> 1 +0000\n\nm\n"),
        ),
        (
            "multipleAuthors",
            By("author A <a@x> 1 +0000\nauthor B <b@x> 1 +0000\ncommitter A <a@x> 1 +0000\n"),
        ),
        (
            "nulInCommit",
            Text(
                "commit",
                "tree TREE\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nm\0hidden\n",
            ),
        ),
        (
            "nulInHeader",
            By("author A\0 <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n"),
        ),
        (
            "nullSha1",
            Text("tree", "40000 d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ),
        ("treeNotSorted", Tree(&[("100644", "b"), ("100644", "a")])),
        (
            "unterminatedHeader",
            Text("commit", "tree TREE\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000"),
        ),
    ];

    /// What no small pack can show: of objects of more than 32 MB, of objects that are not there, and of refs.
    const NOT_SHOWN: &[&str] = &[
        "badRefFiletype",
        "badRefName",
        "gitattributesLarge",
        "gitattributesMissing",
        "gitmodulesLarge",
        "gitmodulesMissing",
        "skipList",
        "unknownType",
    ];

    /// What git cannot even read, and has other words for.
    const UNREADABLE: &[&str] = &[
        "badObjectSha1",
        "badParentSha1",
        "badTreeSha1",
        "badType",
        "missingObject",
        "missingTag",
        "missingTagEntry",
        "missingTree",
        "missingType",
        "missingTypeEntry",
    ];

    impl Faulty {
        async fn write(&self, world: &World, repository: &Repository) -> Vec<Oid> {
            let hash = async |kind: &str, bytes: &[u8]| {
                let args = ["hash-object", "-t", kind, "--literally", "-w", "--stdin"];
                world.oid(repository, &args, bytes).await
            };
            let blob_of = async |content: &str| hash("blob", content.as_bytes()).await;
            let (blob, tree) = (blob_of("x").await, hash("tree", b"").await);
            let entries = |entries: &[(&str, &str, Oid)]| {
                let mut bytes = Vec::new();
                for (mode, name, oid) in entries {
                    bytes.extend(format!("{mode} {name}\0").bytes());
                    bytes.extend(oid.as_bytes());
                }
                bytes
            };
            let faulty = match self {
                By(lines) => hash("commit", format!("tree {tree}\n{lines}\nm\n").as_bytes()).await,
                Text(kind, text) => {
                    let text = text.replace("TREE", &tree.to_string());
                    hash(kind, text.as_bytes()).await
                }
                Tree(named) => {
                    let object = |mode: &str| if mode.ends_with("40000") { tree } else { blob };
                    let named: Vec<_> = named.iter().map(|(mode, name)| (*mode, *name, object(mode))).collect();
                    hash("tree", &entries(&named)).await
                }
                File(name, content) => {
                    let content = blob_of(content).await;
                    let faulty = hash("tree", &entries(&[("100644", name, content)])).await;
                    return vec![faulty, content];
                }
            };
            vec![faulty, blob, tree]
        }

        async fn take(&self, world: &World, pusher: &Repository, server: &Repository) -> Result<Oid, IngestError> {
            let objects = self.write(world, pusher).await;
            let list: String = objects.iter().map(|oid| format!("{oid}\n")).collect();
            let pack = ["pack-objects", "--stdout", "--quiet"];
            let pack = world.git(pusher, &pack, list.as_bytes()).await;
            ingest(server, pack, IngestLimits::default()).await.map(|_| objects[0])
        }
    }

    /// Reads from the document whether each fault is allowed.
    fn documented() -> BTreeMap<String, bool> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, table) = text.split_once("## Old histories").unwrap();
        let mut documented = BTreeMap::new();
        for row in table.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let is_allowed = match cells[2] {
                "allowed" => true,
                "refused" => false,
                other => panic!("{other}: {row}"),
            };
            let names = cells[1].split('`').skip(1).step_by(2);
            documented.extend(names.map(|name| (name.to_owned(), is_allowed)));
        }
        documented
    }

    async fn known_to(world: &World) -> BTreeSet<String> {
        let help = world.store.git().invoke("help").arg("--config-for-completion");
        let listed = help.output(b"", Duration::from_secs(30)).await.unwrap();
        let listed = String::from_utf8(listed).unwrap();
        listed
            .lines()
            .filter_map(|line| line.strip_prefix("fsck."))
            .map(str::to_owned)
            .collect()
    }

    #[tokio::test]
    async fn every_fault_that_git_knows_gets_what_the_document_says() {
        let documented = documented();
        for world in World::of_every_git().await {
            let (pusher, server) = (world.repository("pusher"), world.repository("server"));
            server.create().await.unwrap();
            let known = known_to(&world).await;
            assert!(known.len() > 50, "{known:?}");
            let decided = |id: &&String| documented.contains_key(*id) || *id == "skipList";
            let undecided: Vec<_> = known.iter().filter(|id| !decided(id)).collect();
            assert!(
                undecided.is_empty(),
                "decide about what git {} knows: {undecided:?}",
                world.store.git().version()
            );
            for id in known.iter().filter(|id| !NOT_SHOWN.contains(&id.as_str())) {
                let faulty = FAULTS.iter().find(|(name, _)| name == id);
                let (_, faulty) = faulty.unwrap_or_else(|| panic!("no object shows {id}"));

                let taken = faulty.take(&world, &pusher, &server).await;

                match (taken, documented[id]) {
                    (Ok(_), true) => {}
                    (Err(IngestError::Fsck { message }), false) => {
                        // For an entry without a name, git reports another fault.
                        let fault = if id == "emptyName" { "badTree" } else { id };
                        assert!(
                            message.contains("object ") && message.contains(fault),
                            "{id}: {message}"
                        );
                    }
                    (Err(IngestError::Broken { .. }), false) => assert!(UNREADABLE.contains(&id.as_str()), "{id}"),
                    (taken, _) => panic!("{id}: {taken:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn without_a_fault_objects_are_taken() {
        let world = World::new().await;
        let (pusher, server) = (world.repository("pusher"), world.repository("server"));
        server.create().await.unwrap();
        for good in [
            By(GOOD),
            Text("tag", "object TREE\ntype tree\ntag t\ntagger A <a@x> 1 +0000\n\nm\n"),
            Tree(&[("100644", ".gitignore"), ("120000", "README")]),
            File(".gitmodules", "[submodule \"x\"]\n\tpath = y\n\turl = https://x/y\n"),
            File(".gitattributes", "*.png binary\n"),
        ] {
            good.take(&world, &pusher, &server).await.unwrap();
        }
    }
}
