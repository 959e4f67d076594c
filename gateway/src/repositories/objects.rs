//! Looking up objects in-process: which exist, of which kind, what a tag points at.
//!
//! Stores are opened per operation: a long-lived one runs out of index slots and pins packs that are gone
//! (docs/facts/git-http.md 1).

use std::collections::BTreeMap;
use std::path::PathBuf;

use gix::objs::Kind;
use shared::git::ObjectKind;
use shared::git::Oid;

use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;

/// Why refs or objects could not be read. What does not exist is no error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A file or directory cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file holds something else than git writes.
    #[error("{} does not hold what git writes there", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// An object exists and cannot be read.
    #[error("cannot read object {oid}: {reason}")]
    Object {
        /// The object.
        oid: Oid,
        /// What the object database said.
        reason: String,
    },
}

/// Returns the kinds of those of `oids` that exist in one of `object_dirs`. A directory that does not exist holds no
/// objects.
///
/// # Errors
/// [`ReadError`] if a directory or an object that exists cannot be read.
pub(crate) async fn object_kinds(
    object_dirs: Vec<PathBuf>,
    oids: Vec<Oid>,
) -> Result<BTreeMap<Oid, ObjectKind>, ReadError> {
    in_background(move || kinds_in(&object_dirs, &oids)).await
}

/// As [`object_kinds`]. Blocks.
pub(super) fn kinds_in(object_dirs: &[PathBuf], oids: &[Oid]) -> Result<BTreeMap<Oid, ObjectKind>, ReadError> {
    let objects = Objects::open(object_dirs)?;
    let mut kinds = BTreeMap::new();
    for oid in oids {
        if let Some(kind) = objects.kind(*oid)? {
            kinds.insert(*oid, kind);
        }
    }
    Ok(kinds)
}

/// Object directories opened for one operation.
pub(crate) struct Objects {
    stores: Vec<gix::odb::Handle>,
}

impl Objects {
    pub(crate) fn open(object_dirs: &[PathBuf]) -> Result<Self, ReadError> {
        let mut stores = Vec::with_capacity(object_dirs.len());
        for path in object_dirs.iter().filter(|path| path.is_dir()) {
            let options = gix::odb::store::init::Options {
                // It would ask for that of this process, which may have been removed.
                current_dir: Some("/".into()),
                ..Default::default()
            };
            let store = gix::odb::at_opts(path, gix::hash::Kind::Sha1, [], options);
            stores.push(store.map_err(failed("open the object directory", path))?);
        }
        Ok(Self { stores })
    }

    pub(crate) fn kind(&self, oid: Oid) -> Result<Option<ObjectKind>, ReadError> {
        Ok(self.find(oid)?.map(|(kind, _)| kind))
    }

    /// Returns what `oid` points at through any number of annotated tags; `None` if it is no tag, or a tag of something
    /// that is not here.
    pub(crate) fn peel(&self, oid: Oid) -> Result<Option<Oid>, ReadError> {
        let mut at = oid;
        for _ in 0..TAG_DEPTH_MAX {
            match self.find(at)? {
                Some((ObjectKind::Tag, size)) if size <= TAG_BYTES_MAX => {
                    let Some(target) = self.tag_target(at)? else {
                        return Ok(None);
                    };
                    at = target;
                }
                Some((ObjectKind::Tag, _)) | None => return Ok(None),
                Some((ObjectKind::Commit | ObjectKind::Tree | ObjectKind::Blob, _)) => {
                    return Ok((at != oid).then_some(at));
                }
            }
        }
        Ok(None)
    }

    fn find(&self, oid: Oid) -> Result<Option<(ObjectKind, u64)>, ReadError> {
        let id = gix::ObjectId::Sha1(*oid.as_bytes());
        for store in &self.stores {
            let header = gix::odb::Header::try_header(store, &id).map_err(unreadable(oid))?;
            if let Some(header) = header {
                let kind = match header.kind() {
                    Kind::Commit => ObjectKind::Commit,
                    Kind::Tree => ObjectKind::Tree,
                    Kind::Blob => ObjectKind::Blob,
                    Kind::Tag => ObjectKind::Tag,
                };
                return Ok(Some((kind, header.size())));
            }
        }
        Ok(None)
    }

    fn tag_target(&self, oid: Oid) -> Result<Option<Oid>, ReadError> {
        let id = gix::ObjectId::Sha1(*oid.as_bytes());
        let mut buffer = Vec::new();
        for store in &self.stores {
            let found = gix::objs::Find::try_find(store, &id, &mut buffer);
            let Some(object) = found.map_err(unreadable(oid))? else {
                continue;
            };
            let target = gix::objs::TagRefIter::from_bytes(object.data, gix::hash::Kind::Sha1)
                .target_id()
                .map_err(unreadable(oid))?;
            let bytes = <[u8; Oid::LEN]>::try_from(target.as_bytes());
            return Ok(bytes.ok().and_then(Oid::from_bytes));
        }
        Ok(None)
    }
}

fn unreadable<E: std::fmt::Display>(oid: Oid) -> impl FnOnce(E) -> ReadError {
    move |error| ReadError::Object {
        oid,
        reason: error.to_string(),
    }
}

/// A tag of a tag of a tag: more than anybody makes, and an end for what somebody might.
const TAG_DEPTH_MAX: usize = 32;
/// A longer tag is advertised without what it points at, rather than read into memory at each advertisement.
const TAG_BYTES_MAX: u64 = 1024 * 1024;
