//! What the operator sees and does beside the server: the commands that look into the purgatory, and the admin address.

pub(crate) mod address;
pub(crate) mod health;
mod needs;
mod pages;
pub(crate) mod purgatory;
mod rows;
mod table;
