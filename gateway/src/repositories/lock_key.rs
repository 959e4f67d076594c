//! Which lock file a repository has: by a hash whose key only the data directory knows, so that nobody chooses a name
//! that shares the file of another.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bitcoin_hashes::sha256;
use shared::nip34::Coordinate;

/// The key of a data directory, the same for every gateway on it.
#[derive(Debug)]
pub(super) struct LockKey([u8; KEY_BYTES]);

impl LockKey {
    /// Reads the key in `directory`, and creates it if there is none. `fresh` is an unused path there.
    pub(super) fn open(directory: &Path, fresh: &Path) -> io::Result<Self> {
        let path = directory.join(KEY_FILE);
        if !path.try_exists()? {
            make(directory, fresh, &path)?;
        }
        let key = fs::read(&path)?.try_into();
        key.map(Self).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Returns the number of the lock file of a repository. Lock files are never deleted, so there are only so many of
    /// them: two repositories that share one wait for each other.
    pub(super) fn number(&self, coordinate: &Coordinate) -> u16 {
        let bytes = [&self.0, coordinate.to_string().as_bytes()].concat();
        let hash = sha256::Hash::hash(&bytes).to_byte_array();
        u16::from_be_bytes([hash[0], hash[1]]) % LOCK_FILES
    }
}

/// Makes the key whole or not at all; where another gateway was faster, its key stays.
fn make(directory: &Path, fresh: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(fresh)?;
    file.write_all(&key)?;
    file.sync_all()?;
    let linked = fs::hard_link(fresh, path);
    fs::remove_file(fresh)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => File::open(directory)?.sync_all(),
    }
}

const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;

/// Number of lock files: many more than repositories that are changed at the same time.
const LOCK_FILES: u16 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// A stranger who knew the hash could choose names that share the lock file of a victim's.
    #[test]
    fn a_key_is_made_once_and_each_data_directory_has_its_own() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let open = |at: usize| LockKey::open(directories[at].path(), &directories[at].path().join("fresh")).unwrap();
        let names = ["a", "b", "c", "d"].map(|name| {
            format!("30617:{}:{name}", "11".repeat(32))
                .parse::<Coordinate>()
                .unwrap()
        });
        let numbers = |key: &LockKey| names.each_ref().map(|name| key.number(name));

        assert_eq!(numbers(&open(0)), numbers(&open(0)));
        assert_ne!(numbers(&open(0)), numbers(&open(1)));
        assert_eq!(fs::read_dir(directories[0].path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_is_cut_short_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(KEY_FILE), "short").unwrap();

        assert!(LockKey::open(directory.path(), &directory.path().join("fresh")).is_err());
    }
}
