//! git's nouns as types that cannot be wrong: object ids, ref names, ref updates. No repository, no I/O.

mod oid;
mod ref_name;
mod ref_update;

pub use oid::*;
pub use ref_name::*;
pub use ref_update::*;
