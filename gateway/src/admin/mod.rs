//! What the operator sees and does beside the server: the commands that look into the purgatory.

mod needs;
pub(crate) mod purgatory;
mod rows;
mod table;
