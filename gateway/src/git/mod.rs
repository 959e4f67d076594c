//! git on disk and on the wire: repositories, refs, packs, pkt-lines. No HTTP, no nostr relay, no policy.
//!
//! Reads of refs and all parsing of client bytes are native; packs and ref transactions are real git's
//! (facts/git-http 0).

mod command;
mod layout;

pub use command::Git;
pub use command::GitError;
pub use command::GitVersion;
pub use layout::Layout;
pub use layout::LayoutError;
pub use layout::SweepReport;
