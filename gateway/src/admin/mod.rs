//! The operator's view beside the server: the commands that show the purgatory, and the admin address, and whether
//! another address is this server's own.

pub(crate) mod address;
mod command_answer;
mod description;
pub(crate) mod doctor;
mod entries;
mod facts_source;
pub(crate) mod health;
mod html;
mod inspection;
mod inspector;
mod metrics;
mod needs;
pub(crate) mod own_address;
pub(crate) mod purgatory;
mod readiness;
mod refusals;
mod release;
pub(crate) mod repo;
mod rows;
pub(crate) mod survey;
mod table;
pub(crate) mod unmatched_lines;
mod watch;
