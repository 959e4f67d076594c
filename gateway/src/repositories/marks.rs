//! Marks for the objects of some packs: which of them a walk has come to.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use gix::odb::pack::index::File as PackIndex;
use shared::git::Oid;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncRead;
use tokio::io::BufReader;

use crate::repositories::objects::Objects;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::to_oid;
use crate::repositories::packs::packs_in;

/// The objects of some packs, each marked or not.
pub(super) struct Marks {
    packs: Vec<MarkedPack>,
}

struct MarkedPack {
    name: PathBuf,
    index: PackIndex,
    marked: Vec<bool>,
}

impl Marks {
    /// Takes the packs of an object directory. Blocks.
    pub(super) fn open(object_dir: &Path) -> Result<Self, ReadError> {
        let dir = object_dir.join("pack");
        Self::of(&dir, packs_in(&dir)?)
    }

    /// Takes packs of a directory by their names. Blocks.
    pub(super) fn of(pack_dir: &Path, names: BTreeSet<PathBuf>) -> Result<Self, ReadError> {
        let mut packs = Vec::new();
        for name in names {
            let path = pack_dir.join(&name).with_extension("idx");
            let index = PackIndex::at(&path, gix::hash::Kind::Sha1).map_err(|_| ReadError::Malformed { path })?;
            let marked = vec![false; index.num_objects() as usize];
            packs.push(MarkedPack { name, index, marked });
        }
        Ok(Self { packs })
    }

    pub(super) fn len(&self) -> usize {
        self.packs.iter().map(|pack| pack.marked.len()).sum()
    }

    pub(super) fn clear(&mut self) {
        self.packs.iter_mut().for_each(|pack| pack.marked.fill(false));
    }

    pub(super) fn have(&self, oid: &Oid) -> bool {
        self.packs.iter().any(|pack| pack.find(oid).is_some())
    }

    /// Marks an object wherever it is; returns whether it is there and was not marked.
    pub(super) fn mark(&mut self, oid: &Oid) -> bool {
        let mut is_new = false;
        for pack in &mut self.packs {
            if let Some(place) = pack.find(oid) {
                is_new |= !std::mem::replace(&mut pack.marked[place], true);
            }
        }
        is_new
    }

    /// Marks the objects that are listed, one a line.
    pub(super) async fn mark_printed(&mut self, stdout: Option<impl AsyncRead + Unpin>) -> io::Result<()> {
        let Some(stdout) = stdout else { return Ok(()) };
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            if let Ok(oid) = line.parse() {
                self.mark(&oid);
            }
        }
        Ok(())
    }

    /// Returns of each pack how many of its objects are marked, and how many it has.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&Path, usize, usize)> {
        self.packs.iter().map(|pack| {
            let count = pack.marked.iter().filter(|marked| **marked).count();
            (pack.name.as_path(), count, pack.marked.len())
        })
    }

    /// Returns the objects of the packs with these names that are marked, or those that are not.
    pub(super) fn list(&self, names: &BTreeSet<PathBuf>, is_marked: bool) -> impl Iterator<Item = Oid> {
        let packs = self.packs.iter().filter(move |pack| names.contains(&pack.name));
        packs.flat_map(move |pack| {
            let entries = pack.index.iter().zip(&pack.marked);
            let meant = entries.filter(move |(_, marked)| **marked == is_marked);
            meant.filter_map(|(entry, _)| to_oid(&entry.oid))
        })
    }

    /// Whether any object is in this object directory. Blocks.
    pub(super) fn meet(&self, object_dir: &Path) -> Result<bool, ReadError> {
        let there = Self::open(object_dir)?;
        let mut entries = self.packs.iter().flat_map(|pack| pack.index.iter());
        Ok(entries.any(|entry| there.packs.iter().any(|pack| pack.index.lookup(entry.oid).is_some())))
    }

    /// Whether any object is neither marked nor in the repository. Blocks.
    pub(super) fn leave_surplus(&self, of_repository: PathBuf) -> Result<bool, ReadError> {
        let mut here = None;
        for pack in &self.packs {
            let left = pack.index.iter().zip(&pack.marked).filter(|(_, marked)| !**marked);
            for (entry, _) in left {
                let here = match &here {
                    Some(here) => here,
                    None => here.insert(Objects::open(std::slice::from_ref(&of_repository), Duration::ZERO)?),
                };
                let is_here = match to_oid(&entry.oid) {
                    Some(oid) => here.kind(oid)?.is_some(),
                    None => false,
                };
                if !is_here {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl MarkedPack {
    fn find(&self, oid: &Oid) -> Option<usize> {
        let id = gix::ObjectId::Sha1(*oid.as_bytes());
        Some(self.index.lookup(id)? as usize)
    }
}
