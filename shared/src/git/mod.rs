//! git's nouns as types that cannot be wrong: object ids, ref names, ref updates. No repository, no I/O.

mod object_kind;
mod oid;
mod push_command;
mod ref_name;
mod ref_update;

pub use object_kind::ObjectKind;
pub use oid::Oid;
pub use oid::OidError;
pub use push_command::CommandDefect;
pub use push_command::PushCommand;
pub use ref_name::Namespace;
pub use ref_name::RefName;
pub use ref_name::RefNameError;
pub use ref_update::RefUpdate;
