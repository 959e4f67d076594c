//! What all connections of the relay share.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::event_store::EventStore;
use crate::limits::RelayLimits;
use crate::subscriptions::Served;
use crate::writer::Submission;

pub(super) struct Relay {
    pub(super) limits: RelayLimits,
    pub(super) store: Arc<EventStore>,
    /// To the writer. It ends when the last connection has dropped this.
    pub(super) submissions: mpsc::Sender<Submission>,
    /// From the writer: what it has stored.
    pub(super) served: broadcast::Sender<Arc<Served>>,
    /// How many batches the writer has begun to store.
    pub(super) batches: watch::Receiver<u64>,
    pub(super) stop: watch::Receiver<bool>,
}
