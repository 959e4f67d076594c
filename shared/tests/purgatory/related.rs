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
    what_waits_behind_an_early_one_waits_behind_what_that_one_waits_behind
    a_thread_that_was_sent_from_its_end_is_one_level_deep
    a_related_event_waits_behind_all_that_it_refers_to
    a_related_event_ends_with_the_last_that_it_waits_behind
    what_may_have_left_meanwhile_is_absent
    what_was_here_and_has_gone_is_absent
    an_author_vanishes_whole_with_comments_on_their_own_pr
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
    let reading = p.purgatory.read_related(&related.id, &refers_to).await.unwrap();
    Hold {
        coordinates: BTreeSet::new(),
        behind: Some(Behind {
            refers_to,
            last_lease: reading.last_lease,
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
    let reading = p.purgatory.read_related(&comment.id, &ids([&pr])).await.unwrap();
    assert!(reading.is_any_here && reading.own.is_none());
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
    let reading = p.purgatory.read_related(&comment.id, &ids([&pr])).await.unwrap();
    assert_eq!(reading.own, Some(EntryStatus::Releasing));
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

async fn hold_early(p: &Fixture, related: &Event, refers_to: &[&Event]) -> HoldOutcome {
    let mut hold = behind(p, related, refers_to).await;
    hold.room = Room::Always;
    hold.behind.as_mut().unwrap().may_be_early = true;
    p.purgatory.hold(&hold).await.unwrap()
}

async fn serve(p: &Fixture, pr: &Event) {
    let leased = p.purgatory.mark_releasing(&[released(pr)], LONG).await.unwrap().leased;
    let settled = p.purgatory.settle(&pr.id, leased[0].lease, &Settlement::Served).await;
    assert!(settled.unwrap());
}

async fn entry(p: &Fixture, event: &Event) -> Option<Entry> {
    p.purgatory.entries(&ids([event])).await.unwrap().pop()
}

/// A client may send a reply, the comment that it replies to and the PR in any order.
async fn what_waits_behind_an_early_one_waits_behind_what_that_one_waits_behind(p: Fixture) {
    let (pr, comment, reply) = (pr(&Keys::generate()), comment(), comment());
    assert_eq!(hold_early(&p, &reply, &[&comment]).await, HoldOutcome::Held);
    assert_eq!(hold_early(&p, &comment, &[&pr]).await, HoldOutcome::Held);
    p.purgatory.hold(&offered(&pr)).await.unwrap();
    let entry = entry(&p, &reply).await.unwrap();
    assert_eq!(entry.waiting_for, format!("event {}", pr.id));
    assert_eq!(entry.after, ids([&pr, &comment]));

    serve(&p, &pr).await;

    // The reply is published behind the comment.
    let first = take(&p).await;
    assert_eq!(ids(first.iter().map(|leased| &leased.event)), ids([&comment]));
    let settled = p.purgatory.settle(&comment.id, first[0].lease, &Settlement::Served);
    assert!(settled.await.unwrap());
    assert_eq!(ids(take(&p).await.iter().map(|leased| &leased.event)), ids([&reply]));
}

/// Strangers sent such threads to any depth, and their end took all of it in one call, or failed for ever.
async fn a_thread_that_was_sent_from_its_end_is_one_level_deep(p: Fixture) {
    let pr = pr(&Keys::generate());
    let thread: Vec<Event> = (0..40).map(|_| comment()).collect();
    for (place, comment) in thread.iter().enumerate() {
        let refers_to = thread.get(place + 1).unwrap_or(&pr);
        assert_eq!(
            hold_early(&p, comment, &[refers_to]).await,
            HoldOutcome::Held,
            "{place}"
        );
    }
    // What the last one waits behind, all of them do for which there is a place, and none is missing but for that.
    let mut count = 0;
    for comment in &thread {
        let Some(entry) = entry(&p, comment).await else {
            continue;
        };
        assert_eq!(entry.waiting_for, format!("event {}", pr.id));
        count += 1;
    }
    assert_eq!(count, 24);

    let last = Hold {
        room: Room::Always,
        ..offered(&pr)
    };
    assert_eq!(p.purgatory.hold(&last).await.unwrap(), HoldOutcome::Held);
    p.purgatory.end(&ids([&pr])).await.unwrap();

    assert_eq!(p.purgatory.counts().await.unwrap().waiting, 0);
}

async fn a_related_event_waits_behind_all_that_it_refers_to(p: Fixture) {
    for served in [0, 1] {
        let prs = [pr(&Keys::generate()), pr(&Keys::generate())];
        let (comments, early) = ([comment(), comment()], comment());
        assert_eq!(hold_early(&p, &early, &[&prs[0], &prs[1]]).await, HoldOutcome::Held);
        for pr in &prs {
            assert_eq!(p.purgatory.hold(&offered(pr)).await.unwrap(), HoldOutcome::Held);
        }
        for comment in &comments {
            let outcome = hold_behind(&p, comment, &[&prs[0], &prs[1]]).await;
            assert_eq!(outcome, HoldOutcome::Held);
        }
        // One of the comments leaves by itself, and leaves nothing behind.
        p.purgatory.drop_entry(&comments[1].id).await.unwrap();

        p.purgatory.end(&ids([&prs[1 - served]])).await.unwrap();
        let entry = entry(&p, &comments[0]).await.unwrap();
        assert_eq!(entry.waiting_for, format!("event {}", prs[served].id));
        serve(&p, &prs[served]).await;

        let due = take(&p).await;
        let both = ids([&comments[0], &early]);
        assert_eq!(ids(due.iter().map(|leased| &leased.event)), both, "{served}");
        for leased in due {
            let settled = p.purgatory.settle(&leased.event.id, leased.lease, &Settlement::Served);
            assert!(settled.await.unwrap());
        }
    }

    // The relay does not take the one, and has the other.
    let (prs, comment) = ([pr(&Keys::generate()), pr(&Keys::generate())], comment());
    for pr in &prs {
        assert_eq!(p.purgatory.hold(&offered(pr)).await.unwrap(), HoldOutcome::Held);
    }
    let outcome = hold_behind(&p, &comment, &[&prs[0], &prs[1]]).await;
    assert_eq!(outcome, HoldOutcome::Held);
    let marked = p.purgatory.mark_releasing(&[released(&prs[0])], LONG).await.unwrap();
    let refused = Settlement::Stuck {
        after_secs: LONG,
        error: "blocked: no".to_owned(),
    };
    p.purgatory
        .settle(&prs[0].id, marked.leased[0].lease, &refused)
        .await
        .unwrap();
    serve(&p, &prs[1]).await;
    assert_eq!(ids(take(&p).await.iter().map(|leased| &leased.event)), ids([&comment]));
}

async fn a_related_event_ends_with_the_last_that_it_waits_behind(p: Fixture) {
    let (prs, comment) = ([pr(&Keys::generate()), pr(&Keys::generate())], comment());
    for pr in &prs {
        assert_eq!(p.purgatory.hold(&offered(pr)).await.unwrap(), HoldOutcome::Held);
    }
    let outcome = hold_behind(&p, &comment, &[&prs[0], &prs[1]]).await;
    assert_eq!(outcome, HoldOutcome::Held);

    for (pr, left) in prs.iter().zip([2, 0]) {
        p.purgatory.end(&ids([pr])).await.unwrap();
        assert_eq!(p.purgatory.counts().await.unwrap().waiting, left);
    }
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

/// It was here, on its way to the relay, when the purgatory was asked, and nothing was leased since.
async fn what_was_here_and_has_gone_is_absent(p: Fixture) {
    let (pr, comment) = (pr(&Keys::generate()), comment());
    let leased = p.purgatory.mark_releasing(&[released(&pr)], LONG).await.unwrap().leased;
    let mut hold = behind(&p, &comment, &[&pr]).await;
    hold.behind.as_mut().unwrap().may_be_early = true;
    let settled = p.purgatory.settle(&pr.id, leased[0].lease, &Settlement::Served);
    assert!(settled.await.unwrap());

    assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Absent);
}

/// They left with the PR while the pages of its author's events were counted, and others were skipped for them.
async fn an_author_vanishes_whole_with_comments_on_their_own_pr(p: Fixture) {
    let author = Keys::generate();
    let hold_always = async |hold: Hold| {
        let hold = Hold {
            room: Room::Always,
            ..hold
        };
        assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
    };
    let mut events = Vec::new();
    // More than a page, each PR with its comments right behind it.
    for at in 0..6 {
        let pr = event(&author, 1618, "unused", at);
        hold_always(offered(&pr)).await;
        events.push(pr.clone());
        for number in 0..15 {
            let comment = event(&author, COMMENT, "unused", 10 * number + at);
            hold_always(behind(&p, &comment, &[&pr]).await).await;
            events.push(comment);
        }
    }

    p.purgatory.vanish(&author.public_key(), LONG).await.unwrap();

    let left = p.purgatory.entries(&ids(&events)).await.unwrap();
    assert_eq!(left.len(), 0);
    assert_eq!(p.purgatory.counts().await.unwrap().waiting, 0);
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
    assert_eq!(strangers, 24);
    assert_eq!(fill(&owner).await, 8);
    let last = hold_always(by(&owner)).await;
    assert_eq!(last, HoldOutcome::Full(Limit::EntriesBehind));
}
