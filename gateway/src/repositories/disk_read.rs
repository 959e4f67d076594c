//! Reads the repositories that facts are about from disk, in the form that the rules take.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::event::EventId;
use shared::git::Oid;
use shared::nip34::Coordinate;
use shared::rules::Disk;
use shared::rules::Facts;
use shared::rules::OnDisk;

use crate::repositories::LockedRepositories;
use crate::repositories::Repositories;
use crate::repositories::disk_use::DiskUse;
use crate::repositories::layout::Layout;
use crate::repositories::layout::in_background;
use crate::repositories::objects::ReadError;
use crate::repositories::objects::kinds_in;
use crate::repositories::offers::read_offers;
use crate::repositories::parts::PartsOf;
use crate::repositories::refs::Head;
use crate::repositories::refs::read_refs;
use crate::repositories::repository::Repository;
use crate::repositories::staging::FoundStaged;
use crate::repositories::staging::object_dir_in;
use crate::repositories::staging::staged_for_events;

impl Repositories {
    /// Reads the repositories that `facts` are about from disk, and of their staged objects only those for these
    /// events; in locked repositories it removes what a crash left of these. Unreadable parts are named, and do not
    /// affect the rest.
    pub(crate) async fn read(
        &self,
        facts: &Facts,
        pull_request_ids: &BTreeSet<EventId>,
        locked: &LockedRepositories<'_>,
    ) -> Disk {
        let (layout, coordinates) = (self.store.layout().clone(), facts.covered.coordinates.clone());
        let unfinished = locked.unfinished().clone();
        let (locked, pull_request_ids) = (locked.coordinates().clone(), pull_request_ids.clone());
        let oids: Vec<Oid> = facts.referenced_objects().into_iter().collect();
        let with_offers = !facts.pull_requests.is_empty();
        let is_finished = |at: &&Coordinate| !unfinished.contains(at);
        let hosted = facts.hosted().iter().filter(is_finished);
        let hosted: Vec<Repository> = hosted.map(|coordinate| self.at(coordinate)).collect();
        let parts = coordinates.iter().filter(is_finished);
        let parts: Vec<PartsOf> = parts.map(|at| PartsOf::of(&self.at(at))).collect();
        let disk_use = Arc::clone(&self.disk_use);
        // Where a staged commit may move in.
        let offered_to = |coordinate: &&Coordinate| facts.hosted().binary_search(coordinate).is_ok();
        let offers = facts.pull_requests.iter().flat_map(|known| &known.item.coordinates);
        let offered_to: BTreeSet<Coordinate> = offers.filter(offered_to).cloned().collect();
        let read = in_background(move || {
            let FoundStaged { staged, unreadable } =
                staged_for_events(&layout, &coordinates, &pull_request_ids, &locked);
            let mut disk = Disk {
                staged,
                uninstallable: unreadable,
                broken: unfinished,
                ..Disk::default()
            };
            if !disk.staged.is_empty() {
                measure(&mut disk, &layout, &disk_use, offered_to);
            }
            // First, because the repositories are read in the state that it leaves.
            let parts_read: Vec<_> = parts
                .iter()
                .map(|parts| parts.finish_and_read(&locked, &oids))
                .collect();
            for repository in hosted {
                let coordinate = repository.coordinate();
                match read_one(&repository, &oids, with_offers) {
                    Ok(Some(on_disk)) => drop(disk.repositories.insert(coordinate.clone(), on_disk)),
                    Ok(None) => {}
                    Err(error) => note_broken(&mut disk, coordinate, &error),
                }
            }
            for (parts, read) in parts.iter().zip(parts_read) {
                let coordinate = parts.coordinate();
                match read {
                    Ok(parts) if parts.is_empty() => {}
                    Ok(parts) => drop(disk.parts.insert(coordinate.clone(), parts)),
                    Err(error) => note_broken(&mut disk, coordinate, &error),
                }
            }
            disk
        });
        read.await
    }
}

/// Measures what is staged, and the room of the repositories that it is offered to.
fn measure(disk: &mut Disk, layout: &Layout, disk_use: &DiskUse, offered_to: BTreeSet<Coordinate>) {
    for staged in disk.staged.clone() {
        let object_dir = object_dir_in(
            &layout.staging(&staged.coordinate),
            &staged.event_id,
            &staged.commit_oid,
        );
        match DiskUse::staged(&object_dir) {
            Ok(packs) => drop(disk.staged_packs.insert(staged, packs)),
            Err(error) => note_broken(disk, &staged.coordinate, &error),
        }
    }
    for coordinate in offered_to {
        match disk_use.bytes_left(&coordinate) {
            Ok(left) => drop(disk.room.insert(coordinate, left)),
            Err(error) => note_broken(disk, &coordinate, &error),
        }
    }
}

fn note_broken(disk: &mut Disk, coordinate: &Coordinate, error: &(dyn std::error::Error + 'static)) {
    tracing::error!(repo.coordinate = %coordinate, error, "cannot read a repository, will try again");
    disk.broken.insert(coordinate.clone());
}

/// Reads the refs of a repository, and which of `oids` it has; `None`: it is not on disk. Who offered the PRs of its
/// refs is read only where it matters.
fn read_one(repository: &Repository, oids: &[Oid], with_offers: bool) -> Result<Option<OnDisk>, ReadError> {
    let Some(read) = read_refs(repository.path(), None)? else {
        return Ok(None);
    };
    let head = match read.snapshot.head {
        Head::Symbolic(name) => Some(name),
        Head::Detached(_) => None,
    };
    let noted = match with_offers {
        true => read_offers(repository.path())?,
        false => BTreeMap::new(),
    };
    let offers = noted.into_iter().map(|(event_id, noted)| (event_id, noted.offer));
    Ok(Some(OnDisk {
        offers: offers.collect(),
        refs: read.snapshot.refs,
        head,
        objects: kinds_in(&[repository.object_dir()], oids)?,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use shared::purgatory::Reading;
    use shared::rules::Access;
    use shared::rules::Covered;
    use shared::rules::MaintainerMode;

    use super::*;
    use crate::repositories::pack::IngestLimits;
    use crate::repositories::packs::changing_packs;
    use crate::repositories::testing::World;

    /// Nothing was decided for any of them.
    #[tokio::test]
    async fn what_cannot_be_finished_breaks_one_repository_only() {
        let world = World::new().await;
        let state_id = "aa".repeat(32);
        let [broken, whole, unfinished] = ["broken", "whole", "unfinished"].map(|name| world.repository(name));
        for repository in [&broken, &whole] {
            repository.create().await.unwrap();
            let parts = world.store.layout().parts(repository.coordinate()).join(&state_id);
            fs::create_dir_all(parts.join("pack")).unwrap();
            fs::write(parts.join("moving-in"), "").unwrap();
            if repository.coordinate() == broken.coordinate() {
                fs::write(parts.join("pack/pack-of-which-only-this-is-left.idx"), "").unwrap();
            }
        }
        // In the place of a file.
        unfinished.create().await.unwrap();
        fs::create_dir_all(changing_packs(&unfinished.object_dir())).unwrap();
        let covered = Covered {
            coordinates: [&broken, &whole, &unfinished].map(|at| at.coordinate().clone()).into(),
            ..Covered::default()
        };
        let all = Repositories::new(world.store.clone(), IngestLimits::default());
        let locked = all.lock(&covered.coordinates).await.unwrap();
        let (service, access) = ("svc".parse().unwrap(), Arc::new(Access::default()));
        let (mode, reading) = (MaintainerMode::default(), Reading::default());
        let facts = Facts::assemble(service, mode, access, covered, reading, Vec::new());

        let disk = all.read(&facts, &BTreeSet::new(), &locked).await;

        let expected = [&broken, &unfinished].map(|at| at.coordinate().clone());
        assert_eq!(disk.broken, expected.into());
        assert!(disk.parts.keys().eq([whole.coordinate()]));
    }
}
