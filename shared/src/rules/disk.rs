//! Some repositories on disk, as the rules see them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::PullRequestOffer;
use super::SourceTag;
use crate::git::ObjectKind;
use crate::git::Oid;
use crate::git::RefName;
use crate::nip34::Coordinate;

/// One repository on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnDisk {
    /// Its refs, of every namespace.
    pub refs: BTreeMap<RefName, Oid>,
    /// The branch that HEAD names, whether it exists or not.
    pub head: Option<RefName>,
    /// Those of the objects asked for that it has. Whatever it has, it has with everything reachable from it.
    pub objects: BTreeMap<Oid, ObjectKind>,
    /// The PRs that it has refs of, and those whose refs have ended lately, as far as they are noted; unknown where the
    /// facts name no PR.
    pub offers: BTreeMap<EventId, PullRequestOffer>,
}

/// A PR commit that is kept aside, not among the objects that clones see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Staged {
    /// The repository it was pushed to.
    pub coordinate: Coordinate,
    /// The event that names it, or shall.
    pub event_id: EventId,
    /// The commit.
    pub commit_oid: Oid,
}

/// What was pushed with a PR commit that is kept aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StagedPacks {
    /// The bytes of its packs.
    pub bytes: u64,
    /// Who pushed it; `None`: that is unknown.
    pub source: Option<SourceTag>,
}

/// How many more bytes may move into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BytesLeft {
    /// By anything.
    pub all: u64,
    /// By PRs of non-maintainers together.
    pub of_strangers: u64,
}

/// The kept parts of the states of one repository: for each state, those of the requested objects. Every object is
/// there with everything reachable from it, together with the repository's objects.
pub type Parts = BTreeMap<EventId, BTreeMap<Oid, ObjectKind>>;

/// Some repositories on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// The repositories that exist.
    pub repositories: BTreeMap<Coordinate, OnDisk>,
    /// The commits kept aside. They were checked to be commits when they came.
    pub staged: BTreeSet<Staged>,
    /// Their packs, as far as they could be read.
    pub staged_packs: BTreeMap<Staged, StagedPacks>,
    /// The room of repositories that PRs may move into; without a bound where nothing is kept aside.
    pub room: BTreeMap<Coordinate, BytesLeft>,
    /// The parts of states, by repository.
    pub parts: BTreeMap<Coordinate, Parts>,
    /// The repositories that cannot be read or changed now: nothing is decided about them, and about everything else it
    /// is.
    pub broken: BTreeSet<Coordinate>,
    /// PRs whose ref cannot be set in a repository now, or whose staged commit cannot be found: that PR there counts as
    /// unreadable, and nothing else.
    pub uninstallable: BTreeSet<(Coordinate, EventId)>,
}
