//! One page of a query, and whether another one must follow. Pure.

use nostr::event::Event;
use nostr::types::Timestamp;

use super::error::RelayError;

/// The relay's answer to one request.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The valid events.
    pub(super) events: Vec<Event>,
    /// How many events there were in all.
    pub(super) received: usize,
    /// When the oldest of all of them was made.
    pub(super) oldest: Option<u64>,
    /// Whether it was ended because it had enough bytes.
    pub(super) is_cut: bool,
}

impl Page {
    /// Whether there are no more: strfry counts events that are deleted during a long query against the limit, and does
    /// not send them (`DBQuery.h` selects up to the limit, `QueryScheduler.h` then drops deleted ones).
    pub(super) fn is_short(&self, page_size: usize) -> bool {
        is_few(self.received, page_size)
    }

    /// Decides up to which time to ask for the next page: there may be more events of the second of the oldest one.
    /// `None`: this was the last page. It was asked for up to `until`, and `unseen` of its events are new.
    ///
    /// # Errors
    /// The page is full, and yet nothing older can be asked for.
    pub(super) fn next_until(
        &self,
        unseen: usize,
        until: Option<Timestamp>,
        page_size: usize,
    ) -> Result<Option<Timestamp>, RelayError> {
        let oldest = self.oldest.map(Timestamp::from_secs);
        let makes_progress = |oldest: &Timestamp| unseen > 0 || until.is_none_or(|until| *oldest < until);
        if self.is_short(page_size) {
            return Ok(None);
        }
        match oldest.filter(makes_progress) {
            None if self.received >= page_size => Err(RelayError::Stalled {
                page_size,
                created_at: oldest.or(until).map_or(0, |time| time.as_secs()),
            }),
            next => Ok(next),
        }
    }
}

/// Whether so many events are all that there are, where `limit` were asked for.
pub(super) fn is_few(received: usize, limit: usize) -> bool {
    received < limit - limit / NEARLY
}

/// One in this many events of a page may be deleted while it is read.
pub(super) const NEARLY: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_followed_by_what_its_fullness_demands() {
        let at = Timestamp::from_secs;
        let done = || Ok(None);
        let until = |time| Ok(Some(at(time)));
        let rows = [
            // received of 10, unseen, oldest, until, what follows or where it stalls
            (0, 0, None, None, done()),
            (8, 8, Some(7), None, done()),
            (10, 10, Some(7), None, until(7)),
            (10, 1, Some(7), Some(7), until(7)),
            // Only unparsable events: older ones can still be queried.
            (10, 0, Some(7), None, until(7)),
            (10, 0, Some(7), Some(9), until(7)),
            (10, 0, Some(7), Some(7), Err(7)),
            // A relay that ignores `until`.
            (10, 0, Some(8), Some(7), Err(8)),
            (10, 0, None, Some(7), Err(7)),
            (9, 9, Some(7), None, until(7)),
            (9, 0, Some(7), Some(7), done()),
        ];

        for (received, unseen, oldest, until, step) in rows {
            let page = Page {
                events: Vec::new(),
                received,
                oldest,
                is_cut: false,
            };

            let next = page.next_until(unseen, until.map(at), 10).map_err(|error| {
                let RelayError::Stalled { created_at, .. } = error else {
                    panic!("{error}");
                };
                created_at
            });

            assert_eq!(next, step, "{received} {unseen} {oldest:?} {until:?}");
        }
    }
}
