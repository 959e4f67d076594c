//! A query as a sequence of pages: a page counts as complete only if it is short.

use std::collections::HashSet;
use std::sync::Arc;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr::filter::MatchEventOptions;
use nostr::key::PublicKey;

use super::connection::RelayConnection;
use super::crowded::CrowdedTags;
use super::error::RelayError;
use super::page::is_few;
use super::prolific::Few;
use crate::nip01::memory_bytes;

/// Returns all that matches; each filter, or each part of one that is too large for a page, may match at most
/// `events_max` events, and all of these may have `bytes_max`.
pub(super) async fn query(
    connection: Arc<RelayConnection>,
    crowded: &CrowdedTags,
    filters: &[Filter],
    events_max: usize,
    bytes_max: usize,
) -> Result<Vec<Event>, RelayError> {
    if let Some(instead) = crowded.without(filters) {
        let mut found = FoundEvents::within(bytes_max, Some(filters));
        match add_all(&connection, crowded, &instead, events_max, &mut found).await {
            // Their other events are too much, and not those that were asked for.
            Err(error) if !error.is_passing() => {}
            added => return added.map(|()| found.events),
        }
    }
    let mut found = FoundEvents::within(bytes_max, None);
    let added = add_all(&connection, crowded, filters, events_max, &mut found).await;
    added.map(|()| found.events)
}

async fn add_all(
    connection: &RelayConnection,
    crowded: &CrowdedTags,
    filters: &[Filter],
    events_max: usize,
    found: &mut FoundEvents<'_>,
) -> Result<(), RelayError> {
    let page_size = connection.page_size();
    for filters in requests(filters) {
        let query = crowded.begin(filters);
        if let [filter] = filters {
            match add_all_in_parts(connection, filter, events_max, found).await {
                Err(error) if !error.is_passing() => {
                    query.forget();
                    return Err(error);
                }
                added => added?,
            }
            query.end(&found.events);
            continue;
        }
        let request: Vec<Filter> = filters.iter().cloned().map(|filter| filter.limit(page_size)).collect();
        match connection.page_within(found.left(), &request, page_size).await {
            // A relay's limit is that of each filter, or of the request: if all together do not reach it, none did.
            Ok(page) if page.is_short(page_size) => {
                query.end(&page.events);
                found.add(page.events)?;
                continue;
            }
            Ok(_) | Err(RelayError::TooLarge { .. }) => query.forget(),
            Err(error) => return Err(error),
        }
        for filter in filters {
            add_all_in_parts(connection, filter, events_max, found).await?;
        }
    }
    Ok(())
}

/// Returns all that matches `filters`, with as few as `count` that match `few`, by one request, or some of it.
pub(super) async fn query_with(
    connection: Arc<RelayConnection>,
    crowded: &CrowdedTags,
    filters: &[Filter],
    few: &Filter,
    count: usize,
) -> Result<Few, RelayError> {
    let page_size = connection.page_size();
    let instead = crowded.without(filters);
    let limited = instead.as_deref().unwrap_or(filters).iter().cloned();
    let limited = limited.map(|filter| filter.limit(page_size));
    let together: Vec<Filter> = limited.chain([few.clone().limit(count)]).collect();
    if requests(&together).len() > 1 {
        return Ok(Few::More(Vec::new()));
    }
    let query = crowded.begin(&together);
    let page = connection.page_cut(FEW_BYTES_MAX, &together, page_size).await?;
    let is_other = |event: &&Event| !few.match_event(event, MatchEventOptions::new());
    // What is not valid may be either.
    let others = page.events.iter().filter(is_other).count();
    if !page.is_cut && page.is_short(page_size) && is_few(page.received - others, count) {
        query.end(&page.events);
        let wanted: Vec<Filter> = filters.iter().chain([few]).cloned().collect();
        let mut found = FoundEvents::within(usize::MAX, instead.map(|_| wanted.as_slice()));
        found.add(page.events)?;
        return Ok(Few::All(found.events));
    }
    query.forget();
    Ok(Few::More(page.events))
}

pub(super) async fn newest(
    connection: Arc<RelayConnection>,
    filters: &[Filter],
    bytes_max: usize,
) -> Result<Vec<Event>, RelayError> {
    let page_size = connection.page_size();
    let mut found = FoundEvents::within(bytes_max, None);
    for filters in requests(filters) {
        match connection.page_within(found.left(), filters, page_size).await {
            Err(RelayError::TooLarge { .. }) if filters.len() > 1 => {
                for filter in filters {
                    let only = std::slice::from_ref(filter);
                    let page = connection.page_within(found.left(), only, page_size).await?;
                    found.add(page.events)?;
                }
            }
            page => found.add(page?.events)?,
        }
    }
    Ok(found.events)
}

/// Returns the newest of what matches a filter, up to its limit, until they have so many bytes; and whether these are
/// all.
pub(super) async fn newest_cut(
    connection: Arc<RelayConnection>,
    filter: &Filter,
    bytes_max: usize,
) -> Result<(Vec<Event>, bool), RelayError> {
    let page_size = connection.page_size();
    let page = connection
        .page_cut(bytes_max, std::slice::from_ref(filter), page_size)
        .await?;
    Ok((page.events, !page.is_cut))
}

/// Returns all that matches, or some of it, if it may be `count` events, the limit of each filter, or more.
pub(super) async fn fewer_than(
    connection: Arc<RelayConnection>,
    crowded: &CrowdedTags,
    bytes_max: usize,
    count: usize,
    filters: &[Filter],
) -> Result<Few, RelayError> {
    let bytes_max = bytes_max.min(FEW_BYTES_MAX);
    if let Some(instead) = crowded.without(filters) {
        let page_size = connection.page_size();
        let instead: Vec<Filter> = instead.into_iter().map(|filter| filter.limit(page_size)).collect();
        let only = Some(filters);
        let found = fewer_of(
            &connection,
            crowded,
            &instead,
            page_size,
            FoundEvents::within(bytes_max, only),
        )
        .await?;
        if let Few::All(_) = found {
            return Ok(found);
        }
    }
    fewer_of(
        &connection,
        crowded,
        filters,
        count,
        FoundEvents::within(bytes_max, None),
    )
    .await
}

async fn fewer_of(
    connection: &RelayConnection,
    crowded: &CrowdedTags,
    filters: &[Filter],
    count: usize,
    mut found: FoundEvents<'_>,
) -> Result<Few, RelayError> {
    for filters in requests(filters) {
        let query = crowded.begin(filters);
        let page = connection.page_cut(found.left(), filters, count).await?;
        if page.is_cut || !page.is_short(count) {
            query.forget();
            let mut events = found.events;
            events.extend(page.events);
            return Ok(Few::More(events));
        }
        query.end(&page.events);
        found.add(page.events)?;
    }
    Ok(Few::All(found.events))
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

/// Whether anything matches. Where a tag is crowded, a page of its author's events is looked through, and what is not
/// among them is not found: who asks waits with the relay's only writer.
pub(super) async fn any(
    connection: Arc<RelayConnection>,
    crowded: &CrowdedTags,
    filters: &[Filter],
) -> Result<bool, RelayError> {
    let Some(instead) = crowded.without(filters) else {
        return any_of(&connection, crowded, filters).await;
    };
    let (by_author, others): (Vec<_>, Vec<_>) = (filters.iter().cloned().zip(instead)).partition(|(a, b)| a != b);
    let (others, _): (Vec<_>, Vec<_>) = others.into_iter().unzip();
    if any_of(&connection, crowded, &others).await? {
        return Ok(true);
    }
    let page_size = connection.page_size();
    for (wanted, instead) in by_author {
        let is_wanted = |event: &Event| wanted.match_event(event, MatchEventOptions::new());
        let request = [instead.limit(page_size)];
        match connection.page_within(FEW_BYTES_MAX, &request, page_size).await {
            Ok(page) if page.events.iter().any(is_wanted) => return Ok(true),
            Ok(_) | Err(RelayError::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

async fn any_of(connection: &RelayConnection, crowded: &CrowdedTags, filters: &[Filter]) -> Result<bool, RelayError> {
    let page_size = connection.page_size();
    for filters in requests(filters) {
        let request: Vec<Filter> = filters.iter().cloned().map(|filter| filter.limit(1)).collect();
        let query = crowded.begin(&request);
        match connection.page_within(usize::MAX, &request, page_size).await {
            Ok(page) if page.received == 0 => query.end(&page.events),
            Ok(_) | Err(RelayError::TooLarge { .. }) => {
                query.forget();
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Adds all that matches one filter. If that is larger than a page may be, adds what matches of each half of its
/// authors, and so on: how much others publish makes nobody's own events unreadable.
async fn add_all_in_parts(
    connection: &RelayConnection,
    filter: &Filter,
    events_max: usize,
    found: &mut FoundEvents<'_>,
) -> Result<(), RelayError> {
    let mut parts = vec![filter.clone()];
    while let Some(part) = parts.pop() {
        match add_all_of(connection, &part, events_max, found).await {
            // There is room for more than the page had: the rest of all bytes was not the limit.
            Err(RelayError::TooLarge { bytes_max }) if bytes_max < found.left() => {
                parts.extend(halves(&part).ok_or(RelayError::TooLarge { bytes_max })?);
            }
            added => added?,
        }
    }
    Ok(())
}

/// Returns a filter for each half of the authors of one; `None`: it names fewer than two.
fn halves(filter: &Filter) -> Option<[Filter; 2]> {
    let authors: Vec<PublicKey> = filter.authors.iter().flatten().copied().collect();
    let of = |authors: &[PublicKey]| Filter {
        authors: Some(authors.iter().copied().collect()),
        ..filter.clone()
    };
    let (some, others) = authors.split_at(authors.len() / 2);
    (!some.is_empty()).then(|| [of(some), of(others)])
}

/// Adds all that matches one filter, page by page into the past.
async fn add_all_of(
    connection: &RelayConnection,
    filter: &Filter,
    events_max: usize,
    found: &mut FoundEvents<'_>,
) -> Result<(), RelayError> {
    let page_size = connection.page_size();
    let mut request = filter.clone().limit(page_size);
    // Of this filter alone: events that another filter found do not mean that this one makes no progress.
    let mut seen = HashSet::new();
    loop {
        let only = std::slice::from_ref(&request);
        let page = connection.page_within(found.left(), only, page_size).await?;
        let unseen = page.events.iter().filter(|event| seen.insert(event.id)).count();
        let next = page.next_until(unseen, request.until, page_size);
        found.add(page.events)?;
        match next? {
            Some(_) if seen.len() > events_max => return Err(RelayError::TooMany { events_max }),
            Some(until) => request = request.until(until),
            None => return Ok(()),
        }
    }
}

/// Events, each once.
#[derive(Debug)]
struct FoundEvents<'f> {
    /// Those that match one of these; `None`: all.
    only: Option<&'f [Filter]>,
    events: Vec<Event>,
    ids: HashSet<EventId>,
    bytes: usize,
    bytes_max: usize,
}

impl<'f> FoundEvents<'f> {
    fn within(bytes_max: usize, only: Option<&'f [Filter]>) -> Self {
        Self {
            only,
            events: Vec::new(),
            ids: HashSet::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Returns how many bytes more there may be.
    fn left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    fn add(&mut self, events: Vec<Event>) -> Result<(), RelayError> {
        let matches = |filter: &Filter, event: &Event| filter.match_event(event, MatchEventOptions::new());
        let is_wanted = |event: &Event| {
            let only = self.only.as_ref();
            only.is_none_or(|filters| filters.iter().any(|filter| matches(filter, event)))
        };
        for event in events {
            if is_wanted(&event) && self.ids.insert(event.id) {
                self.bytes += memory_bytes(&event);
                self.events.push(event);
            }
        }
        let bytes_max = self.bytes_max;
        if self.bytes > bytes_max {
            return Err(RelayError::TooLarge { bytes_max });
        }
        Ok(())
    }
}

/// Most memory of an answer that is expected to be short: the owners of a few repositories with thousands of refs fit.
const FEW_BYTES_MAX: usize = 2 << 20;

/// Bytes of filters in one request: below strfry's default frame of 128 KiB, whatever is set.
const REQUEST_BYTES_MAX: usize = 96 * 1024;

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
}
