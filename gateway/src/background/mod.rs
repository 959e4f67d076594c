//! What runs without a request: the worker that reconciles whatever is dirty and publishes whatever is due, what marks
//! coordinates dirty (the relay's commits, the daily re-check), and the recovery of what Redis has lost.

mod follow_relay;
mod recheck;
mod reconcile_dirty;
mod recovery;
mod retention;
pub(crate) mod worker;
