//! git on disk and on the wire: repositories, refs, packs, pkt-lines. No HTTP, no nostr relay, no policy.
//!
//! Reads of refs and all parsing of client bytes are native; packs and ref transactions are real git's
//! (facts/git-http 0).

mod command;
mod layout;
mod objects;
mod ref_cache;
mod ref_transaction;
mod refs;
mod repository;
#[cfg(test)]
mod testing;

pub use command::Git;
pub use command::GitError;
pub use command::GitVersion;
pub use layout::Layout;
pub use layout::LayoutError;
pub use layout::SweepReport;
pub use objects::ObjectError;
pub use objects::ObjectKind;
pub use objects::object_kinds;
pub use ref_transaction::ApplyError;
pub use ref_transaction::RefTransaction;
pub use refs::Head;
pub use refs::RefReadError;
pub use refs::RefSnapshot;
pub use repository::CreateError;
pub use repository::Repositories;
pub use repository::Repository;
