//! What readers get: refs, packs, and what they find where a repository is not whole.

pub(crate) mod advertise;
pub(crate) mod conversation;
pub(crate) mod error;
#[cfg(test)]
mod git_wire_tests;
pub(crate) mod ls_refs;
pub(crate) mod process;
pub(crate) mod reader;
mod request;
mod slot;
mod spool;
pub(crate) mod upload_pack;
