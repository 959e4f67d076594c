//! One page of a query, and whether another one must follow. Pure.

use nostr::event::Event;
use nostr::types::Timestamp;

/// What the relay sent for one request.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The valid events.
    pub(super) events: Vec<Event>,
    /// How many events there were in all.
    pub(super) received: usize,
    /// When the oldest of all of them was made.
    pub(super) oldest: Option<u64>,
}

/// What follows a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextPage {
    /// It was short: that is all.
    Done,
    /// It was full: there may be more, made at this time (there may be others of the same second) or before.
    Until(Timestamp),
    /// It was full, and yet nothing older can be asked for.
    Stalled { created_at: u64 },
}

impl NextPage {
    /// Decides what follows `page`, which was asked for up to `until` and of which `unseen` events are new.
    pub(super) fn after(page: &Page, unseen: usize, until: Option<Timestamp>, page_size: usize) -> Self {
        let fullness = Fullness::of(page, page_size);
        let oldest = page.oldest.map(Timestamp::from_secs);
        match (fullness, oldest) {
            (Fullness::Short, _) => Self::Done,
            (Fullness::NearlyFull | Fullness::Full, Some(oldest))
                if unseen > 0 || until.is_none_or(|until| oldest < until) =>
            {
                Self::Until(oldest)
            }
            (Fullness::NearlyFull, _) => Self::Done,
            (Fullness::Full, _) => Self::Stalled {
                created_at: oldest.or(until).map_or(0, |time| time.as_secs()),
            },
        }
    }
}

/// How near a page comes to the relay's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fullness {
    /// There is no more.
    Short,
    /// There may be more: strfry counts events that are deleted during a long query against the limit, and does not
    /// send them (`DBQuery.h` picks up to the limit, `QueryScheduler.h` then drops what is gone).
    NearlyFull,
    /// There is more, unless it happens to be all.
    Full,
}

impl Fullness {
    pub(super) fn of(page: &Page, page_size: usize) -> Self {
        if page.received >= page_size {
            Self::Full
        } else if page.received >= page_size - page_size / NEARLY {
            Self::NearlyFull
        } else {
            Self::Short
        }
    }
}

/// One in this many events of a page may be deleted while it is read.
const NEARLY: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_followed_by_what_its_fullness_demands() {
        let at = Timestamp::from_secs;
        let stalled = |created_at| NextPage::Stalled { created_at };
        let rows = [
            // received of 10, unseen, oldest, until, what follows
            (0, 0, None, None, NextPage::Done),
            (8, 8, Some(7), None, NextPage::Done),
            (10, 10, Some(7), None, NextPage::Until(at(7))),
            (10, 1, Some(7), Some(7), NextPage::Until(at(7))),
            // Nothing but what cannot be parsed: older ones can still be asked for.
            (10, 0, Some(7), None, NextPage::Until(at(7))),
            (10, 0, Some(7), Some(9), NextPage::Until(at(7))),
            (10, 0, Some(7), Some(7), stalled(7)),
            // A relay that ignores `until`.
            (10, 0, Some(8), Some(7), stalled(8)),
            (10, 0, None, Some(7), stalled(7)),
            (9, 9, Some(7), None, NextPage::Until(at(7))),
            (9, 0, Some(7), Some(7), NextPage::Done),
        ];

        for (received, unseen, oldest, until, step) in rows {
            let page = Page {
                events: Vec::new(),
                received,
                oldest,
            };

            assert_eq!(
                NextPage::after(&page, unseen, until.map(at), 10),
                step,
                "{received} {unseen} {oldest:?} {until:?}"
            );
        }
    }
}
