//! The git events of nostr (NIP-34) as parsed values: announcement, state, PR. No I/O.

mod announcement;
mod coordinate;
mod identifier;
mod kinds;
mod pull_request;
mod roles;
mod state;

pub use announcement::*;
pub use coordinate::*;
pub use identifier::*;
pub use kinds::*;
pub use pull_request::*;
pub use roles::*;
pub use state::*;
