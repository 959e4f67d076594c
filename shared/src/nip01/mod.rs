//! What NIP-01 and its like determine for every event: addresses, tags, which of two versions wins, what a deletion
//! request deletes. Pure.

mod address;
mod deletion;
mod hex;
mod revision;
mod tags;

pub use address::Address;
pub use address::AddressError;
pub use deletion::Deletion;
pub use deletion::is_deleted_by;
pub use hex::is_lower_hex;
pub use hex::parse_pubkey;
pub use revision::Revision;
pub use tags::first_tag;
pub use tags::first_value;
pub use tags::tag_values;
pub use tags::tags;
