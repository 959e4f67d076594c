//! What is kept aside of a state that comes in parts, as a push sees it that brings more of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nostr::event::EventId;
use shared::git::Oid;

/// What is kept of one state, for a push that brings more of it.
#[derive(Debug, Clone)]
pub(crate) struct KeptParts {
    /// The state.
    pub(crate) state_id: EventId,
    /// Where it is.
    pub(crate) object_dir: PathBuf,
    /// The packs there, by their names without extension.
    pub(super) packs: BTreeSet<PathBuf>,
    /// What of that the state declares.
    pub(crate) tips: Vec<Oid>,
}
