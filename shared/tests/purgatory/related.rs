//! Related events (a status, a comment) wait behind the held event that they refer to, are released behind it and end
//! with it.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::key::Keys;
use shared::nip01::Deletion;
use shared::purgatory::*;

use crate::fixture::*;

on_both_stores! {
    a_related_event_is_released_when_what_it_waits_behind_has_left
    a_related_event_ends_with_what_it_waits_behind
    a_related_event_is_deleted_by_its_own_author
    a_related_event_waits_behind_what_an_earlier_one_waits_behind
    an_early_related_event_waits_for_its_pr_and_ends_without_it
    what_may_have_left_meanwhile_is_absent
    related_events_have_limits
}

const COMMENT: u16 = 1111;

/// A PR of somebody.
fn pr(author: &Keys) -> Event {
    event(author, 1618, "unused", 1)
}

fn comment() -> Event {
    event(&Keys::generate(), COMMENT, "unused", 1)
}

fn offered(pr: &Event) -> Hold {
    Hold {
        coordinates: coordinates(&["a"]),
        ..hold(pr, LONG)
    }
}

fn released(pr: &Event) -> Release {
    Release {
        coordinates: coordinates(&["a"]),
        ..release(pr)
    }
}

/// Holds a related event behind what is here of these.
async fn hold_behind(p: &Fixture, related: &Event, refers_to: &[&Event]) -> HoldOutcome {
    let behind = behind(p, related, refers_to).await;
    p.purgatory.hold(&behind).await.unwrap()
}

async fn behind(p: &Fixture, related: &Event, refers_to: &[&Event]) -> Hold {
    let refers_to = ids(refers_to.iter().copied());
    let standing = p.purgatory.standing(&related.id, &refers_to).await.unwrap();
    Hold {
        coordinates: BTreeSet::new(),
        behind: Some(Behind {
            refers_to,
            last_lease: standing.last_lease,
            may_be_early: false,
        }),
        ..hold(related, 1)
    }
}

async fn status(p: &Fixture, event: &Event) -> Option<EntryStatus> {
    let entries = p.purgatory.entries(&ids([event])).await.unwrap();
    entries.first().map(|entry| entry.status)
}

async fn take(p: &Fixture) -> Vec<Leased> {
    p.purgatory.take_due(9, LONG).await.unwrap()
}

async fn a_related_event_is_released_when_what_it_waits_behind_has_left(p: Fixture) {
    let (pr, comment) = (pr(&Keys::generate()), comment());
    p.purgatory.hold(&offered(&pr)).await.unwrap();
    let standing = p.purgatory.standing(&comment.id, &ids([&pr])).await.unwrap();
    assert!(standing.is_any_here && standing.own.is_none());
    assert_eq!(hold_behind(&p, &comment, &[&pr]).await, HoldOutcome::Held);
    assert_eq!(
        hold_behind(&p, &comment, &[&pr]).await,
        HoldOutcome::AlreadyHeld(EntryStatus::Held)
    );
    let entry = p.purgatory.entries(&ids([&comment])).await.unwrap().remove(0);
    assert_eq!(entry.after, ids([&pr]));
    assert_eq!(entry.waiting_for, format!("event {}", pr.id));
    // It has the deadline of the PR, also when its own time is over.
    assert_eq!(p.purgatory.counts().await.unwrap().waiting, 2);
    p.let_a_second_pass().await;
    p.purgatory.mark_overdue(9, LONG).await.unwrap();
    assert_eq!(status(&p, &comment).await, Some(EntryStatus::Held));

    let leased = p.purgatory.mark_releasing(&[released(&pr)], LONG).await.unwrap().leased;
    assert_eq!(status(&p, &comment).await, Some(EntryStatus::Held));
    let late = self::comment();
    assert_eq!(
        hold_behind(&p, &late, &[&pr]).await,
        HoldOutcome::Held,
        "it is releasing"
    );
    assert!(take(&p).await.is_empty());
    let settled = p.purgatory.settle(&pr.id, leased[0].lease, &Settlement::Served).await;
    assert!(settled.unwrap());

    let due: BTreeSet<_> = take(&p).await.into_iter().map(|leased| leased.event.id).collect();
    assert_eq!(due, ids([&comment, &late]));
    let standing = p.purgatory.standing(&comment.id, &ids([&pr])).await.unwrap();
    assert_eq!(standing.own, Some(EntryStatus::Releasing));
    assert_eq!(p.purgatory.counts().await.unwrap().waiting, 0);
}

async fn a_related_event_ends_with_what_it_waits_behind(p: Fixture) {
    let author = Keys::generate();
    let deletion = |pr: &Event| Deletion {
        author: author.public_key(),
        created_at: 5,
        event_ids: ids([pr]),
        addresses: BTreeSet::new(),
    };
    for end in ["delete", "end", "drop", "dropped by the relay", "vanish"] {
        let (pr, comment) = (pr(&author), comment());
        p.purgatory.hold(&offered(&pr)).await.unwrap();
        assert_eq!(hold_behind(&p, &comment, &[&pr]).await, HoldOutcome::Held, "{end}");
        match end {
            "delete" => assert_eq!(p.purgatory.delete(&deletion(&pr)).await.unwrap(), 1),
            "end" => assert_eq!(p.purgatory.end(&ids([&pr])).await.unwrap(), 1),
            "drop" => assert!(p.purgatory.drop_entry(&pr.id).await.unwrap().is_some()),
            "vanish" => assert_eq!(p.purgatory.vanish(&author.public_key(), 5).await.unwrap(), 1),
            _ => {
                let marked = p.purgatory.mark_releasing(&[released(&pr)], LONG).await.unwrap();
                let lease = marked.leased[0].lease;
                assert!(p.purgatory.settle(&pr.id, lease, &Settlement::Dropped).await.unwrap());
            }
        }

        assert_eq!(status(&p, &comment).await, None, "{end}");
        assert_eq!(p.purgatory.counts().await.unwrap().waiting, 0, "{end}");
    }
}

async fn a_related_event_is_deleted_by_its_own_author(p: Fixture) {
    let (pr, author) = (pr(&Keys::generate()), Keys::generate());
    let comments = [1, 2].map(|at| event(&author, COMMENT, "unused", at));
    p.purgatory.hold(&offered(&pr)).await.unwrap();
    for comment in &comments {
        assert_eq!(hold_behind(&p, comment, &[&pr]).await, HoldOutcome::Held);
    }
    let deletion = Deletion {
        author: author.public_key(),
        created_at: 5,
        event_ids: ids([&comments[0]]),
        addresses: BTreeSet::new(),
    };

    assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), 1);

    assert_eq!(status(&p, &comments[0]).await, None);
    assert_eq!(status(&p, &comments[1]).await, Some(EntryStatus::Held));
    assert_eq!(status(&p, &pr).await, Some(EntryStatus::Held));
    assert_eq!(hold_behind(&p, &comments[0], &[&pr]).await, HoldOutcome::Deleted);
}

async fn a_related_event_waits_behind_what_an_earlier_one_waits_behind(p: Fixture) {
    let (pr, comment, reply) = (pr(&Keys::generate()), comment(), comment());
    p.purgatory.hold(&offered(&pr)).await.unwrap();
    assert_eq!(hold_behind(&p, &comment, &[&pr]).await, HoldOutcome::Held);
    assert_eq!(hold_behind(&p, &reply, &[&comment]).await, HoldOutcome::Held);
    let leased = p.purgatory.mark_releasing(&[released(&pr)], LONG).await.unwrap().leased;
    p.purgatory
        .settle(&pr.id, leased[0].lease, &Settlement::Served)
        .await
        .unwrap();

    let first = take(&p).await;
    assert_eq!(ids(first.iter().map(|leased| &leased.event)), ids([&comment]));
    // One that arrives now waits behind the comment itself.
    let late = self::comment();
    assert_eq!(hold_behind(&p, &late, &[&comment]).await, HoldOutcome::Held);
    p.purgatory
        .settle(&comment.id, first[0].lease, &Settlement::Served)
        .await
        .unwrap();

    let rest: BTreeSet<_> = take(&p).await.into_iter().map(|leased| leased.event.id).collect();
    assert_eq!(rest, ids([&reply, &late]));
}

async fn an_early_related_event_waits_for_its_pr_and_ends_without_it(p: Fixture) {
    let prs = [pr(&Keys::generate()), pr(&Keys::generate())];
    let early = [comment(), comment()];
    for (comment, pr) in early.iter().zip(&prs) {
        let mut hold = behind(&p, comment, &[pr]).await;
        assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Absent);
        hold.behind.as_mut().unwrap().may_be_early = true;
        assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
    }
    p.purgatory.hold(&offered(&prs[0])).await.unwrap();
    p.let_a_second_pass().await;

    p.purgatory.mark_overdue(9, LONG).await.unwrap();

    assert_eq!(status(&p, &early[0]).await, Some(EntryStatus::Held));
    assert_eq!(status(&p, &early[1]).await, None);
    p.purgatory.end(&ids([&prs[0]])).await.unwrap();
    assert_eq!(status(&p, &early[0]).await, None);
}

/// The relay did not have the PR when it was asked, and the purgatory does not have it any more: it may be served.
async fn what_may_have_left_meanwhile_is_absent(p: Fixture) {
    let (pr, comment) = (pr(&Keys::generate()), comment());
    let mut hold = behind(&p, &comment, &[&pr]).await;
    hold.behind.as_mut().unwrap().may_be_early = true;
    let leased = p.purgatory.mark_releasing(&[released(&pr)], LONG).await.unwrap().leased;
    p.purgatory
        .settle(&pr.id, leased[0].lease, &Settlement::Served)
        .await
        .unwrap();

    assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Absent);
}

async fn related_events_have_limits(p: Fixture) {
    let owner = Keys::generate();
    let pr = pr(&owner);
    p.purgatory.hold(&offered(&pr)).await.unwrap();
    // Each author pays for their own, by the same limits as for everything else.
    let author = Keys::generate();
    let by = |keys: &Keys| event(keys, COMMENT, "unused", 1);
    for _ in 0..LIMITS.entries_per_author_max {
        assert_eq!(hold_behind(&p, &by(&author), &[&pr]).await, HoldOutcome::Held);
    }
    assert_eq!(
        hold_behind(&p, &by(&author), &[&pr]).await,
        HoldOutcome::Full(Limit::EntriesPerAuthor)
    );
    // Beyond those limits there are the places behind the PR: some of each stranger, some of all, and the owner's.
    let hold_always = async |related: Event| {
        let hold = Hold {
            room: Room::Always,
            ..behind(&p, &related, &[&pr]).await
        };
        p.purgatory.hold(&hold).await.unwrap()
    };
    let fill = async |keys: &Keys| {
        let mut count = 0;
        while hold_always(by(keys)).await == HoldOutcome::Held {
            count += 1;
        }
        count
    };
    assert_eq!(fill(&author).await, 8 - LIMITS.entries_per_author_max);
    let mut strangers = 8;
    while let more @ 1.. = fill(&Keys::generate()).await {
        strangers += more;
    }
    assert_eq!(strangers, 32);
    assert_eq!(fill(&owner).await, 16);
    let last = hold_always(by(&owner)).await;
    assert_eq!(last, HoldOutcome::Full(Limit::EntriesBehind));
}
