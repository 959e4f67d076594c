//! What runs without a request: the worker that reconciles whatever is dirty and publishes whatever is due, what marks
//! coordinates dirty (the relay's commits, the daily re-check), and the recovery of what Redis has lost.

mod disk_report;
mod follow_relay;
mod live_work;
mod maintenance;
mod pull_request_refs;
mod recheck;
mod reconcile_dirty;
mod reconcile_pull_requests;
mod recovery;
mod relay_history;
mod retention;
pub(crate) mod threads;
pub(crate) mod worker;

use std::time::Duration;

/// After a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
