//! What readers get: refs, packs, and an explanation where a repository is incomplete.
//!
//! The way of a fetch: its endpoint (`info_refs`, `upload_pack`) has the repository found (`reader`), and the request
//! received and understood (`receive`); it waits for a slot or for another's answer (`waiting`); git runs (`git_run`)
//! and writes into a spool, from which the answer is sent (`sending`) and may be kept for others (`keeping`). `server`
//! puts these together.

mod advertise;
pub(crate) mod advertised;
mod answer_key;
pub(crate) mod answers;
mod asked;
pub(crate) mod askers;
mod cache;
pub(crate) mod error;
pub(crate) mod finding;
mod git_run;
#[cfg(test)]
mod git_wire_tests;
pub(crate) mod info_refs;
mod keeping;
pub(crate) mod limits;
pub(crate) mod load_slots;
mod long_pipe;
pub(crate) mod ls_refs;
pub(crate) mod outcome;
pub(crate) mod reader;
pub(crate) mod receive;
pub(crate) mod ref_answer;
mod request;
pub(crate) mod sending;
pub(crate) mod server;
mod slot;
mod spool;
mod spool_file;
#[cfg(test)]
mod testing;
pub(crate) mod upload_pack;
mod waiting;
