//! The rules of GRASP-01: facts in, verdicts out. Nothing here logs, awaits, reads or asks for the time.

mod accept;
mod access;
mod disk;
mod event_status;
mod facts;
mod maintainers;
mod namesakes;
mod offer;
mod push;
mod push_room;
mod pushed_state;
mod reconcile;
mod refusal;
mod related;
mod remedy;
mod service;
mod state_match;
#[cfg(feature = "io")]
mod unread_states;
mod verdict;

pub use accept::*;
pub use access::*;
pub use disk::*;
pub use event_status::*;
pub use facts::*;
pub use maintainers::MEMBERS_MAX;
pub use maintainers::MaintainerMode;
pub use maintainers::Membership;
pub use offer::*;
pub use push::*;
pub use pushed_state::*;
pub use reconcile::*;
pub use refusal::*;
pub use related::*;
pub use remedy::*;
pub use service::*;
pub use verdict::Commanded;
pub use verdict::PushTarget;
pub use verdict::Verdict;
