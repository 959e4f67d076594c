//! Checking the pack of a push: `git index-pack` reads it into a quarantine and checks every object.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::process::Stdio;

use rustix::process::Signal;

use crate::git::error::GitError;
use crate::process::ChildOutput;
use crate::process::ChildProcess;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;
use crate::repositories::quarantine::Quarantine;
use crate::repositories::spool::Spool;
use crate::repositories::spool::Spooled;

impl Quarantine {
    /// Reads the pack that was spooled into the quarantine, and checks it. A small one is read by the git that is
    /// `ready` for it, if there is one.
    ///
    /// # Errors
    /// [`IngestError`]; the quarantine then holds nothing usable.
    pub(super) async fn ingest(
        &self,
        ready: Option<ChildProcess>,
        spool: Spool,
        limits: &IngestLimits,
    ) -> Result<(), IngestError> {
        let limits = &limits.of_pack(spool.bytes());
        let (index_pack, bytes) = match (spool.finish().await?, ready) {
            (Spooled::File(file), _) => (self.index_pack(limits).spawn(file.into())?, Vec::new()),
            (Spooled::Memory(bytes), Some(ready)) => (ready, bytes),
            (Spooled::Memory(bytes), None) => (self.index_small_pack(limits).spawn(Stdio::piped())?, bytes),
        };
        index_pack.be_nice(limits.niceness);
        let index = index_pack
            .demoted_when_long()
            .output(&bytes, PRINTED_BYTES_MAX, limits.duration_max);
        let (indexed, prepared) = tokio::join!(index, self.prepare());
        judge(indexed, limits)?;
        Ok(prepared?)
    }
}

/// Determines from the end and the output of an `index-pack` what was wrong (git `builtin/index-pack.c`).
pub(crate) fn judge(ended: io::Result<Option<ChildOutput>>, limits: &IngestLimits) -> Result<(), IngestError> {
    let Some(output) = ended.map_err(GitError::run("index-pack"))? else {
        let max = limits.duration_max;
        return Err(IngestError::Deadline { max });
    };
    let ChildOutput { status, stderr, .. } = &output;
    if status.success() {
        return Ok(());
    }
    if let Some(error) = killed(*status) {
        return Err(error);
    }
    let lines = stderr.lines();
    let line_with = |texts: &[&str]| {
        let says = |line: &&String| texts.iter().any(|text| line.contains(text));
        let line = lines.iter().find(says)?;
        let bare = line.strip_prefix("fatal: ").or(line.strip_prefix("error: "));
        Some(bare.unwrap_or(line).to_owned())
    };
    if line_with(&["No space left on device", "Disk quota exceeded"]).is_some() {
        return Err(IngestError::DiskFull);
    }
    if line_with(MEMORY_FAULTS).is_some() {
        return Err(IngestError::TooExpensive);
    }
    if line_with(&["exceeds maximum allowed size", "File too large"]).is_some() {
        let max_bytes = limits.pack_bytes_max;
        return Err(IngestError::TooLarge { max_bytes });
    }
    if line_with(&["fsck error"]).is_some() {
        // The line before it names the object and its fault.
        let message = line_with(&["error: object ", "error in ", "fsck error"]).unwrap_or_default();
        return Err(IngestError::Fsck { message });
    }
    let missing = [
        "did not receive expected object",
        "unresolved delta",
        "object of unexpected type",
    ];
    if let Some(message) = line_with(&missing) {
        return Err(IngestError::MissingObject { message });
    }
    if line_with(DISK_FAULTS).is_some() {
        return Err(GitError::failed("index-pack", &output).into());
    }
    let message = line_with(&["fatal: ", "error: "]).unwrap_or_else(|| stderr.summary());
    Err(IngestError::Broken { message })
}

/// Returns what a signal that ended a git means; `None`: there was none.
pub(super) fn killed(status: ExitStatus) -> Option<IngestError> {
    match status.signal() {
        None => None,
        // No limit of ours: they send SIGXCPU and SIGXFSZ, or let an allocation fail.
        Some(signal) if signal == Signal::KILL.as_raw() => Some(IngestError::Killed),
        Some(_) => Some(IngestError::TooExpensive),
    }
}

/// git's messages when it gets no memory.
pub(super) const MEMORY_FAULTS: &[&str] = &["Out of memory", "out of memory", "mmap failed", "Cannot allocate"];

/// git's messages for a failing disk that do not mention a lack of room: without an inode for the directory, a
/// temporary file in it cannot be made.
pub(super) const DISK_FAULTS: &[&str] = &[
    "nable to create temporary file",
    "Input/output error",
    "Read-only file system",
    "Permission denied",
    "Not a directory",
    "Too many levels of symbolic links",
    "not a git repository",
];

/// Of the name of the pack, which is all that it prints and not needed.
pub(crate) const PRINTED_BYTES_MAX: usize = 1024;

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use shared::git::Oid;

    use super::*;
    use crate::repositories::objects::object_kinds;
    use crate::repositories::repository::Repository;
    use crate::repositories::testing::World;

    async fn pack(world: &World, from: &Repository, revs: &str) -> Vec<u8> {
        let args = ["pack-objects", "--revs", "--stdout", "--thin", "--quiet"];
        world.git(from, &args, revs.as_bytes()).await
    }

    pub(crate) async fn ingest(
        into: &Repository,
        pack: Vec<u8>,
        limits: IngestLimits,
    ) -> Result<Quarantine, IngestError> {
        let quarantine = Quarantine::open(into).await.unwrap();
        let mut spool = Spool::new(into.store().layout().clone(), limits);
        for chunk in pack.chunks(7) {
            spool.push(chunk).await?;
        }
        quarantine.ingest(None, spool, &limits).await?;
        Ok(quarantine)
    }

    async fn has(repository: &Repository, oid: Oid) -> bool {
        !repository.object_kinds(&[oid]).await.unwrap().is_empty()
    }

    /// Its pusher was told that the pack is broken (the soak found it, on a disk without inodes).
    #[tokio::test]
    async fn a_fault_of_the_disk_is_not_laid_to_the_pack() {
        let world = World::new().await;
        let (pusher, server) = (world.repository("pusher"), world.repository("server"));
        let [one, _] = world.two_commits(&pusher).await;
        server.create().await.unwrap();
        let limits = IngestLimits::default();
        let quarantine = Quarantine::open(&server).await.unwrap();
        let mut spool = Spool::new(world.store.layout().clone(), limits);
        spool
            .push(&pack(&world, &pusher, &format!("{one}\n")).await)
            .await
            .unwrap();
        let packs = quarantine.object_dir().join("pack");
        std::fs::remove_dir_all(&packs).ok();
        std::fs::write(&packs, "").unwrap();

        let error = quarantine.ingest(None, spool, &limits).await.unwrap_err();

        assert!(error.is_ours(), "{error:?}");
    }

    #[tokio::test]
    async fn objects_are_in_the_repository_only_after_the_migration() {
        for world in World::of_every_git().await {
            let (pusher, server) = (world.repository("pusher"), world.repository("server"));
            let [one, two] = world.two_commits(&pusher).await;
            server.create().await.unwrap();

            let first = pack(&world, &pusher, &format!("{one}\n")).await;
            let quarantine = ingest(&server, first, IngestLimits::default()).await.unwrap();
            let dir = quarantine.object_dir().to_owned();
            assert!(!has(&server, one).await);
            assert_eq!(
                object_kinds(vec![server.object_dir(), dir], vec![one])
                    .await
                    .unwrap()
                    .len(),
                1
            );
            quarantine.migrate().await.unwrap();
            assert!(has(&server, one).await);

            // Thin: its bases are in the repository.
            let second = pack(&world, &pusher, &format!("{two}\n^{one}\n")).await;
            let quarantine = ingest(&server, second, IngestLimits::default()).await.unwrap();
            quarantine.migrate().await.unwrap();

            assert!(has(&server, two).await);
            world
                .git(&server, &["rev-list", "--objects", &two.to_string()], b"")
                .await;
            assert_eq!(World::packs(&server.object_dir()).len(), 2);
            assert_eq!(world.quarantine_entries(), 0);
        }
    }

    #[tokio::test]
    async fn a_pack_is_checked_as_nicely_as_the_limits_have_it() {
        let world = World::whose_git_can_be_killed().await;
        let (pusher, server) = (world.repository("pusher"), world.repository("server"));
        let [one, _] = world.two_commits(&pusher).await;
        server.create().await.unwrap();
        let limits = IngestLimits {
            niceness: 15,
            duration_max: Duration::from_secs(20),
            ..IngestLimits::default()
        };
        let pack = pack(&world, &pusher, &format!("{one}\n")).await;
        world.fail_git("index-pack", "until test $(nice) -ge 15; do sleep 0.01; done");

        let ingested = ingest(&server, pack, limits).await;
        assert!(ingested.is_ok(), "{ingested:?}");
    }

    #[tokio::test]
    async fn an_empty_pack_leaves_nothing_behind() {
        for world in World::of_every_git().await {
            let server = world.repository("server");
            server.create().await.unwrap();
            let empty = pack(&world, &server, "").await;

            let quarantine = ingest(&server, empty, IngestLimits::default()).await.unwrap();
            quarantine.migrate().await.unwrap();

            assert!(World::packs(&server.object_dir()).is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_pack_is_said() {
        for world in World::of_every_git().await {
            let (pusher, server) = (world.repository("pusher"), world.repository("server"));
            let [one, two] = world.two_commits(&pusher).await;
            server.create().await.unwrap();
            let whole = pack(&world, &pusher, &format!("{two}\n")).await;
            let unfinished = whole[..whole.len() - 5].to_vec();
            let mut flipped = whole.clone();
            flipped[20] ^= 0xff;
            let half = pack(&world, &pusher, &format!("{two}\n^{one}\n")).await;
            let limits = IngestLimits::default();
            let small = IngestLimits {
                pack_bytes_max: 50,
                ..limits
            };
            let few = IngestLimits {
                objects_max: 1,
                ..limits
            };
            // Few bytes that become many.
            let bomb = world
                .oid(&pusher, &["hash-object", "-w", "--stdin"], &vec![0; 30 << 20])
                .await;
            let bomb = world
                .git(
                    &pusher,
                    &["pack-objects", "--stdout", "--quiet"],
                    format!("{bomb}\n").as_bytes(),
                )
                .await;
            let tight = IngestLimits {
                memory_bytes_max: 32 << 20,
                ..limits
            };

            for (name, pack, limits, expected) in [
                ("none", Vec::new(), limits, "NoPack"),
                ("short", b"PACK".to_vec(), limits, "NotAPack"),
                ("other", b"0000PACK0000".to_vec(), limits, "NotAPack"),
                ("version", b"PACK\0\0\0\x04\0\0\0\0".to_vec(), limits, "NotAPack"),
                ("unfinished", unfinished, limits, "Broken"),
                ("flipped", flipped, limits, "Broken"),
                ("half", half, limits, "MissingObject"),
                ("large", whole.clone(), small, "TooLarge"),
                ("many", whole.clone(), few, "TooManyObjects"),
                ("bomb", bomb, tight, "TooExpensive"),
            ] {
                let refused = ingest(&server, pack, limits).await.unwrap_err();

                assert!(format!("{refused:?}").starts_with(expected), "{name}: {refused:?}");
                assert_eq!(world.quarantine_entries(), 0, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_large_pack_waits_in_a_file_that_nobody_sees() {
        let world = World::new().await;
        let (pusher, server) = (world.repository("pusher"), world.repository("server"));
        server.create().await.unwrap();
        let noise: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let blob = world.oid(&pusher, &["hash-object", "-w", "--stdin"], &noise).await;
        let args = ["pack-objects", "--stdout", "--quiet"];
        let pack = world.git(&pusher, &args, format!("{blob}\n").as_bytes()).await;
        assert!(pack.len() > 200_000, "{}", pack.len());
        let quarantine = Quarantine::open(&server).await.unwrap();
        let limits = IngestLimits::default();
        let mut spool = Spool::new(world.store.layout().clone(), limits);
        for chunk in pack.chunks(10_000) {
            spool.push(chunk).await.unwrap();
        }
        let names = |dir: &std::path::Path| -> Vec<_> {
            std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect()
        };
        assert!(names(quarantine.object_dir()).is_empty());

        quarantine.ingest(None, spool, &limits).await.unwrap();
        quarantine.migrate().await.unwrap();

        assert!(has(&server, blob).await);
    }

    #[tokio::test]
    async fn the_data_directory_may_have_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let world = World::below(&dir.path().join("a:b \"c\"\\ d")).await;
        let (pusher, server) = (world.repository("pusher"), world.repository("server"));
        let [one, two] = world.two_commits(&pusher).await;
        server.create().await.unwrap();
        for revs in [format!("{one}\n"), format!("{two}\n^{one}\n")] {
            let pack = pack(&world, &pusher, &revs).await;

            let quarantine = ingest(&server, pack, IngestLimits::default()).await.unwrap();
            quarantine.migrate().await.unwrap();
        }
        assert!(has(&server, two).await);
    }
}
