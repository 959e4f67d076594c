//! The way of new stored events from the writer to all connections. What the slowest has not taken waits here, within
//! bounds in events and in bytes that no number of connections changes: a connection that is further behind has missed
//! events.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::subscriptions::Served;

/// The end where events go in. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ServedEvents {
    ring: Arc<Mutex<Ring>>,
    /// The number of the next event.
    next: watch::Sender<u64>,
}

/// The end where events come out, of one connection.
#[derive(Debug)]
pub(super) struct ServedReceiver {
    ring: Arc<Mutex<Ring>>,
    /// The number of the next event of this receiver.
    own: u64,
    next: watch::Receiver<u64>,
}

/// Why a receiver gets no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEvent {
    /// It was too far behind. It gets those that are left.
    Missed,
    /// There will be none.
    Ended,
}

#[derive(Debug)]
struct Ring {
    waiting: VecDeque<WaitingEvent>,
    /// The number of the first.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    receivers: usize,
}

#[derive(Debug)]
struct WaitingEvent {
    served: Arc<Served>,
    /// How many receivers have not taken it.
    receivers: usize,
}

impl ServedEvents {
    /// Returns a way on which so many bytes may wait.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            ring: Arc::new(Mutex::new(Ring {
                waiting: VecDeque::new(),
                first: 0,
                bytes: 0,
                bytes_max,
                receivers: 0,
            })),
            next: watch::Sender::new(0),
        }
    }

    pub(super) fn subscribe(&self) -> ServedReceiver {
        let mut ring = self.ring.lock();
        ring.receivers += 1;
        ServedReceiver {
            ring: Arc::clone(&self.ring),
            own: ring.next(),
            next: self.next.subscribe(),
        }
    }

    pub(super) fn send(&self, served: Served) {
        let next = {
            let mut ring = self.ring.lock();
            ring.push(Arc::new(served));
            ring.next()
        };
        self.next.send_replace(next);
    }
}

impl ServedReceiver {
    /// Waits for the next event. Cancelled, it has taken none.
    pub(super) async fn recv(&mut self) -> Result<Arc<Served>, NoEvent> {
        loop {
            self.next.borrow_and_update();
            if let Some(taken) = self.ring.lock().take(&mut self.own) {
                return taken;
            }
            self.next.changed().await.map_err(|_| NoEvent::Ended)?;
        }
    }

    /// Whether all events that have been sent were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.own == self.ring.lock().next()
    }
}

impl Drop for ServedReceiver {
    fn drop(&mut self) {
        let mut ring = self.ring.lock();
        ring.receivers -= 1;
        let taken = usize::try_from(self.own.saturating_sub(ring.first)).unwrap_or(usize::MAX);
        for waiting in ring.waiting.iter_mut().skip(taken) {
            waiting.receivers -= 1;
        }
        ring.drop_taken();
    }
}

impl Ring {
    fn next(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    fn push(&mut self, served: Arc<Served>) {
        self.bytes += served.bytes();
        let receivers = self.receivers;
        self.waiting.push_back(WaitingEvent { served, receivers });
        // The newest stays, whatever its size.
        while self.waiting.len() > 1 && (self.waiting.len() > EVENTS_MAX || self.bytes > self.bytes_max) {
            self.drop_first();
        }
        self.drop_taken();
    }

    /// Takes the event of that number for one receiver, and counts on; `None`: it has not come yet.
    fn take(&mut self, own: &mut u64) -> Option<Result<Arc<Served>, NoEvent>> {
        if *own < self.first {
            *own = self.first;
            return Some(Err(NoEvent::Missed));
        }
        let index = usize::try_from(*own - self.first).ok()?;
        let waiting = self.waiting.get_mut(index)?;
        waiting.receivers -= 1;
        let served = Arc::clone(&waiting.served);
        *own += 1;
        self.drop_taken();
        Some(Ok(served))
    }

    fn drop_taken(&mut self) {
        while self.waiting.front().is_some_and(|waiting| waiting.receivers == 0) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.bytes -= waiting.served.bytes();
            self.first += 1;
        }
    }
}

/// Most events that wait.
const EVENTS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;

    fn served(content_bytes: usize) -> Served {
        let content = "x".repeat(content_bytes);
        let event = EventBuilder::new(Kind::TextNote, content).finalize(&Keys::generate());
        Served::new(event.unwrap(), 1)
    }

    fn taken(receiver: &mut ServedReceiver) -> Option<Result<usize, NoEvent>> {
        let taken = receiver.recv().now_or_never()?;
        Some(taken.map(|served| served.event.content.len()))
    }

    /// 512 events waited, whatever their size.
    #[test]
    fn what_waits_for_the_slowest_has_a_bound_in_bytes() {
        let events = ServedEvents::new(100_000);
        let (mut slow, mut quick) = (events.subscribe(), events.subscribe());

        for _ in 0..20 {
            events.send(served(30_000));
            assert!(matches!(taken(&mut quick), Some(Ok(_))));
            assert!(events.ring.lock().bytes <= 100_000);
        }
        assert!(!slow.is_empty() && quick.is_empty());
        assert_eq!(taken(&mut slow), Some(Err(NoEvent::Missed)));
        // One larger than everything that may wait is delivered all the same.
        events.send(served(200_000));
        assert!(matches!(taken(&mut quick), Some(Ok(_))));
        assert_eq!(taken(&mut slow), Some(Err(NoEvent::Missed)));
        assert!(matches!(taken(&mut slow), Some(Ok(_))));
        assert_eq!(taken(&mut slow), None);
    }

    #[test]
    fn what_all_have_taken_is_not_kept() {
        let events = ServedEvents::new(100_000);
        events.send(served(10));
        assert_eq!(events.ring.lock().waiting.len(), 0);
        let (mut one, mut other) = (events.subscribe(), events.subscribe());
        for _ in 0..3 {
            events.send(served(10));
        }

        assert!(matches!(taken(&mut one), Some(Ok(_))));
        assert_eq!(events.ring.lock().waiting.len(), 3);
        assert!(matches!(taken(&mut other), Some(Ok(_))));
        assert_eq!(events.ring.lock().waiting.len(), 2);
        drop(other);
        assert!(matches!(taken(&mut one), Some(Ok(_))));
        drop(one);
        let ring = events.ring.lock();
        assert_eq!((ring.waiting.len(), ring.bytes, ring.receivers), (0, 0, 0));
    }

    #[test]
    fn the_end_is_told_after_what_was_sent() {
        let events = ServedEvents::new(100_000);
        let mut receiver = events.subscribe();
        assert_eq!(taken(&mut receiver), None);
        events.send(served(10));
        drop(events);

        assert!(matches!(taken(&mut receiver), Some(Ok(_))));
        assert_eq!(taken(&mut receiver), Some(Err(NoEvent::Ended)));
    }
}
