//! Requests of a client (NIP-01, NIP-45): looks up what is stored, sends it and opens subscriptions.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future;
use nostr::event::EventId;
use nostr::filter::Filter;
use nostr_database::error::Error as DatabaseError;
use serde_json::Value;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::client_message::FilterRequest;
use crate::connection::Client;
use crate::connection::Relay;
use crate::connection::UNREADABLE;
use crate::event_store::PAGE_EVENTS;
use crate::look_up_cost::index_ranges;
use crate::outbound::Gone;
use crate::shares::Occupied;
use crate::shares::TooManyFilters;
use crate::subscriptions::OpenSubscription;

impl Client {
    /// Sends stored events, then opens the subscription. Events that are stored in the meantime wait in `served`.
    pub(super) async fn subscribe(&mut self, request: FilterRequest) -> Result<(), Gone> {
        let FilterRequest {
            subscription,
            filters,
            bytes,
        } = request;
        // A request replaces the subscription of the same id, even if it fails.
        self.subscriptions.remove(&subscription);
        let subscriptions_max = self.relay.limits.subscriptions_max;
        if self.subscriptions.len() >= subscriptions_max {
            let reason = format!("error: too many subscriptions, at most {subscriptions_max}");
            return self.close(&subscription, &reason).await;
        }
        let occupied = match self.occupy(bytes, &filters) {
            Ok(occupied) => occupied,
            Err(too_many) => return self.close(&subscription, &format!("error: {too_many}")).await,
        };
        // Further requests of this address wait, and delay no other address.
        let permit = self.permit().await?;
        let mut sent = HashSet::new();
        // Each waits for a thread: those of this host wait together. Others have one at a time for each share.
        for some in filters.chunks(if self.is_foreign { 1 } else { LOOKUPS_AT_ONCE }) {
            for looked_up in future::join_all(some.iter().map(|filter| self.look_up(filter, &permit))).await {
                match self.send_stored(&subscription, looked_up?, &mut sent).await? {
                    Ok(()) if self.is_foreign && sent.len() > self.relay.limits.results_max => {
                        let max = self.relay.limits.results_max;
                        let reason = format!("error: more than {max} events match: use fewer filters or lower limits");
                        return self.close(&subscription, &reason).await;
                    }
                    Ok(()) => {}
                    Err(error) => {
                        self.log(&error);
                        return self.close(&subscription, UNREADABLE).await;
                    }
                }
            }
        }
        let last_batch = self.relay.batches.borrow().begun;
        self.send(json!(["EOSE", subscription])).await?;
        let open = OpenSubscription {
            filters,
            sent,
            last_batch,
            _occupied: occupied,
        };
        self.subscriptions.insert(subscription, open);
        self.keeps_sent = true;
        Ok(())
    }

    /// Takes the right to open a subscription; of this host itself none is needed.
    fn occupy(&self, bytes: usize, filters: &[Filter]) -> Result<Option<Occupied>, TooManyFilters> {
        if !self.is_foreign {
            return Ok(None);
        }
        let ranges_max = self.relay.limits.ranges_max;
        if filters.iter().map(index_ranges).fold(0, usize::saturating_add) > ranges_max {
            return Err(TooManyFilters::Combinations(ranges_max));
        }
        self.share.occupy(bytes, filters.len()).map(Some)
    }

    /// Waits until the address of this client may have another request answered.
    pub(super) async fn permit(&self) -> Result<RequestPermit, Gone> {
        let requests = Arc::clone(&self.share.of_address.requests);
        requests.acquire_owned().await.map(Arc::new).map_err(|_| Gone)
    }

    /// Looks something up. The database cannot be interrupted: if the client leaves meanwhile, its permit lasts as
    /// long.
    async fn ask<T, F>(&self, permit: &RequestPermit, look_up: impl FnOnce(Arc<Relay>) -> F) -> Result<T, Gone>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (looked_up, permit) = (look_up(Arc::clone(&self.relay)), Arc::clone(permit));
        let asked = tokio::spawn(async move {
            let found = looked_up.await;
            drop(permit);
            found
        });
        asked.await.map_err(|_| Gone)
    }

    async fn look_up<'f>(&self, filter: &'f Filter, permit: &'f RequestPermit) -> Result<LookedUp<'f>, Gone> {
        let limit_max = self.relay.limits.limit_max;
        let limit = filter.limit.map_or(limit_max, |limit| limit.min(limit_max));
        let ids = self.newest(filter, limit, permit).await?;
        Ok(LookedUp {
            filter,
            permit,
            limit,
            ids,
        })
    }

    async fn newest(&self, filter: &Filter, limit: usize, permit: &RequestPermit) -> Result<FoundIds, Gone> {
        let filter = filter.clone();
        self.ask(permit, |relay| async move { relay.store.newest(&filter, limit).await })
            .await
    }

    /// Sends the stored events that match a filter, in pages: at most one page waits for a slow client.
    async fn send_stored(
        &self,
        subscription: &str,
        looked_up: LookedUp<'_>,
        sent: &mut HashSet<EventId>,
    ) -> Result<Result<(), DatabaseError>, Gone> {
        let LookedUp {
            filter,
            permit,
            limit,
            mut ids,
        } = looked_up;
        let subscription = Value::from(subscription);
        loop {
            let mut unsent = match ids {
                Ok(ids) => ids,
                Err(error) => return Ok(Err(error)),
            };
            let was_full = unsent.len() == limit;
            unsent.retain(|id| !sent.contains(id));
            let mut is_short = false;
            for asked in unsent.chunks(PAGE_EVENTS) {
                let page = match self.relay.store.page(asked).await {
                    Ok(page) => page,
                    Err(error) => return Ok(Err(error)),
                };
                is_short |= page.len() < asked.len();
                for (id, json) in page {
                    sent.insert(id);
                    let message = format!(r#"["EVENT",{subscription},{json}]"#);
                    self.outbound.send(message).await?;
                }
            }
            // Events may have been deleted meanwhile, with older ones in their place: only a short answer means that
            // there are no more.
            if !(was_full && is_short) {
                return Ok(Ok(()));
            }
            ids = self.newest(filter, limit, permit).await?;
        }
    }

    pub(super) async fn count(&self, request: FilterRequest) -> Result<(), Gone> {
        let FilterRequest {
            subscription,
            filters,
            bytes,
        } = request;
        // It may wait as long as others of its address read slowly.
        let _occupied = match self.occupy(bytes, &filters) {
            Ok(occupied) => occupied,
            Err(too_many) => return self.close(&subscription, &format!("error: {too_many}")).await,
        };
        let permit = self.permit().await?;
        let count_max = self.relay.limits.count_max;
        let counted = self.ask(
            &permit,
            |relay| async move { relay.store.count(filters, count_max).await },
        );
        match counted.await? {
            // NIP-45
            Ok(count) if count == count_max => {
                let count = json!({ "count": count, "approximate": true });
                self.send(json!(["COUNT", subscription, count])).await
            }
            Ok(count) => self.send(json!(["COUNT", subscription, { "count": count }])).await,
            Err(error) => {
                self.log(&error);
                self.close(&subscription, UNREADABLE).await
            }
        }
    }
}

struct LookedUp<'f> {
    filter: &'f Filter,
    permit: &'f RequestPermit,
    limit: usize,
    /// The newest, at most so many.
    ids: FoundIds,
}

/// The right of an address to have a request answered.
type RequestPermit = Arc<OwnedSemaphorePermit>;
type FoundIds = Result<Vec<EventId>, DatabaseError>;

/// Filters of one request that are looked up at the same time.
const LOOKUPS_AT_ONCE: usize = 8;
