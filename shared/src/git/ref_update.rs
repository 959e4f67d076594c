//! One command of a push, or one step of an alignment: a ref, what it should be now, what it shall be.

use super::Oid;
use super::RefName;

/// A change of one ref. Expected and new value travel together (compare and swap).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// The ref to change.
    pub name: RefName,
    /// The value the ref has before the change; `None`: the ref does not exist.
    pub old: Option<Oid>,
    /// The value the ref has after the change; `None`: the ref is deleted.
    pub new: Option<Oid>,
}
