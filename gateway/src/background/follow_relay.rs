//! Marks dirty every repository that a commit of the relay could concern, and after each reconnection also for commits
//! that it may have missed.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::event::EventId;
use nostr::event::Kind;
use nostr::filter::Filter;
use nostr::types::Timestamp;
use shared::nip01::Deletion;
use shared::nip01::tag_values;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::PurgatoryError;
use shared::purgatory::Reading;
use shared::relay_client::RelayError;
use shared::relay_client::Signal;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::unbounded_channel;

use crate::background::RETRY_PAUSE;
use crate::background::live_work::Backlog;
use crate::background::live_work::MARK;
use crate::background::live_work::PAGE;
use crate::background::live_work::mark_repositories;
use crate::background::live_work::until_it_succeeds;
use crate::background::recheck::mark_dirty;
use crate::background::relay_history::RelayHistory;
use crate::command_error::causes;
use crate::logged::Repeats;
use crate::logged::logged;
use crate::reconcile::Reconciler;
use crate::reconcile::known_events::KnownEvent;

/// Follows the relay for ever.
pub(super) async fn follow_relay(reconciler: &Reconciler) {
    let (missed, catching_up) = unbounded_channel();
    let backlog = Backlog::default();
    tokio::join!(
        follow(reconciler, missed, &backlog),
        catch_up(reconciler, catching_up),
        backlog.mark(reconciler),
    );
}

/// Marks dirty for what the relay commits while it is connected, and reports the time from which on commits may have
/// been missed.
async fn follow(reconciler: &Reconciler, missed: UnboundedSender<u64>, backlog: &Backlog) {
    let mut subscription = reconciler.loader.relay.subscribe(vec![followed()]);
    let mut caught_up_until = Timestamp::now();
    loop {
        let signal = subscription.next().await;
        let since = caught_up_until.as_secs().saturating_sub(CATCH_UP_SECS);
        caught_up_until = Timestamp::now();
        match signal {
            // An event may be dated earlier than it is committed.
            Signal::Connected => drop(missed.send(since)),
            Signal::Event(event) => {
                let mut changed = concerned(reconciler, &event).await;
                if let Some(first_later) = changed.iter().nth(AT_ONCE).cloned() {
                    let later = changed.split_off(&first_later);
                    later.iter().for_each(|coordinate| reconciler.changes.note(coordinate));
                    backlog.add(later);
                }
                mark_dirty(reconciler, &changed).await;
            }
        }
    }
}

/// Marks dirty for what the relay has stored meanwhile, concurrently with live commits, which do not wait for it.
async fn catch_up(reconciler: &Reconciler, mut missed: UnboundedReceiver<u64>) {
    while let Some(mut since) = missed.recv().await {
        while let Ok(another) = missed.try_recv() {
            since = since.min(another);
        }
        let mut history = RelayHistory::since(followed(), since);
        let repeats = Repeats::default();
        while let Err(error) = mark_some(reconciler, &mut history).await {
            if repeats.is_due(causes(&error)) {
                tracing::warn!(error = logged(&error), "cannot catch up with the relay, will try again");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Marks the events of a history, up to its end or an error; the next call continues there.
async fn mark_some(reconciler: &Reconciler, history: &mut RelayHistory) -> Result<(), RelayError> {
    while let Some(events) = history.next(&reconciler.loader.relay).await? {
        let mut changed = BTreeSet::new();
        for event in &events {
            changed.extend(concerned(reconciler, event).await);
        }
        let changed: Vec<_> = changed.into_iter().collect();
        for page in changed.chunks(PAGE) {
            // Here until it succeeds: asked again about these events, nothing would be known of what they end.
            until_it_succeeds(MARK, || mark_repositories(reconciler, page)).await;
        }
        history.advance();
    }
    Ok(())
}

fn followed() -> Filter {
    Filter::new().kinds([nip34::ANNOUNCEMENT, nip34::STATE, nip34::DELETION, nip34::VANISH].map(Kind::from_u16))
}

/// Returns the coordinates that an event concerns, to be marked: none if this gateway has published it, since it
/// counted as served before. To be asked once for each event: what it ends is forgotten.
async fn concerned(reconciler: &Reconciler, event: &Event) -> BTreeSet<Coordinate> {
    if reconciler.publisher.is_own(&event.id) {
        return BTreeSet::new();
    }
    match event.kind.as_u16() {
        nip34::ANNOUNCEMENT | nip34::STATE => {
            let identifier = event.tags.identifier().and_then(|d| d.parse().ok());
            identifier.map(|identifier| of(event, identifier)).into_iter().collect()
        }
        // Anybody may ask other servers, as often as they like.
        nip34::VANISH if !reconciler.loader.service.is_asked_to_forget(event) => BTreeSet::new(),
        nip34::VANISH => {
            forget_waiting(reconciler, event).await;
            reconciler.pull_request_events.doubt_deleted(event);
            let asked_at = event.created_at.as_secs();
            let is_ended = |_: &EventId, known: &KnownEvent| known.created_at <= asked_at;
            reconciler.known_events.take(&event.pubkey, is_ended)
        }
        nip34::DELETION => {
            reconciler.pull_request_events.doubt_deleted(event);
            deleted(reconciler, event).await
        }
        _ => BTreeSet::new(),
    }
}

fn of(event: &Event, identifier: Identifier) -> Coordinate {
    Coordinate {
        owner: event.pubkey,
        identifier,
    }
}

/// Ends what waits of an author who vanishes: Redis may not have answered the write policy.
async fn forget_waiting(reconciler: &Reconciler, request: &Event) {
    let vanish = || async {
        let purgatory = &reconciler.loader.purgatory;
        match purgatory.vanish(&request.pubkey, request.created_at.as_secs()).await {
            // One entry that a script cannot read must not keep back all that is committed afterwards.
            Err(error @ (PurgatoryError::Script { .. } | PurgatoryError::Protocol { .. })) => {
                tracing::error!(author = %request.pubkey, error = logged(&error), "cannot end what an author has waiting");
                Ok(0)
            }
            answer => answer,
        }
    };
    until_it_succeeds("end what an author has waiting", vanish).await;
}

/// Returns the coordinates that a deletion request of their owner may change: those that something is known of. Anybody
/// may ask to delete what never was.
async fn deleted(reconciler: &Reconciler, request: &Event) -> BTreeSet<Coordinate> {
    let ids: BTreeSet<_> = tag_values(request, "e")
        .filter_map(|id| EventId::from_hex(id).ok())
        .collect();
    let addresses = Deletion::requested_by(request).map_or_else(BTreeSet::new, |deletion| deletion.addresses);
    let identifiers: BTreeSet<_> = addresses.into_iter().map(|(_, identifier)| identifier).collect();
    let asked_at = request.created_at.as_secs();
    let mut found = reconciler.known_events.take(&request.pubkey, |event_id, known| {
        ids.contains(event_id) || (known.created_at <= asked_at && identifiers.contains(&known.identifier))
    });
    let mut absent = BTreeSet::new();
    for coordinate in identifiers.into_iter().map(|identifier| of(request, identifier)) {
        match reconciler.repositories.at(&coordinate).may_exist().await {
            true => found.insert(coordinate),
            false => absent.insert(coordinate),
        };
    }
    if absent.is_empty() {
        return found;
    }
    // Its owner may be a maintainer of repositories of others: they notice when they are reconciled.
    let listing_max = absent.len() * Reading::LISTED_BY_MAX;
    let listing = reconciler.loader.purgatory.listing(&absent, listing_max).await;
    // Without Redis, marking waits for it anyway.
    found.extend(listing.unwrap_or(absent));
    found
}

/// How far before its last event or connection the relay is read again after a reconnection.
const CATCH_UP_SECS: u64 = 48 * 3600;

/// Coordinates of one event that are marked before the next event is read: as many as most requests name. The others
/// wait for their turn, because a small request may name hundreds.
const AT_ONCE: usize = 4;
