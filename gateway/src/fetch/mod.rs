//! What readers get: refs, packs, and an explanation where a repository is incomplete.

mod advertise;
pub(crate) mod advertised;
mod answer_key;
pub(crate) mod answers;
mod asked;
mod cache;
pub(crate) mod error;
pub(crate) mod finding;
mod git_run;
#[cfg(test)]
mod git_wire_tests;
pub(crate) mod info_refs;
pub(crate) mod limits;
mod long_pipe;
pub(crate) mod ls_refs;
pub(crate) mod outcome;
pub(crate) mod reader;
pub(crate) mod ref_answer;
mod request;
pub(crate) mod sending;
pub(crate) mod server;
mod slot;
mod spool;
mod spool_file;
pub(crate) mod upload_pack;
