//! The way of a held event out of the purgatory: look at an identifier under its lock, bring the repositories to
//! where the facts demand, mark what is complete, publish it, settle it (design 2, rule 4).
//!
//! The same look serves a push, a new event, the recovery after a crash and the sweep. What must be done is decided in
//! `shared::rules`; here it is done.

mod epoch;
mod import;
mod in_flight;
mod look;
mod publish;
mod retire;
mod strfry_child;
mod worker;

pub use import::Importer;
pub use import::StrfryError;
pub use import::StrfryPaths;
pub use in_flight::InFlight;
pub use look::Look;
pub use look::LookError;
pub use publish::Published;
pub use worker::run;
