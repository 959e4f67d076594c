//! Whether this host has what the server needs: a directory, a disk, git, descriptors.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::process::Resource;
use rustix::process::getrlimit;
use shared::options::values::ByteCount;

use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Observation;
use crate::command_error::causes;
use crate::descriptors;
use crate::git::command::Git;

pub(super) fn data_directory(server: &CheckedServer<'_>) -> Vec<Observation> {
    let path = &server.options.data_dir;
    let shown = path.display();
    let (owner, own) = match fs::metadata(path) {
        Ok(found) => (found.uid(), rustix::process::geteuid().as_raw()),
        Err(error) => {
            return vec![Observation::wrong(
                format!("{shown}: {error}"),
                format!("install -d -o grasp -g grasp -m 700 {shown}; or correct data-dir"),
            )];
        }
    };
    let mut found = match Scratch::new(path) {
        Ok(_) => vec![Observation::well(format!("{shown} can be written"))],
        Err(error) => vec![Observation::wrong(
            format!("{shown} cannot be written: {error}"),
            format!("chown -R grasp: {shown}; and ReadWritePaths={shown} in grasp-gateway.service"),
        )],
    };
    if owner != own {
        found.push(Observation::warning(
            format!("{shown} belongs to user {owner}, and this command runs as {own}: the server's permissions were not checked"),
            "runuser -u grasp -- grasp-gateway doctor",
        ));
    }
    found
}

pub(super) fn file_system(server: &CheckedServer<'_>) -> Vec<Observation> {
    // One that cannot be written was named before.
    let Ok(scratch) = Scratch::new(&server.options.data_dir) else {
        return Vec::new();
    };
    match Abilities::of(&scratch.0) {
        Ok(abilities) => abilities.judge(),
        Err(error) => vec![Observation::wrong(error.to_string(), FILE_SYSTEM_MEND)],
    }
}

/// The abilities of a file system.
#[derive(Debug, Clone, Copy)]
struct Abilities {
    tells_case: bool,
    takes_long_names: bool,
    locks: bool,
    links: bool,
}

impl Abilities {
    fn of(folder: &Path) -> io::Result<Self> {
        let file = File::create(folder.join("case"))?;
        Ok(Self {
            tells_case: !folder.join("CASE").exists(),
            takes_long_names: File::create(folder.join("n".repeat(NAME_BYTES))).is_ok(),
            locks: rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
            links: fs::hard_link(folder.join("case"), folder.join("link")).is_ok(),
        })
    }

    fn judge(self) -> Vec<Observation> {
        let wrong = [
            (
                self.tells_case,
                "it does not distinguish upper and lower case: branches such as A and a would collide",
            ),
            (
                self.takes_long_names,
                "it does not allow file names of 255 bytes, which identifiers and refs may need",
            ),
            (
                self.locks,
                "it does not support locks (flock): two gateways, or two pushes, could destroy a repository",
            ),
            (
                self.links,
                "it does not support hard links, which repositories use to share packs",
            ),
        ];
        let wrong = wrong.into_iter().filter(|(is_able, _)| !is_able);
        let mut found: Vec<_> = wrong
            .map(|(_, text)| Observation::wrong(text, FILE_SYSTEM_MEND))
            .collect();
        if found.is_empty() {
            found.push(Observation::well("file names, locks and hard links work"));
        }
        found
    }
}

pub(super) fn disk_space(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Ok(found) = rustix::fs::statvfs(&server.options.data_dir) else {
        return Vec::new();
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let least = server.options.live.server.disk_free_min.0;
    let mend = "make room, or move data-dir to a larger disk";
    vec![if free < least {
        let text = format!("{free} bytes are free, less than disk-free-min ({least}): pushes are refused");
        Observation::wrong(text, mend)
    } else if found.f_files > 0 && found.f_favail < INODES_MIN {
        Observation::warning(format!("only {} more files fit on the disk", found.f_favail), mend)
    } else {
        Observation::well(format!("{} are free", ByteCount(free >> 20 << 20)))
    }]
}

pub(super) async fn git(_server: &CheckedServer<'_>) -> Vec<Observation> {
    // It writes a configuration, which is not the server's here.
    let found = match Scratch::new(&std::env::temp_dir()) {
        Ok(scratch) => Git::discover(&scratch.0).await,
        Err(error) => return vec![Observation::warning(format!("no temporary directory: {error}"), "")],
    };
    match found {
        Ok(git) => vec![match git.version().mended_in() {
            Some(mended) => Observation::warning(
                format!("git {} has faults that clients can reach", git.version()),
                format!("install git {mended} or newer, unless your distribution has fixed this version"),
            ),
            None => Observation::well(format!("git {}", git.version())),
        }],
        Err(error) => vec![Observation::wrong(causes(&error), "apt install git (2.39 or newer)")],
    }
}

pub(super) fn open_files(server: &CheckedServer<'_>) -> Vec<Observation> {
    let needed = descriptors::needed(&server.options.live.server);
    vec![match getrlimit(Resource::Nofile).maximum {
        Some(allowed) if allowed < needed => Observation::warning(
            format!("this shell allows {allowed}, and the limits of the server may need {needed}"),
            format!("LimitNOFILE={needed} in grasp-gateway.service (which has it as shipped), or ulimit -Hn {needed}"),
        ),
        Some(_) | None => Observation::well(format!("{needed} may be needed, and are allowed")),
    }]
}

/// A directory that is removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("grasp-doctor-{}", std::process::id()));
        fs::create_dir(&path).map(|()| Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove the files of the disk check");
        }
    }
}

const FILE_SYSTEM_MEND: &str = "put data-dir on a local file system of Linux: ext4, xfs, btrfs";

/// The longest that Linux has.
const NAME_BYTES: usize = 255;

/// A repository is made of some fifty.
const INODES_MIN: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::doctor::observation::Severity;

    #[test]
    fn a_file_system_that_cannot_hold_repositories_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let good = Abilities::of(folder.path()).unwrap();
        assert_eq!(good.judge()[0].severity, Severity::Well);
        let folds = Abilities {
            tells_case: false,
            ..good
        };
        let found = Abilities { locks: false, ..folds }.judge();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|finding| finding.severity == Severity::Wrong));
        assert!(found[0].text.contains("A and a"));
    }
}
