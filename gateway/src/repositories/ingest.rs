//! Taking in the pack of a push: its bytes stream into `git index-pack`, which checks them, in a quarantine.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use futures_util::Stream;
use futures_util::StreamExt;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::time::timeout;

use crate::git::error::GitError;
use crate::process::ChildProcess;
use crate::process::Stderr;
use crate::process::exceeded_limit;
use crate::repositories::quarantine::Quarantine;

/// What one pack may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IngestLimits {
    /// Most bytes of the pack as sent.
    pub(crate) pack_bytes_max: u64,
    /// Most objects in the pack.
    pub(crate) objects_max: u32,
    /// Most memory of the git that checks it: what a delta bomb runs into.
    pub(crate) memory_bytes_max: u64,
    /// Most CPU time of that git.
    pub(crate) cpu_secs_max: u64,
    /// Longest time from the first byte to the end of the check.
    pub(crate) duration_max: Duration,
    /// Longest wait for the next bytes of the pusher.
    pub(crate) stall_max: Duration,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            pack_bytes_max: 512 << 20,
            objects_max: 5_000_000,
            memory_bytes_max: 2 << 30,
            cpu_secs_max: 600,
            duration_max: Duration::from_secs(6 * 3600),
            stall_max: Duration::from_secs(60),
        }
    }
}

/// Why a pack was not taken. The text is for the pusher.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    /// The request ends where the pack should begin.
    #[error("the push brings no pack")]
    NoPack,
    /// What is there is no pack of a version that git knows.
    #[error("what follows the commands is no pack")]
    NotAPack,
    /// More objects than the limit.
    #[error("the pack has {count} objects, more than {max}: push in parts")]
    TooManyObjects {
        /// How many its header announces.
        count: u32,
        /// The limit.
        max: u32,
    },
    /// More bytes than the limit.
    #[error("the pack has more than {max_bytes} bytes: push in parts")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The pack is damaged or incomplete in itself.
    #[error("the pack is broken: {message}")]
    Broken {
        /// git's words.
        message: String,
    },
    /// An object refers to another that is neither in the pack nor on the server.
    #[error("the pack is incomplete: {message}")]
    MissingObject {
        /// git's words.
        message: String,
    },
    /// An object is malformed or dangerous.
    #[error("an object was refused by git fsck: {message}")]
    Fsck {
        /// git's words.
        message: String,
    },
    /// Checking the pack takes more memory or time than the limit.
    #[error("the pack takes more memory or time to check than this server gives: push in parts")]
    TooExpensive,
    /// Somebody else than this server killed the git that checks: the system when memory is short, for one.
    #[error("the check of the pack was killed here: push again, and if it is large in parts")]
    Killed,
    /// No bytes for too long.
    #[error("nothing was received for {} s", max.as_secs())]
    Stalled {
        /// The limit.
        max: Duration,
    },
    /// The whole took too long.
    #[error("the push took more than {} s", max.as_secs())]
    Deadline {
        /// The limit.
        max: Duration,
    },
    /// The server has no room.
    #[error("the server's disk is full")]
    DiskFull,
    /// The request broke off.
    #[error("the push broke off")]
    Body(#[source] io::Error),
    /// git could not be run.
    #[error("the server cannot check packs right now")]
    Git(#[from] GitError),
}

impl Quarantine {
    /// Takes in the pack that `body` streams. What is left of `body` afterwards is the caller's to drain.
    ///
    /// # Errors
    /// [`IngestError`]; the quarantine then holds nothing usable.
    pub(crate) async fn ingest<B>(&mut self, body: &mut B, limits: &IngestLimits) -> Result<(), IngestError>
    where
        B: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let max = limits.duration_max;
        timeout(max, self.ingest_in_time(body, limits))
            .await
            .unwrap_or(Err(IngestError::Deadline { max }))
    }

    async fn ingest_in_time<B>(&mut self, body: &mut B, limits: &IngestLimits) -> Result<(), IngestError>
    where
        B: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let mut source = Source {
            body,
            limits,
            received_bytes: 0,
        };
        // Before anything is spawned: most that is no pack shows here.
        let start = source.header().await?;
        let mut child = self.index_pack(limits).spawn(Stdio::piped())?;
        let stdin = child.stdin.take();
        let (status, stderr) = {
            let ended = finish(&mut child);
            tokio::pin!(ended);
            tokio::select! {
                // A git that ends before the body does has found what is wrong, or all it needs.
                ended = &mut ended => ended?,
                fed = source.feed(start, stdin) => {
                    fed?;
                    ended.await?
                }
            }
        };
        judge(status, &stderr, limits)
    }
}

/// Waits for an `index-pack` to end. What it prints, the name of the pack, is not needed.
pub(crate) async fn finish(child: &mut ChildProcess) -> Result<(ExitStatus, Stderr), GitError> {
    let mut stdout = child.stdout.take();
    let command = child.name.clone();
    let read = async {
        let mut printed = Vec::new();
        match stdout.as_mut() {
            Some(stdout) => stdout.take(1024).read_to_end(&mut printed).await,
            None => Ok(0),
        }
    };
    let (ended, read) = tokio::join!(child.wait(), read);
    let failed = |source| GitError::Run { command, source };
    match read {
        Ok(_) => ended.map_err(failed),
        Err(source) => Err(failed(source)),
    }
}

/// The pusher's bytes, counted and timed.
struct Source<'a, B> {
    body: &'a mut B,
    limits: &'a IngestLimits,
    received_bytes: u64,
}

impl<B: Stream<Item = io::Result<Bytes>> + Send + Unpin> Source<'_, B> {
    async fn next(&mut self) -> Result<Option<Bytes>, IngestError> {
        let max = self.limits.stall_max;
        let next = timeout(max, self.body.next()).await;
        let chunk = next
            .map_err(|_| IngestError::Stalled { max })?
            .transpose()
            .map_err(IngestError::Body)?;
        let len = chunk.as_ref().map_or(0, Bytes::len);
        self.received_bytes += u64::try_from(len).unwrap_or(u64::MAX);
        let max_bytes = self.limits.pack_bytes_max;
        if self.received_bytes > max_bytes {
            return Err(IngestError::TooLarge { max_bytes });
        }
        Ok(chunk)
    }

    /// Reads the header of the pack (git `gitformat-pack(5)`) and returns all that was read.
    async fn header(&mut self) -> Result<Bytes, IngestError> {
        let mut start = BytesMut::new();
        while start.len() < PACK_HEADER_LEN {
            match self.next().await? {
                Some(chunk) => start.extend_from_slice(&chunk),
                None if start.is_empty() => return Err(IngestError::NoPack),
                None => return Err(IngestError::NotAPack),
            }
        }
        let number = |at: usize| start[at..at + 4].iter().fold(0, |n, b| n << 8 | u32::from(*b));
        if !start.starts_with(b"PACK") || !matches!(number(4), 2 | 3) {
            return Err(IngestError::NotAPack);
        }
        let (count, max) = (number(8), self.limits.objects_max);
        if count > max {
            return Err(IngestError::TooManyObjects { count, max });
        }
        Ok(start.freeze())
    }

    async fn feed(&mut self, start: Bytes, stdin: Option<ChildStdin>) -> Result<(), IngestError> {
        let Some(mut stdin) = stdin else {
            return Ok(());
        };
        let mut chunk = Some(start);
        while let Some(bytes) = chunk {
            match stdin.write_all(&bytes).await {
                Ok(()) => chunk = self.next().await?,
                // It has ended, and its last words say more than this error.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(IngestError::Body(error)),
            }
        }
        Ok(())
    }
}

/// Reads from how an `index-pack` ended and what it said what was wrong (git `builtin/index-pack.c`).
pub(crate) fn judge(status: ExitStatus, stderr: &Stderr, limits: &IngestLimits) -> Result<(), IngestError> {
    if status.success() {
        return Ok(());
    }
    // No limit of ours: they send SIGXCPU and SIGXFSZ, or let an allocation fail.
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return Err(IngestError::Killed);
    }
    if exceeded_limit(status) {
        return Err(IngestError::TooExpensive);
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
    if line_with(&["Out of memory", "out of memory", "mmap failed", "Cannot allocate"]).is_some() {
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
    let message = line_with(&["fatal: ", "error: "]).unwrap_or_else(|| stderr.summary());
    Err(IngestError::Broken { message })
}

const PACK_HEADER_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use shared::git::Oid;

    use super::*;
    use crate::repositories::repository::Repository;
    use crate::repositories::testing::World;

    fn body(pack: Vec<u8>) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
        let chunks: Vec<_> = pack.chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        stream::iter(chunks)
    }

    async fn pack(world: &World, from: &Repository, revs: &str) -> Vec<u8> {
        let args = ["pack-objects", "--revs", "--stdout", "--thin", "--quiet"];
        world.git(from, &args, revs.as_bytes()).await
    }

    async fn ingest(
        world: &World,
        into: &Repository,
        pack: Vec<u8>,
        limits: IngestLimits,
    ) -> Result<Quarantine, IngestError> {
        let alternates = vec![into.object_dir()];
        let mut quarantine = Quarantine::open(&world.repositories, alternates).await.unwrap();
        quarantine.ingest(&mut body(pack), &limits).await?;
        Ok(quarantine)
    }

    async fn has(repository: &Repository, oid: Oid) -> bool {
        !repository.object_kinds(&[oid], &[]).await.unwrap().is_empty()
    }

    #[tokio::test]
    async fn objects_are_in_the_repository_only_after_the_migration() {
        for world in World::of_every_git().await {
            let (pusher, server) = (world.repository("pusher"), world.repository("server"));
            let [one, two] = world.two_commits(&pusher).await;
            server.create().await.unwrap();

            let first = pack(&world, &pusher, &format!("{one}\n")).await;
            let quarantine = ingest(&world, &server, first, IngestLimits::default()).await.unwrap();
            let dir = quarantine.object_dir().to_owned();
            assert!(!has(&server, one).await);
            assert_eq!(server.object_kinds(&[one], &[dir]).await.unwrap().len(), 1);
            quarantine.migrate_into(&server).await.unwrap();
            assert!(has(&server, one).await);

            // Thin: what it builds on is in the repository.
            let second = pack(&world, &pusher, &format!("{two}\n^{one}\n")).await;
            let quarantine = ingest(&world, &server, second, IngestLimits::default()).await.unwrap();
            quarantine.migrate_into(&server).await.unwrap();

            assert!(has(&server, two).await);
            world
                .git(&server, &["rev-list", "--objects", &two.to_string()], b"")
                .await;
            assert_eq!(World::packs(&server.object_dir()).len(), 2);
            assert_eq!(world.quarantine_entries(), 0);
        }
    }

    #[tokio::test]
    async fn an_empty_pack_leaves_nothing_behind() {
        for world in World::of_every_git().await {
            let server = world.repository("server");
            server.create().await.unwrap();
            let empty = pack(&world, &server, "").await;

            let quarantine = ingest(&world, &server, empty, IngestLimits::default()).await.unwrap();
            quarantine.migrate_into(&server).await.unwrap();

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
                let refused = ingest(&world, &server, pack, limits).await.unwrap_err();

                assert!(format!("{refused:?}").starts_with(expected), "{name}: {refused:?}");
                assert_eq!(world.quarantine_entries(), 0, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn honest_old_faults_pass_and_dangerous_ones_do_not() {
        for world in World::of_every_git().await {
            let (pusher, server) = (world.repository("pusher"), world.repository("server"));
            server.create().await.unwrap();
            let tree = world.oid(&pusher, &["mktree"], b"").await;
            let zone = format!("tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +1234567\n\nx\n");
            let literally = ["hash-object", "-t", "commit", "--literally", "-w", "--stdin"];
            let zone = world.oid(&pusher, &literally, zone.as_bytes()).await;
            let blob = world.oid(&pusher, &["hash-object", "-w", "--stdin"], b"x").await;
            let dot_git = world
                .oid(&pusher, &["mktree"], format!("100644 blob {blob}\t.git\n").as_bytes())
                .await;
            let dot_git = world
                .oid(&pusher, &["commit-tree", "-m", "x", &dot_git.to_string()], b"")
                .await;

            let old = pack(&world, &pusher, &format!("{zone}\n")).await;
            let dangerous = pack(&world, &pusher, &format!("{dot_git}\n")).await;

            ingest(&world, &server, old, IngestLimits::default())
                .await
                .map(drop)
                .unwrap();
            let refused = ingest(&world, &server, dangerous, IngestLimits::default())
                .await
                .unwrap_err();
            assert!(
                matches!(&refused, IngestError::Fsck { message } if message.contains("hasDotgit")),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_pusher_that_stalls_or_breaks_off_holds_nothing() {
        let world = World::new().await;
        let pusher = world.repository("pusher");
        let [one, _] = world.two_commits(&pusher).await;
        let pack = pack(&world, &pusher, &format!("{one}\n")).await;
        let start = || stream::iter([Ok(Bytes::copy_from_slice(&pack[..30]))]);
        let limits = IngestLimits {
            stall_max: Duration::from_millis(50),
            ..IngestLimits::default()
        };
        let brief = IngestLimits {
            duration_max: Duration::from_millis(50),
            ..IngestLimits::default()
        };
        let broken = || Err(io::Error::from(io::ErrorKind::ConnectionReset));
        let mut quarantine = Quarantine::open(&world.repositories, Vec::new()).await.unwrap();

        let stalled = quarantine.ingest(&mut start().chain(stream::pending()), &limits).await;
        let late = quarantine.ingest(&mut start().chain(stream::pending()), &brief).await;
        let broken = quarantine
            .ingest(&mut start().chain(stream::iter([broken()])), &limits)
            .await;

        assert!(matches!(stalled, Err(IngestError::Stalled { .. })), "{stalled:?}");
        assert!(matches!(late, Err(IngestError::Deadline { .. })), "{late:?}");
        assert!(matches!(broken, Err(IngestError::Body(_))), "{broken:?}");
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

            let quarantine = ingest(&world, &server, pack, IngestLimits::default()).await.unwrap();
            quarantine.migrate_into(&server).await.unwrap();
        }
        assert!(has(&server, two).await);
    }
}
