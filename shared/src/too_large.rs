//! Repositories about which there is more than is read for an answer.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::nip34::Coordinate;

/// What was found to be too large a moment ago, by the coordinates of an event. To find it out again takes as long, and
/// whoever waits for the relay's only writer waits too: so it is looked at again only after many times as long.
#[derive(Debug, Clone, Default)]
pub struct TooLarge(Arc<Mutex<HashMap<BTreeSet<Coordinate>, Instant>>>);

impl TooLarge {
    /// Notes what was found since `began`.
    pub(crate) fn note(&self, coordinates: &BTreeSet<Coordinate>, began: Instant) {
        let mut found = self.0.lock();
        if found.len() >= NOTED_MAX {
            found.retain(|_, until| *until > Instant::now());
        }
        if found.len() < NOTED_MAX {
            let pause = (PAUSE_FACTOR * began.elapsed()).min(PAUSE_MAX);
            found.insert(coordinates.clone(), Instant::now() + pause);
        }
    }

    /// Whether it was found to be too large a moment ago.
    pub(crate) fn is_known(&self, coordinates: &BTreeSet<Coordinate>) -> bool {
        let found = self.0.lock();
        found.get(coordinates).is_some_and(|until| *until > Instant::now())
    }
}

/// One part in so many of the writer's time goes into finding out about one repository.
const PAUSE_FACTOR: u32 = 50;
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Repositories that are known: each took long.
const NOTED_MAX: usize = 1_000;
