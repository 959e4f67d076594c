//! Reads the relay's stored events in pages: neither their number nor how many have the same timestamp decides whether
//! it finishes, or how much is in memory.

use nostr::event::Event;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use shared::relay_client::RelayClient;
use shared::relay_client::RelayError;

use crate::logged::logged;

/// What matches a filter, of some seconds, as far as it was not read yet.
#[derive(Debug)]
pub(super) struct RelayHistory {
    filter: Filter,
    /// First and last second of each span that is still to be read, the next one last.
    spans: Vec<(u64, u64)>,
}

impl RelayHistory {
    /// Begins with the second `since`.
    pub(super) fn since(filter: Filter, since: u64) -> Self {
        let now = Timestamp::now().as_secs().max(since);
        // Most that is dated is dated before now: so it is halved less often.
        let later = (now + 1, u64::from(u32::MAX).max(now + 1));
        Self {
            filter,
            spans: vec![later, (since, now)],
        }
    }

    /// Returns some of the events that were not read yet, the same ones until [`RelayHistory::advance`]; `None`: that
    /// was all. If one second has more than the relay returns, only those that it returns.
    ///
    /// # Errors
    /// The relay did not answer. Asked again, it is the same question.
    pub(super) async fn next(&mut self, relay: &RelayClient) -> Result<Option<Vec<Event>>, RelayError> {
        while let Some((since, until)) = self.spans.last().copied() {
            let filter = self
                .filter
                .clone()
                .since(Timestamp::from_secs(since))
                .until(Timestamp::from_secs(until));
            let events = match relay.query_up_to(vec![filter.clone()], EVENTS_MAX).await {
                Err(error) if error.is_too_much() && since < until => {
                    self.halve(since, until);
                    continue;
                }
                Err(error) if error.is_too_much() => {
                    tracing::warn!(
                        error = logged(&error),
                        "some events with the same timestamp are left out: the next re-check reconciles their repositories"
                    );
                    newest(relay, &filter).await?
                }
                answer => answer?,
            };
            if !events.is_empty() {
                return Ok(Some(events));
            }
            self.advance();
        }
        Ok(None)
    }

    /// Counts the events that were returned last as done.
    pub(super) fn advance(&mut self) {
        self.spans.pop();
    }

    fn halve(&mut self, since: u64, until: u64) {
        let middle = since + (until - since) / 2;
        self.spans.pop();
        self.spans.extend([(middle + 1, until), (since, middle)]);
    }
}

/// Returns the newest events that match, as many as are read at once.
async fn newest(relay: &RelayClient, filter: &Filter) -> Result<Vec<Event>, RelayError> {
    let mut limit = EVENTS_MAX;
    while limit > 0 {
        match relay.newest(BYTES_MAX, vec![filter.clone().limit(limit)]).await {
            Err(RelayError::TooLarge { .. }) => limit /= 2,
            answer => return answer,
        }
    }
    Ok(Vec::new())
}

/// Most memory of these events.
const BYTES_MAX: usize = 16 << 20;

/// Most events in memory, unless one page of the relay has more.
const EVENTS_MAX: usize = 1000;
