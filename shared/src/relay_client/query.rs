//! A query as a sequence of pages, none of which is taken for the whole unless it is short.

use std::collections::HashSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr::types::Timestamp;

use super::RelayError;
use super::connection::Connection;

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

/// Asks for all that matches one of `filters`.
pub(super) async fn query(connection: &Connection, filters: &[Filter]) -> Result<Vec<Event>, RelayError> {
    let page_size = connection.limits().page_size;
    let mut found = Found::default();
    for filters in requests(filters) {
        if let [filter] = filters {
            add_all_of(connection, filter, &mut found).await?;
            continue;
        }
        let request: Vec<Filter> = filters.iter().cloned().map(|filter| filter.limit(page_size)).collect();
        let page = connection.page(&request, page_size).await?;
        // A relay's limit is that of each filter, or of the request: if all together do not reach it, none did.
        if Fullness::of(&page, page_size) == Fullness::Short {
            found.add(page.events);
            continue;
        }
        for filter in filters {
            add_all_of(connection, filter, &mut found).await?;
        }
    }
    Ok(found.events)
}

/// Asks for what matches each of `filters`, up to its own limit, the newest first.
pub(super) async fn newest(connection: &Connection, filters: &[Filter]) -> Result<Vec<Event>, RelayError> {
    let page_size = connection.limits().page_size;
    let mut found = Found::default();
    for filters in requests(filters) {
        found.add(connection.page(filters, page_size).await?.events);
    }
    Ok(found.events)
}

/// Cuts filters into requests that a relay takes: not too many filters, not too many bytes.
fn requests(filters: &[Filter]) -> Vec<&[Filter]> {
    let mut requests = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (place, filter) in filters.iter().enumerate() {
        let more = serde_json::to_string(filter).map_or(0, |text| text.len());
        let full = place - start == FILTERS_PER_REQUEST_MAX || bytes + more > REQUEST_BYTES_MAX;
        if full && place > start {
            requests.push(&filters[start..place]);
            (start, bytes) = (place, 0);
        }
        bytes += more;
    }
    if start < filters.len() {
        requests.push(&filters[start..]);
    }
    requests
}

/// Tells whether anything matches one of `filters`.
pub(super) async fn any(connection: &Connection, filters: &[Filter]) -> Result<bool, RelayError> {
    let page_size = connection.limits().page_size;
    for filters in requests(filters) {
        let request: Vec<Filter> = filters.iter().cloned().map(|filter| filter.limit(1)).collect();
        if connection.page(&request, page_size).await?.received > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds all that matches one filter, page by page into the past.
async fn add_all_of(connection: &Connection, filter: &Filter, found: &mut Found) -> Result<(), RelayError> {
    let page_size = connection.limits().page_size;
    let mut request = filter.clone().limit(page_size);
    // Events found through another filter are no news here, and yet no sign of status still.
    let mut seen = HashSet::new();
    loop {
        let page = connection.page(std::slice::from_ref(&request), page_size).await?;
        let unseen = page.events.iter().filter(|event| seen.insert(event.id)).count();
        let step = Step::after(&page, unseen, request.until, page_size);
        found.add(page.events);
        match step {
            Step::Done => return Ok(()),
            Step::Until(created_at) => request = request.until(created_at),
            Step::Stalled { created_at } => {
                return Err(RelayError::Stalled { page_size, created_at });
            }
        }
    }
}

/// What follows a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It was short: that is all.
    Done,
    /// It was full: there may be more, made at this time (there may be others of the same second) or before.
    Until(Timestamp),
    /// It was full, and yet nothing older can be asked for.
    Stalled { created_at: u64 },
}

impl Step {
    fn after(page: &Page, unseen: usize, until: Option<Timestamp>, page_size: usize) -> Self {
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
enum Fullness {
    /// There is no more.
    Short,
    /// There may be more: strfry counts what is deleted during a long query against the limit, and does not send it
    /// (`DBQuery.h` picks up to the limit, `QueryScheduler.h` then drops what is gone).
    NearlyFull,
    /// There is more, unless it happens to be all.
    Full,
}

impl Fullness {
    fn of(page: &Page, page_size: usize) -> Self {
        if page.received >= page_size {
            Self::Full
        } else if page.received >= page_size - page_size / NEARLY {
            Self::NearlyFull
        } else {
            Self::Short
        }
    }
}

/// Events, each once.
#[derive(Debug, Default)]
struct Found {
    events: Vec<Event>,
    ids: HashSet<EventId>,
}

impl Found {
    fn add(&mut self, events: Vec<Event>) {
        for event in events {
            if self.ids.insert(event.id) {
                self.events.push(event);
            }
        }
    }
}

/// Bytes of filters in one request: below strfry's default frame of 128 KiB, whatever is set.
const REQUEST_BYTES_MAX: usize = 96 * 1024;

/// The share of a page, one in so many, that may be deleted while it is read.
const NEARLY: usize = 10;
/// Most filters in one request (strfry refuses more than `relay.maxReqFilterSize`, 200).
const FILTERS_PER_REQUEST_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_cut_by_number_and_by_bytes() {
        let small: Vec<Filter> = (0..FILTERS_PER_REQUEST_MAX + 1).map(|_| Filter::new()).collect();
        let large: Vec<Filter> = (0..3)
            .map(|_| Filter::new().identifier("x".repeat(REQUEST_BYTES_MAX / 2)))
            .collect();

        let sizes = |filters: &[Filter]| {
            requests(filters)
                .iter()
                .map(|filters| filters.len())
                .collect::<Vec<_>>()
        };

        assert_eq!(sizes(&small), [FILTERS_PER_REQUEST_MAX, 1]);
        assert_eq!(sizes(&large), [1, 1, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }

    #[test]
    fn page_is_followed_by_what_its_fullness_demands() {
        let at = Timestamp::from_secs;
        let stalled = |created_at| Step::Stalled { created_at };
        let rows = [
            // received of 10, unseen, oldest, until, what follows
            (0, 0, None, None, Step::Done),
            (8, 8, Some(7), None, Step::Done),
            (10, 10, Some(7), None, Step::Until(at(7))),
            (10, 1, Some(7), Some(7), Step::Until(at(7))),
            // Nothing but what cannot be parsed: older ones can still be asked for.
            (10, 0, Some(7), None, Step::Until(at(7))),
            (10, 0, Some(7), Some(9), Step::Until(at(7))),
            (10, 0, Some(7), Some(7), stalled(7)),
            // A relay that ignores `until`.
            (10, 0, Some(8), Some(7), stalled(8)),
            (10, 0, None, Some(7), stalled(7)),
            (9, 9, Some(7), None, Step::Until(at(7))),
            (9, 0, Some(7), Some(7), Step::Done),
        ];

        for (received, unseen, oldest, until, step) in rows {
            let page = Page {
                events: Vec::new(),
                received,
                oldest,
            };

            assert_eq!(
                Step::after(&page, unseen, until.map(at), 10),
                step,
                "{received} {unseen} {oldest:?} {until:?}"
            );
        }
    }
}
