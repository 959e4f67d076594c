//! A file system in memory for the data directory alone, mounted where only the programs that are started in it see it:
//! one that can be made full or read-only while they run. It takes unprivileged user namespaces, or root.

use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::harness::process::Process;
use crate::harness::wait::within;

/// The file system, which goes with whoever holds it.
pub struct SmallDisk {
    /// Where it is mounted.
    mounted_at: PathBuf,
    /// A process that does nothing but live where it is mounted.
    holder: Process,
    /// How to enter a user's namespace before that of mounts; nothing, where root needs none.
    user: &'static [&'static str],
}

impl SmallDisk {
    /// Mounts it at `mounted_at`, which is made; `None` if nobody may do so here. `log` hears why.
    pub async fn mount(mounted_at: &Path, log: &Path) -> Option<Self> {
        std::fs::create_dir_all(mounted_at).unwrap();
        let sign = log.with_extension("mounted");
        let script = format!(
            "mount -t tmpfs -o size={ROOM_BYTES},nr_inodes={ROOM_INODES} tmpfs \"$0\" && touch \"$1\" && \
             exec sleep {HOLDER_SECS}"
        );
        for user in [
            ["--user", "--map-root-user"].as_slice(),
            // Root without namespaces of users.
            &[],
        ] {
            let mut arguments: Vec<String> = user.iter().map(|&argument| argument.to_owned()).collect();
            arguments.extend(["--mount", "/bin/sh", "-c", &script].map(str::to_owned));
            arguments.extend([mounted_at, &sign].map(|path| path.display().to_string()));
            let mut holder = Process::start(Path::new("/usr/bin/unshare"), &arguments, log);
            within(START_MAX, "it is mounted, or cannot be", async || {
                sign.exists() || !holder.is_running()
            })
            .await;
            if holder.is_running() {
                return Some(Self {
                    mounted_at: mounted_at.to_owned(),
                    holder,
                    user: if user.is_empty() { &[] } else { ENTER_USER },
                });
            }
        }
        None
    }

    /// Returns where those see it who were not started in it.
    pub fn seen(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.mounted_at.strip_prefix("/").unwrap_or(&self.mounted_at))
    }

    /// Returns a command that starts in it the program behind it.
    pub fn launcher(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        let enter = ["/usr/bin/nsenter", "--target", &target, "--mount"];
        enter.iter().chain(self.user).map(|&part| part.to_owned()).collect()
    }

    /// Leaves no more than so many blocks and files. Returns whether that was done.
    pub async fn leave(&self, blocks: u64, files: u64) -> bool {
        let Ok(now) = rustix::fs::statvfs(self.seen()) else {
            return false;
        };
        let size = (now.f_blocks - now.f_bfree + blocks) * now.f_frsize;
        let inodes = now.f_files - now.f_ffree + files;
        self.resize(size, inodes).await
    }

    /// Has room again.
    ///
    /// # Panics
    /// It cannot be changed.
    pub async fn leave_all(&self) {
        assert!(self.resize(ROOM_BYTES, ROOM_INODES).await, "it grows");
    }

    async fn resize(&self, bytes: u64, inodes: u64) -> bool {
        let options = format!("remount,size={bytes},nr_inodes={inodes}");
        self.run(&["mount", "-o", &options, &self.mounted_at.display().to_string()])
            .await
    }

    /// Makes a directory in it read-only. Returns whether that was done.
    pub async fn make_read_only(&self, directory: &Path) -> bool {
        let path = self.mounted_at.join(directory).display().to_string();
        if !self.run(&["mount", "--bind", &path, &path]).await {
            return false;
        }
        let is_read_only = self.run(&["mount", "-o", "remount,bind,ro", &path]).await;
        if !is_read_only {
            self.make_writable(directory).await;
        }
        is_read_only
    }

    /// Makes it writable again.
    ///
    /// # Panics
    /// It cannot be changed.
    pub async fn make_writable(&self, directory: &Path) {
        let path = self.mounted_at.join(directory).display().to_string();
        // Whoever is in it yet may stay.
        assert!(self.run(&["umount", "--lazy", &path]).await, "{path} stays read-only");
    }

    #[expect(clippy::disallowed_methods, reason = "mount is no git")]
    async fn run(&self, command: &[&str]) -> bool {
        let mut whole = self.launcher();
        whole.extend(command.iter().map(|&part| part.to_owned()));
        let status = Command::new(&whole[0])
            .args(&whole[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await;
        status.is_ok_and(|status| status.success())
    }
}

/// What a nsenter needs to be in the namespace as whoever made it.
const ENTER_USER: &[&str] = &["--user", "--preserve-credentials"];
/// More than a soak ever fills; only what is used takes memory.
const ROOM_BYTES: u64 = 1 << 30;
const ROOM_INODES: u64 = 1 << 20;
/// Nothing lives as long.
const HOLDER_SECS: u64 = 86_400;
const START_MAX: Duration = Duration::from_secs(30);
