//! The kept parts of a state, as seen by a push of another part.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nostr::event::EventId;
use shared::git::Oid;

#[derive(Debug, Clone)]
pub(crate) struct KeptParts {
    pub(crate) state_id: EventId,
    pub(crate) object_dir: PathBuf,
    /// The packs there, by their names without extension.
    pub(super) packs: BTreeSet<PathBuf>,
    /// What of that the state declares.
    pub(crate) tips: Vec<Oid>,
}
