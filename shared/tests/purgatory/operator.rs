//! What an operator sees and does, on both stores.

use std::collections::BTreeSet;

use nostr::event::EventId;
use nostr::key::Keys;
use shared::purgatory::*;

use crate::fixture::*;

on_both_stores! {
    everything_is_listed_and_counted
    what_is_dropped_is_gone_and_its_repository_is_reconciled
    what_waits_for_a_dropped_event_is_due
    a_stuck_event_is_due_when_an_operator_wants_it
    the_pull_requests_of_a_repository_are_listed_whole
    the_latest_refusals_are_remembered
    decisions_add_up
}

async fn listed(purgatory: &Purgatory, index: InventoryIndex) -> (BTreeSet<EventId>, Vec<Placeholder>) {
    let (mut ids, mut placeholders) = (BTreeSet::new(), Vec::new());
    let mut cursor = Some("0".to_owned());
    while let Some(from) = cursor {
        let page = purgatory.list_page(index, &from).await.unwrap();
        ids.extend(page.event_ids);
        placeholders.extend(page.placeholders);
        cursor = page.next;
    }
    placeholders.sort();
    placeholders.dedup();
    (ids, placeholders)
}

async fn everything_is_listed_and_counted(fixture: Fixture) {
    let purgatory = &fixture.purgatory;
    let owner = Keys::generate();
    fixture.set_limits_of_one_repository();
    // More than a page.
    let states: Vec<_> = (1..200).map(|at| state(&Keys::generate(), at)).collect();
    for state in &states {
        let marked = purgatory.mark_releasing(&[release(state)], LONG).await.unwrap();
        assert_eq!(marked.leased.len(), 1);
    }
    let waiting = announcement(&owner, 1);
    purgatory.hold(&hold(&waiting, LONG)).await.unwrap();
    let awaited = EventId::from_hex(&"ab".repeat(32)).unwrap();
    let repository = coordinate(&owner, "r");
    purgatory
        .put_placeholder(&awaited, &repository, oid('c'), LONG, None)
        .await
        .unwrap();

    let (held, placeholders) = listed(purgatory, InventoryIndex::Waiting).await;
    let (going, none) = listed(purgatory, InventoryIndex::Releasing).await;
    let counts = purgatory.counts().await.unwrap();

    assert_eq!((going, none), (ids(&states), Vec::new()));
    assert_eq!(held, ids([&waiting]));
    let [placeholder] = &placeholders[..] else {
        panic!("{placeholders:?}")
    };
    assert_eq!((placeholder.event_id, placeholder.commit_oid), (awaited, oid('c')));
    assert_eq!((counts.waiting, counts.releasing, counts.placeholders), (1, 199, 1));
    assert!(
        counts.waiting_bytes > 200 && counts.dirty > 0 && counts.now > 0,
        "{counts:?}"
    );
}

async fn what_is_dropped_is_gone_and_its_repository_is_reconciled(fixture: Fixture) {
    let purgatory = &fixture.purgatory;
    let owner = Keys::generate();
    let [held, releasing] = [state(&owner, 1), state(&owner, 2)];
    purgatory.hold(&hold(&held, LONG)).await.unwrap();
    let marked = purgatory.mark_releasing(&[release(&releasing)], LONG).await.unwrap();
    assert_eq!(marked.leased.len(), 1);
    for (event, status) in [(&held, EntryStatus::Held), (&releasing, EntryStatus::Releasing)] {
        fixture.clear_dirty().await;

        assert_eq!(purgatory.drop_entry(&event.id).await.unwrap(), Some(status));

        assert_eq!(purgatory.drop_entry(&event.id).await.unwrap(), None);
        assert!(purgatory.entries(&ids([event])).await.unwrap().is_empty());
        assert_eq!(fixture.clear_dirty().await.len(), 1, "{status:?}");
    }
    let counts = purgatory.counts().await.unwrap();
    assert_eq!((counts.waiting, counts.waiting_bytes, counts.releasing), (0, 0, 0));
}

async fn what_waits_for_a_dropped_event_is_due(fixture: Fixture) {
    let purgatory = &fixture.purgatory;
    let owner = Keys::generate();
    let [first, second] = [announcement(&owner, 1), state(&owner, 1)];
    let first_leased = purgatory.mark_releasing(&[release(&first)], LONG).await.unwrap();
    assert_eq!(first_leased.leased.len(), 1);
    let after = Release {
        after: ids([&first]),
        ..release(&second)
    };
    let marked = purgatory.mark_releasing(&[after], LONG).await.unwrap();
    assert_eq!((marked.leased.len(), marked.waiting.len()), (0, 1));

    purgatory.drop_entry(&first.id).await.unwrap();

    let due = purgatory.take_due(9, LONG).await.unwrap();
    assert_eq!(
        due.iter().map(|leased| leased.event.id).collect::<BTreeSet<_>>(),
        ids([&second])
    );
}

async fn a_stuck_event_is_due_when_an_operator_wants_it(fixture: Fixture) {
    let purgatory = &fixture.purgatory;
    let event = state(&Keys::generate(), 1);
    let marked = purgatory.mark_releasing(&[release(&event)], LONG).await.unwrap();
    let stuck = Settlement::Stuck {
        after_secs: LONG,
        error: "invalid: no".to_owned(),
    };
    assert!(
        purgatory
            .settle(&event.id, marked.leased[0].lease, &stuck)
            .await
            .unwrap()
    );
    assert!(purgatory.take_due(9, LONG).await.unwrap().is_empty());

    assert!(purgatory.make_due(&event.id).await.unwrap());

    assert_eq!(purgatory.take_due(9, LONG).await.unwrap().len(), 1);
    let other = state(&Keys::generate(), 2);
    purgatory.hold(&hold(&other, LONG)).await.unwrap();
    assert!(!purgatory.make_due(&other.id).await.unwrap());
}

async fn the_pull_requests_of_a_repository_are_listed_whole(fixture: Fixture) {
    let purgatory = &fixture.purgatory;
    let at = coordinate(&Keys::generate(), "r");
    // More than a page.
    let offered: Vec<_> = (1..70).map(|n| event(&Keys::generate(), 1618, "unused", n)).collect();
    for event in &offered {
        let release = Release {
            coordinates: [at.clone()].into(),
            ..release(event)
        };
        let marked = purgatory.mark_releasing(&[release], LONG).await.unwrap();
        assert_eq!(marked.leased.len(), 1);
    }

    assert_eq!(purgatory.pull_requests(&at).await.unwrap(), ids(&offered));

    fixture.clear_dirty().await;
    let dropped = purgatory.drop_entry(&offered[0].id).await.unwrap();
    assert_eq!(dropped, Some(EntryStatus::Releasing));
    assert_eq!(purgatory.dirty_number(&at).await.unwrap(), None);
    assert_eq!(purgatory.pull_requests(&at).await.unwrap(), ids(&offered[1..]));
}

async fn the_latest_refusals_are_remembered(fixture: Fixture) {
    let purgatory = &fixture.purgatory;
    let refusal = |number: usize| NotedRefusal {
        request: format!("{number:06}"),
        what: "push".to_owned(),
        source: "IP4 203.0.113.7".to_owned(),
        reason: "é\u{1b}\n\"".repeat(1_000),
        ..NotedRefusal::default()
    };
    for number in 0..3_010 {
        purgatory.note_refusal(&refusal(number)).await.unwrap();
    }
    let numbers = |refusals: Vec<(u64, NotedRefusal)>| -> Vec<String> {
        refusals.into_iter().map(|(_, refusal)| refusal.request).collect()
    };

    let latest = purgatory.refusals(40).await.unwrap();
    let all = purgatory.refusals(usize::MAX).await.unwrap();

    assert!((40..100).contains(&latest.len()));
    assert!(latest[0].0 > 0 && latest[0].1.reason.starts_with("é\u{1b}\n\""));
    assert!(latest[0].1.reason.len() < 1_000, "as much as a person reads");
    assert_eq!(numbers(latest)[..2], ["003009", "003008"]);
    assert_eq!(numbers(all).len(), 3_000, "no more are kept");
}

async fn decisions_add_up(fixture: Fixture) {
    let purgatory = &fixture.purgatory;
    let names = ["state:held", "state:refused", "other:accepted"].map(str::to_owned);
    let counts = |first: u64, second: u64| [(names[0].clone(), first), (names[1].clone(), second)];

    purgatory.add_decisions(&counts(1, 1 << 40)).await.unwrap();
    purgatory.add_decisions(&counts(2, 1)).await.unwrap();

    assert_eq!(purgatory.decisions(&names).await.unwrap(), [3, (1 << 40) + 1, 0]);
}
