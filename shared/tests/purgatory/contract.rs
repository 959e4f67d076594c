//! What every store of the purgatory promises, one fact a test, each run on both.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use nostr::key::Keys;
use shared::nip01::Deletion;
use shared::nip34::Coordinate;
use shared::purgatory::*;
use tokio::time::timeout;

use crate::fixture::*;

/// Makes a test on each store out of each function, and counts nothing twice: one that is not listed is dead code.
macro_rules! on_both_stores {
    ($($fact:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(crate::fixture::Fixture::memory()).await;
            })*
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(crate::fixture::Fixture::redis().await).await;
            })*
        }
    };
}

on_both_stores! {
    a_held_event_is_read_whole_and_its_coordinate_is_dirty
    an_event_held_again_keeps_its_deadline_and_raises_the_dirty_number
    what_is_sent_again_is_not_reconciled_again
    an_event_held_again_after_its_deadline_has_a_fresh_one
    a_sleeping_announcement_held_again_wakes_with_a_fresh_deadline
    of_one_coordinate_only_the_newest_announcement_is_held
    of_two_announcements_of_one_second_the_lower_id_wins
    times_that_no_float_can_hold_are_compared_exactly
    an_announcement_takes_a_sleeping_ones_place
    a_leaving_announcement_is_not_touched_by_a_newer_one
    announcements_of_other_coordinates_stand_side_by_side
    states_of_one_author_wait_side_by_side
    holding_extends_what_it_lists_and_nothing_else
    a_repeated_hold_extends_nothing
    one_author_cannot_hold_more_than_the_limit
    all_authors_cannot_hold_more_than_the_limit
    one_source_cannot_hold_more_than_the_limit
    one_event_cannot_have_more_bytes_than_the_limit
    one_author_cannot_hold_more_bytes_than_the_limit
    one_source_cannot_hold_more_bytes_than_the_limit
    all_together_cannot_hold_more_bytes_than_the_limit
    bytes_are_counted_once_however_often_an_entry_is_extended
    strangers_take_nothing_of_an_authors_share_of_a_repository
    one_author_cannot_have_more_of_a_repository_than_the_limit
    a_replacing_announcement_fits_where_the_old_one_was
    what_was_complete_before_a_loss_is_held_beyond_every_limit
    releasing_entries_count_for_the_limits_until_they_have_left
    releasing_entries_count_for_their_source_and_among_all
    of_one_repository_so_many_announcements_are_here_at_once
    what_is_ordered_after_another_is_put_off_and_nobodys_until_that_has_left
    a_pr_is_read_only_by_its_id_and_looked_at_by_each_of_its_repositories
    what_happens_to_a_repository_has_all_its_prs_looked_at_and_a_new_one_only_itself
    what_happens_to_a_pr_while_it_is_looked_at_has_it_looked_at_again
    a_pr_that_could_not_be_installed_is_looked_at_again_after_its_pause
    what_is_staged_is_looked_at_until_nothing_is
    more_prs_than_a_page_are_looked_at_page_by_page
    identifiers_with_odd_characters_are_kept_apart
    a_dirty_mark_is_cleared_only_with_its_last_number
    dirty_coordinates_are_listed_oldest_change_first
    what_is_dirty_by_some_changes_is_counted
    what_is_overdue_is_offered_again_only_after_a_while
    an_overdue_placeholder_is_looked_at
    releasing_writes_an_event_that_was_never_held
    releasing_keeps_what_only_the_held_entry_knew
    a_releasing_entry_is_neither_overdue_nor_expired_nor_ended_nor_extended
    what_is_leased_is_nobody_elses_until_the_lease_runs_out
    only_the_current_lease_settles
    what_is_to_be_retried_later_is_not_marked_again_before
    a_stuck_entry_says_why_and_is_taken_when_its_time_comes
    an_entry_that_goes_makes_its_coordinates_dirty_only_if_it_is_dropped
    what_is_given_back_is_due_at_once_as_it_was
    what_is_ordered_after_the_callers_own_is_leased_with_it
    what_is_ordered_after_somebody_elses_waits_until_that_has_left
    what_waits_for_a_leaving_entry_is_taken_as_soon_as_that_has_left
    of_what_is_due_no_more_is_taken_than_asked_for
    no_two_publishers_take_the_same_entry
    extending_never_shortens
    extending_wakes_a_sleeping_announcement_for_just_so_long
    nothing_expires_before_its_deadline
    an_expired_entry_goes_or_sleeps
    a_sleeping_entry_can_only_go
    ended_entries_are_gone
    a_deletion_removes_its_authors_events_in_any_status
    a_deletion_touches_nobody_elses_events
    a_deletion_by_address_spares_later_versions
    what_is_more_than_a_page_is_done_whole
    many_coordinates_are_marked_and_listed_by_pages
    an_author_vanishes_with_what_is_waiting_and_stays_away
    a_deleted_event_is_not_held_again
    a_deleted_event_is_not_marked_releasing
    notes_are_kept_where_there_is_an_entry
    commits_for_one_event_wait_beside_each_other
    a_placeholder_is_dropped_only_with_its_commit
    placeholders_have_a_limit
    placeholders_of_one_address_have_a_limit
    what_is_pending_is_told
    entries_are_read_by_their_ids
    whatever_waits_can_be_marked_dirty_at_once
    what_moves_while_everything_is_marked_dirty_hides_nothing
    what_is_served_while_its_author_vanishes_hides_nothing
    neither_overdue_placeholders_nor_overdue_entries_starve_the_others
    an_epoch_that_has_begun_goes_on
    holding_and_releasing_wake
    an_entry_that_goes_wakes_only_for_what_is_ordered_after_it
    a_wake_up_that_nobody_waited_for_is_not_lost
    spans_beyond_all_bounds_are_cut
    concurrent_holds_leave_one_announcement
}

async fn a_held_event_is_read_whole_and_its_coordinate_is_dirty(p: Fixture) {
    let author = Keys::generate();
    let event = announcement(&author, 10);

    let outcome = p.purgatory.hold(&hold(&event, 60)).await.unwrap();

    assert_eq!(outcome, HoldOutcome::Held);
    let reading = p.read(&["repo", "other"]).await;
    let entry = &reading.entries[0];
    assert_eq!(entry.event.as_json(), event.as_json());
    assert_eq!(
        *entry,
        Entry {
            coordinates: home(&event),
            event: event.into(),
            status: EntryStatus::Held,
            source: "IP4 203.0.113.7".to_owned(),
            held_since: entry.held_since,
            deadline: entry.held_since + 60,
            waiting_for: String::new(),
            release_error: String::new(),
            releasing_since: None,
            after: ids([]),
        }
    );
    assert!((reading.now - 5..=reading.now).contains(&entry.held_since));
    assert_eq!(reading.entries.len(), 1);
    let dirty: Vec<_> = reading.dirty.into_keys().collect();
    assert_eq!(dirty, [coordinate(&author, "repo")]);
    assert_eq!(p.read(&["other"]).await.entries, []);
}

async fn an_event_held_again_keeps_its_deadline_and_raises_the_dirty_number(p: Fixture) {
    let author = Keys::generate();
    let event = state(&author, 10);
    p.purgatory.hold(&hold(&event, 60)).await.unwrap();
    let before = p.read(&["repo"]).await;

    let outcome = p.purgatory.hold(&hold(&event, LONG)).await.unwrap();

    assert_eq!(outcome, HoldOutcome::AlreadyHeld(EntryStatus::Held));
    let after = p.read(&["repo"]).await;
    assert_eq!(after.entries, before.entries);
    let repository = coordinate(&author, "repo");
    assert!(after.dirty[&repository] > before.dirty[&repository]);
}

/// Strangers kept the worker busy with one PR, in all repositories that it names.
async fn what_is_sent_again_is_not_reconciled_again(p: Fixture) {
    let (event, at) = (
        event(&Keys::generate(), 1618, "unused", 1),
        coordinate(&Keys::generate(), "repo"),
    );
    let hold = Hold {
        coordinates: [at.clone()].into(),
        ..hold(&event, LONG)
    };
    assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
    let unreconciled = p.purgatory.unreconciled_page(&at).await.unwrap();
    assert_eq!(unreconciled.event_ids(), ids([&event]));
    p.purgatory
        .note_reconciled(&at, &unreconciled, &BTreeMap::new())
        .await
        .unwrap();

    let again = p.purgatory.hold(&hold).await.unwrap();

    assert_eq!(again, HoldOutcome::AlreadyHeld(EntryStatus::Held));
    assert!(p.purgatory.unreconciled_page(&at).await.unwrap().event_ids().is_empty());
}

/// It heard OK, and was gone at the next look.
async fn an_event_held_again_after_its_deadline_has_a_fresh_one(p: Fixture) {
    let author = Keys::generate();
    let [event, other] = [1, 2].map(|at| state(&author, at));
    for event in [&event, &other] {
        p.purgatory.hold(&hold(event, 0)).await.unwrap();
    }

    let again = Hold {
        extend: ids([&other]),
        ..hold(&event, 60)
    };
    let outcome = p.purgatory.hold(&again).await.unwrap();

    assert_eq!(outcome, HoldOutcome::AlreadyHeld(EntryStatus::Held));
    for event in [&event, &other] {
        assert!(!p.purgatory.expire(&event.id, Expiry::Gone).await.unwrap());
    }
    assert_eq!(p.read(&["repo"]).await.entries.len(), 2);
}

async fn a_sleeping_announcement_held_again_wakes_with_a_fresh_deadline(p: Fixture) {
    let author = Keys::generate();
    let [event, state] = [announcement(&author, 10), state(&author, 10)];
    for event in [&event, &state] {
        p.purgatory.hold(&hold(event, 0)).await.unwrap();
    }
    let sleep = Expiry::Sleep { secs: LONG };
    assert!(p.purgatory.expire(&event.id, sleep).await.unwrap());

    let again = Hold {
        extend: ids([&state]),
        ..hold(&event, 60)
    };
    let outcome = p.purgatory.hold(&again).await.unwrap();

    assert_eq!(outcome, HoldOutcome::AlreadyHeld(EntryStatus::Asleep));
    // And so do the states that it lists.
    let reading = p.read(&["repo"]).await;
    assert_eq!(reading.entries.len(), 2);
    for entry in &reading.entries {
        assert_eq!(entry.status, EntryStatus::Held);
        assert!((reading.now + 55..=reading.now + 60).contains(&entry.deadline));
    }
}

async fn of_one_coordinate_only_the_newest_announcement_is_held(p: Fixture) {
    let author = Keys::generate();
    let [old, middle, new] = [1, 2, 3].map(|at| announcement(&author, at));

    p.purgatory.hold(&hold(&middle, LONG)).await.unwrap();
    p.clear_dirty().await;

    let outcome = p.purgatory.hold(&hold(&old, LONG)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Replaced);
    let reading = p.read(&["repo"]).await;
    assert_eq!((reading.entries[0].event.id, reading.dirty.len()), (middle.id, 0));

    let outcome = p.purgatory.hold(&hold(&new, LONG)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Held);
    let entries = p.read(&["repo"]).await.entries;
    assert_eq!((entries.len(), entries[0].event.id), (1, new.id));
}

async fn of_two_announcements_of_one_second_the_lower_id_wins(p: Fixture) {
    let author = Keys::generate();
    let mut events = [announcement(&author, 10), announcement(&author, 10)];
    events.sort_by_key(|event| event.id);
    let [low, high] = events;

    p.purgatory.hold(&hold(&high, LONG)).await.unwrap();
    let of_low = p.purgatory.hold(&hold(&low, LONG)).await.unwrap();
    let of_high = p.purgatory.hold(&hold(&high, LONG)).await.unwrap();

    assert_eq!((of_low, of_high), (HoldOutcome::Held, HoldOutcome::Replaced));
    assert!(p.entry(&low).await.is_some());
    assert_eq!(p.entry(&high).await, None);
}

async fn times_that_no_float_can_hold_are_compared_exactly(p: Fixture) {
    let author = Keys::generate();
    // Neighbours above 2^53 are the same float, and fewer digits would sort later as text.
    for (older, newer) in [(u64::MAX - 1, u64::MAX), (9, 10)] {
        let older = announcement(&author, older);
        let newer = announcement(&author, newer);

        p.purgatory.hold(&hold(&newer, LONG)).await.unwrap();
        let outcome = p.purgatory.hold(&hold(&older, LONG)).await.unwrap();

        assert_eq!(outcome, HoldOutcome::Replaced);
        assert_eq!(p.purgatory.end(&ids([&newer])).await.unwrap(), 1);
    }
}

async fn an_announcement_takes_a_sleeping_ones_place(p: Fixture) {
    let author = Keys::generate();
    let [old, new] = [1, 2].map(|at| announcement(&author, at));
    p.purgatory.hold(&hold(&old, 0)).await.unwrap();
    let sleep = Expiry::Sleep { secs: LONG };
    assert!(p.purgatory.expire(&old.id, sleep).await.unwrap());

    p.purgatory.hold(&hold(&new, LONG)).await.unwrap();

    let entries = p.read(&["repo"]).await.entries;
    assert_eq!((entries.len(), entries[0].event.id), (1, new.id));
    // And an older one is refused because of a sleeping one, too.
    assert_eq!(
        p.purgatory.hold(&hold(&old, LONG)).await.unwrap(),
        HoldOutcome::Replaced
    );
}

async fn a_leaving_announcement_is_not_touched_by_a_newer_one(p: Fixture) {
    let author = Keys::generate();
    let [first, second, third] = [2, 1, 3].map(|at| announcement(&author, at));
    p.purgatory.hold(&hold(&first, LONG)).await.unwrap();
    let leased = p.purgatory.mark_releasing(&[release(&first)], LONG).await;
    assert_eq!(leased.unwrap().leased.len(), 1);

    for event in [&second, &third] {
        let outcome = p.purgatory.hold(&hold(event, LONG)).await.unwrap();
        assert_eq!(outcome, HoldOutcome::Held);
    }

    assert_eq!(p.entry(&first).await.unwrap().status, EntryStatus::Releasing);
    assert_eq!(p.entry(&second).await, None);
    assert_eq!(p.entry(&third).await.unwrap().status, EntryStatus::Held);
}

async fn announcements_of_other_coordinates_stand_side_by_side(p: Fixture) {
    let author = Keys::generate();
    for event in [
        announcement(&author, 1),
        announcement(&Keys::generate(), 2),
        event(&author, 30617, "repo2", 3),
    ] {
        let outcome = p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
        assert_eq!(outcome, HoldOutcome::Held);
    }

    assert_eq!(p.read(&["repo", "repo2"]).await.entries.len(), 3);
}

async fn states_of_one_author_wait_side_by_side(p: Fixture) {
    let author = Keys::generate();
    for at in [3, 1, 2] {
        let state = state(&author, at);
        let outcome = p.purgatory.hold(&hold(&state, LONG)).await.unwrap();
        assert_eq!(outcome, HoldOutcome::Held);
    }

    assert_eq!(p.read(&["repo"]).await.entries.len(), 3);
}

async fn holding_extends_what_it_lists_and_nothing_else(p: Fixture) {
    let [author, other] = [Keys::generate(), Keys::generate()];
    let [listed, unlisted] = [1, 2].map(|at| state(&author, at));
    let sleeping = announcement(&other, 1);
    for event in [&listed, &unlisted, &sleeping] {
        p.purgatory.hold(&hold(event, 0)).await.unwrap();
    }
    let sleep = Expiry::Sleep { secs: 9 * LONG };
    assert!(p.purgatory.expire(&sleeping.id, sleep).await.unwrap());
    let before = p.entry(&unlisted).await;

    let winner = announcement(&author, 3);
    let extend = ids([&listed, &sleeping, &winner]);
    let hold = Hold {
        extend,
        ..hold(&winner, LONG)
    };
    p.purgatory.hold(&hold).await.unwrap();

    let deadline = p.entry(&winner).await.unwrap().deadline;
    for event in [&listed, &sleeping] {
        let entry = p.entry(event).await.unwrap();
        assert_eq!((entry.status, entry.deadline), (EntryStatus::Held, deadline));
    }
    assert_eq!(p.entry(&unlisted).await, before);
}

async fn a_repeated_hold_extends_nothing(p: Fixture) {
    let author = Keys::generate();
    let [first, second] = [1, 2].map(|at| state(&author, at));
    for event in [&first, &second] {
        p.purgatory.hold(&hold(event, 60)).await.unwrap();
    }
    let before = p.entry(&first).await;

    let extend = ids([&first]);
    let again = Hold {
        extend,
        ..hold(&second, LONG)
    };
    p.purgatory.hold(&again).await.unwrap();

    assert_eq!(p.entry(&first).await, before);
}

async fn one_author_cannot_hold_more_than_the_limit(p: Fixture) {
    let author = Keys::generate();
    for at in 1..=LIMITS.entries_per_author_max {
        p.purgatory.hold(&hold(&state(&author, at), LONG)).await.unwrap();
    }
    p.clear_dirty().await;

    let outcome = p.purgatory.hold(&hold(&state(&author, 99), LONG)).await;

    assert_eq!(outcome.unwrap(), HoldOutcome::Full(Limit::EntriesPerAuthor));
    let reading = p.read(&["repo"]).await;
    assert_eq!((reading.entries.len(), reading.dirty.len()), (4, 0));
    let other = state(&Keys::generate(), 99);
    assert_eq!(p.purgatory.hold(&hold(&other, LONG)).await.unwrap(), HoldOutcome::Held);
}

async fn what_was_complete_before_a_loss_is_held_beyond_every_limit(p: Fixture) {
    let author = Keys::generate();
    for at in 1..=LIMITS.entries_per_author_max {
        p.purgatory.hold(&hold(&state(&author, at), LONG)).await.unwrap();
    }
    let complete = state(&author, 99);
    let again = Hold {
        room: Room::Always,
        is_new_repository: false,
        behind: None,
        ..hold(&complete, LONG)
    };

    let outcome = p.purgatory.hold(&again).await.unwrap();

    assert_eq!(outcome, HoldOutcome::Held);
    assert_eq!(*p.entry(&complete).await.unwrap().event, complete);
}

async fn all_authors_cannot_hold_more_than_the_limit(p: Fixture) {
    let mut held = Vec::new();
    for at in 1..=LIMITS.entries_max {
        let state = state(&Keys::generate(), at);
        let source = format!("IP4 192.0.2.{at}");
        p.purgatory.hold(&hold_from(&state, &source)).await.unwrap();
        held.push(state);
    }

    let one_more = state(&Keys::generate(), 99);
    let outcome = p.purgatory.hold(&hold(&one_more, LONG)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Full(Limit::Entries));

    p.purgatory.end(&ids([&held[0]])).await.unwrap();
    let outcome = p.purgatory.hold(&hold(&one_more, LONG)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Held);
}

async fn one_source_cannot_hold_more_than_the_limit(p: Fixture) {
    let of_one_network = |host: u64| format!("IP6 2001:db8:1:2::{host}");
    for host in 1..=LIMITS.entries_per_source_max {
        let hold = hold_from(&state(&Keys::generate(), 1), &of_one_network(host));
        assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
    }
    p.clear_dirty().await;

    let one_more = state(&Keys::generate(), 99);
    let outcome = p.purgatory.hold(&hold_from(&one_more, &of_one_network(99))).await;

    assert_eq!(outcome.unwrap(), HoldOutcome::Full(Limit::EntriesPerSource));
    assert_eq!(p.clear_dirty().await, [""; 0]);
    let elsewhere = hold_from(&one_more, "IP6 2001:db8:1:3::1");
    assert_eq!(p.purgatory.hold(&elsewhere).await.unwrap(), HoldOutcome::Held);
}

async fn one_event_cannot_have_more_bytes_than_the_limit(p: Fixture) {
    let large = large_state(&Keys::generate(), 1, LIMITS.event_bytes_max as usize);

    let outcome = p.purgatory.hold(&hold(&large, LONG)).await.unwrap();

    assert_eq!(outcome, HoldOutcome::Full(Limit::EventBytes));
    assert_eq!(p.read(&["repo"]).await.entries, []);
}

/// So large that two fit into the limit per author, three into that per source, and four into that on all.
const LARGE: usize = 14_000;

async fn one_author_cannot_hold_more_bytes_than_the_limit(p: Fixture) {
    let author = Keys::generate();
    let held = [1, 2].map(|at| large_state(&author, at, LARGE));
    for state in &held {
        assert_eq!(p.purgatory.hold(&hold(state, LONG)).await.unwrap(), HoldOutcome::Held);
    }

    let third = hold(&large_state(&author, 3, LARGE), LONG);
    let outcome = p.purgatory.hold(&third).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Full(Limit::BytesPerAuthor));
    let small = hold(&state(&author, 4), LONG);
    assert_eq!(p.purgatory.hold(&small).await.unwrap(), HoldOutcome::Held);

    // What leaves makes room.
    serve(&p, &held[0]).await;
    assert_eq!(p.purgatory.hold(&third).await.unwrap(), HoldOutcome::Held);
}

async fn one_source_cannot_hold_more_bytes_than_the_limit(p: Fixture) {
    for at in 1..=3 {
        let large = large_state(&Keys::generate(), at, LARGE);
        assert_eq!(p.purgatory.hold(&hold(&large, LONG)).await.unwrap(), HoldOutcome::Held);
    }

    let fourth = large_state(&Keys::generate(), 4, LARGE);
    let outcome = p.purgatory.hold(&hold(&fourth, LONG)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Full(Limit::BytesPerSource));
    let elsewhere = hold_from(&fourth, "Stream wss://relay.example/");
    assert_eq!(p.purgatory.hold(&elsewhere).await.unwrap(), HoldOutcome::Held);
}

async fn all_together_cannot_hold_more_bytes_than_the_limit(p: Fixture) {
    let large = [1, 2, 3, 4, 5].map(|at| large_state(&Keys::generate(), at, LARGE));
    let from = |index: usize| hold_from(&large[index], &format!("IP4 192.0.2.{index}"));
    for index in 0..4 {
        let outcome = p.purgatory.hold(&from(index)).await.unwrap();
        assert_eq!(outcome, HoldOutcome::Held);
    }

    let outcome = p.purgatory.hold(&from(4)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::Full(Limit::Bytes));

    assert_eq!(p.purgatory.end(&ids([&large[0]])).await.unwrap(), 1);
    assert_eq!(p.purgatory.hold(&from(4)).await.unwrap(), HoldOutcome::Held);
}

async fn bytes_are_counted_once_however_often_an_entry_is_extended(p: Fixture) {
    let author = Keys::generate();
    let [first, second] = [1, 2].map(|at| large_state(&author, at, LARGE));
    p.purgatory.hold(&hold(&first, 1)).await.unwrap();
    for secs in 1..9 {
        let extended = p.purgatory.extend(&ids([&first]), secs * LONG).await.unwrap();
        assert_eq!(extended, 1);
        let outcome = p.purgatory.hold(&hold(&first, LONG)).await.unwrap();
        assert_eq!(outcome, HoldOutcome::AlreadyHeld(EntryStatus::Held));
    }

    let outcome = p.purgatory.hold(&hold(&second, LONG)).await.unwrap();

    assert_eq!(outcome, HoldOutcome::Held);
}

/// Lets so many events of one author for somebody's repository `repo` be on their way: these count only for the
/// repository.
async fn fill_with_releasing(p: &Fixture, author: &Keys, count: u64) {
    let releases = (1..=count).map(|at| Release {
        coordinates: coordinates(&["repo"]),
        ..release(&state(author, at))
    });
    let releases: Vec<Release> = releases.collect();
    let marked = p.purgatory.mark_releasing(&releases, LONG).await.unwrap();
    assert_eq!(marked.leased.len() as u64, count);
}

async fn strangers_take_nothing_of_an_authors_share_of_a_repository(p: Fixture) {
    p.set_limits_of_one_repository();
    let [owner, greedy] = [Keys::generate(), Keys::generate()];
    for _ in 1..=LIMITS.entries_per_repository_max {
        fill_with_releasing(&p, &Keys::generate(), 1).await;
    }
    fill_with_releasing(&p, &greedy, SHARE_KEPT_FREE).await;
    p.clear_dirty().await;

    let for_repo = |event: &nostr::event::Event| Hold {
        coordinates: coordinates(&["repo"]),
        ..hold(event, LONG)
    };
    let outcome = p.purgatory.hold(&for_repo(&state(&greedy, 99))).await;
    assert_eq!(outcome.unwrap(), HoldOutcome::Full(Limit::EntriesPerRepository));
    assert_eq!(p.clear_dirty().await, [""; 0]);

    fill_with_releasing(&p, &owner, SHARE_KEPT_FREE - 1).await;
    let outcome = p.purgatory.hold(&for_repo(&announcement(&owner, 99))).await;
    assert_eq!(outcome.unwrap(), HoldOutcome::Held);
    // A newer one fits where it stands.
    let outcome = p.purgatory.hold(&for_repo(&announcement(&owner, 100))).await;
    assert_eq!(outcome.unwrap(), HoldOutcome::Held);
}

async fn one_author_cannot_have_more_of_a_repository_than_the_limit(p: Fixture) {
    p.set_limits_of_one_repository();
    let author = Keys::generate();
    fill_with_releasing(&p, &author, LIMITS.entries_per_share_max).await;
    p.clear_dirty().await;

    let both = Hold {
        coordinates: coordinates(&["another", "repo"]),
        ..hold(&event(&author, 1618, "unused", 99), LONG)
    };
    let outcome = p.purgatory.hold(&both).await;
    assert_eq!(outcome.unwrap(), HoldOutcome::Full(Limit::EntriesPerShare));
    assert_eq!(p.clear_dirty().await, [""; 0]);

    let elsewhere = hold(&event(&author, 30618, "another", 99), LONG);
    assert_eq!(p.purgatory.hold(&elsewhere).await.unwrap(), HoldOutcome::Held);
    let other = hold(&state(&Keys::generate(), 99), LONG);
    assert_eq!(p.purgatory.hold(&other).await.unwrap(), HoldOutcome::Held);
}

/// What each author may have of a repository, however much others have (`keys.rs`).
const SHARE_KEPT_FREE: u64 = 32;

async fn a_replacing_announcement_fits_where_the_old_one_was(p: Fixture) {
    let author = Keys::generate();
    p.purgatory.hold(&hold(&announcement(&author, 1), LONG)).await.unwrap();
    for at in 2..=LIMITS.entries_per_author_max {
        let state = state(&author, at);
        p.purgatory.hold(&hold(&state, LONG)).await.unwrap();
    }
    for at in LIMITS.entries_per_author_max..LIMITS.entries_max {
        let state = state(&Keys::generate(), at);
        let outcome = p.purgatory.hold(&hold_from(&state, "IP4 192.0.2.1")).await;
        assert_eq!(outcome.unwrap(), HoldOutcome::Held);
    }

    let outcome = p.purgatory.hold(&hold(&announcement(&author, 9), LONG)).await;

    assert_eq!(outcome.unwrap(), HoldOutcome::Held);
}

async fn releasing_entries_count_for_the_limits_until_they_have_left(p: Fixture) {
    let author = Keys::generate();
    let states: Vec<_> = (0..LIMITS.entries_per_author_max)
        .map(|at| state(&author, at))
        .collect();
    for state in &states {
        assert_eq!(p.purgatory.hold(&hold(state, LONG)).await.unwrap(), HoldOutcome::Held);
    }
    let one_more = hold(&state(&author, 99), LONG);
    let full = HoldOutcome::Full(Limit::EntriesPerAuthor);
    assert_eq!(p.purgatory.hold(&one_more).await.unwrap(), full);

    // The relay refuses one for ever, and it is decided about again.
    let stuck = Settlement::Stuck {
        after_secs: 0,
        error: "no".to_owned(),
    };
    for _ in 0..3 {
        let marked = p.purgatory.mark_releasing(&[release(&states[0])], LONG).await.unwrap();
        let [leased] = &marked.leased[..] else {
            panic!("{marked:?}")
        };
        assert!(p.purgatory.settle(&states[0].id, leased.lease, &stuck).await.unwrap());
        assert_eq!(p.purgatory.hold(&one_more).await.unwrap(), full);
    }
    // The others leave.
    for state in &states[1..] {
        serve(&p, state).await;
    }
    assert_eq!(p.purgatory.hold(&one_more).await.unwrap(), HoldOutcome::Held);
    for at in 100..98 + LIMITS.entries_per_author_max {
        let outcome = p.purgatory.hold(&hold(&state(&author, at), LONG)).await;
        assert_eq!(outcome.unwrap(), HoldOutcome::Held);
    }
    let outcome = p.purgatory.hold(&hold(&state(&author, 200), LONG)).await;
    assert_eq!(outcome.unwrap(), full, "the stuck one still counts");
    serve(&p, &states[0]).await;
    let outcome = p.purgatory.hold(&hold(&state(&author, 200), LONG)).await;
    assert_eq!(outcome.unwrap(), HoldOutcome::Held);
}

/// Whoever has sent many that the relay refuses has filled the share of an address, and all share what all may have.
async fn releasing_entries_count_for_their_source_and_among_all(p: Fixture) {
    for at in 0..LIMITS.entries_per_source_max {
        let state = state(&Keys::generate(), at);
        let hold = hold_from(&state, "IP4 192.0.2.1");
        assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        let marked = p.purgatory.mark_releasing(&[release(&state)], LONG).await;
        assert_eq!(marked.unwrap().leased.len(), 1);
    }
    let of = async |at: u64, source: &str| {
        let hold = hold_from(&state(&Keys::generate(), at), source);
        p.purgatory.hold(&hold).await.unwrap()
    };

    // They take half at most, of what others at that address may have too, and of what all may have.
    let rest = LIMITS.entries_per_source_max - LIMITS.entries_per_source_max / 2;
    let rest_of_all = LIMITS.entries_max - LIMITS.entries_max / 2;
    for at in 0..rest.min(rest_of_all) {
        assert_eq!(of(100 + at, "IP4 192.0.2.1").await, HoldOutcome::Held);
    }
    let outcome = of(99, "IP4 192.0.2.1").await;
    assert_eq!(outcome, HoldOutcome::Full(Limit::EntriesPerSource));
    for at in rest..rest_of_all {
        assert_eq!(of(200 + at, "IP4 192.0.2.2").await, HoldOutcome::Held);
    }
    assert_eq!(of(99, "IP4 192.0.2.3").await, HoldOutcome::Full(Limit::Entries));
}

/// All announcements of a coordinate are read at once.
async fn of_one_repository_so_many_announcements_are_here_at_once(p: Fixture) {
    p.set_limits_of_one_repository();
    let owner = Keys::generate();
    let large = |at: u64| large_event(&owner, 30_617, "repo", at, 250_000);
    let mark = async |event: &nostr::event::Event| {
        let marked = p.purgatory.mark_releasing(&[release(event)], LONG).await;
        assert_eq!(marked.unwrap().leased.len(), 1);
    };
    for at in 1..=3 {
        let announcement = large(at);
        assert_eq!(
            p.purgatory.hold(&hold(&announcement, LONG)).await.unwrap(),
            HoldOutcome::Held
        );
        mark(&announcement).await;
    }
    assert_eq!(
        p.purgatory.hold(&hold(&large(4), LONG)).await.unwrap(),
        HoldOutcome::Held
    );
    let newer = hold(&large(5), LONG);
    assert_eq!(
        p.purgatory.hold(&newer).await.unwrap(),
        HoldOutcome::Held,
        "it takes its place"
    );
    mark(&newer.event).await;

    let one_more = hold(&large(6), LONG);
    let full = HoldOutcome::Full(Limit::EntriesPerShare);
    assert_eq!(p.purgatory.hold(&one_more).await.unwrap(), full);
    let state = hold(&state(&owner, 1), LONG);
    assert_eq!(p.purgatory.hold(&state).await.unwrap(), HoldOutcome::Held);
    // A small one is read with them, and what a gateway restores is held in any case.
    let small = announcement(&owner, 7);
    assert_eq!(p.purgatory.hold(&hold(&small, LONG)).await.unwrap(), HoldOutcome::Held);
    mark(&small).await;
    let restored = Hold {
        room: Room::Always,
        ..hold(&large(8), LONG)
    };
    assert_eq!(p.purgatory.hold(&restored).await.unwrap(), HoldOutcome::Held);
}

async fn what_is_ordered_after_another_is_put_off_and_nobodys_until_that_has_left(p: Fixture) {
    let author = Keys::generate();
    let [first, second] = [1, 2].map(|at| state(&author, at));
    let after = Release {
        after: ids([&first]),
        ..release(&second)
    };
    let marked = p.purgatory.mark_releasing(&[release(&first)], LONG).await.unwrap();
    let [leased] = &marked.leased[..] else {
        panic!("{marked:?}")
    };
    let lease = leased.lease;
    let marked = p.purgatory.mark_releasing(std::slice::from_ref(&after), LONG).await;
    assert_eq!(marked.unwrap().waiting, ids([&second]));

    assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);
    assert!(!p.purgatory.pending().await.unwrap().is_due, "it was put off");
    // It is nobody else's: a new decision about it counts.
    let marked = p.purgatory.mark_releasing(std::slice::from_ref(&after), LONG).await;
    assert_eq!(marked.unwrap().waiting, ids([&second]));
    assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);

    // What it waits for is dropped, as an operator wants it, and it is due at once.
    let dropped = p.purgatory.drop_entry(&first.id).await.unwrap();
    assert_eq!(dropped, Some(EntryStatus::Releasing));
    assert!(!p.purgatory.settle(&first.id, lease, &Settlement::Served).await.unwrap());
    let due = p.purgatory.take_due(9, LONG).await.unwrap();
    assert_eq!(
        due.iter().map(|leased| leased.event.id).collect::<Vec<_>>(),
        [second.id]
    );
    // Now it is the caller's.
    let marked = p.purgatory.mark_releasing(&[after], LONG).await.unwrap();
    assert_eq!(marked, MarkedReleasing::default());
}

/// Thousands that wait for a stuck one would be looked at each second.
#[tokio::test]
async fn what_waits_for_a_stuck_event_is_looked_at_less_and_less_often() {
    let (p, author) = (Fixture::memory(), Keys::generate());
    let [first, second] = [1, 2].map(|at| state(&author, at));
    let after = Release {
        after: ids([&first]),
        ..release(&second)
    };
    let marked = p.purgatory.mark_releasing(&[release(&first), after], 10_000).await;
    let leased = marked.unwrap().leased;
    let stuck = Settlement::Stuck {
        after_secs: 10_000,
        error: "no".to_owned(),
    };
    assert!(p.purgatory.settle(&first.id, leased[0].lease, &stuck).await.unwrap());
    let settled = p.purgatory.settle(&second.id, leased[1].lease, &Settlement::GiveBack);
    assert!(settled.await.unwrap());

    let mut looks: Vec<u64> = Vec::new();
    for second in 0..200 {
        if p.purgatory.pending().await.unwrap().is_due {
            looks.push(second);
            assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);
        }
        p.let_a_second_pass().await;
    }

    let pauses: Vec<u64> = looks.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(
        pauses.is_sorted() && pauses[0] == 1 && pauses.last() == Some(&10),
        "{pauses:?}"
    );
}

/// Has one event leave as the relay takes it.
async fn serve(p: &Fixture, event: &nostr::event::Event) {
    let marked = p.purgatory.mark_releasing(&[release(event)], LONG).await.unwrap();
    let [leased] = &marked.leased[..] else {
        panic!("{marked:?}")
    };
    assert!(
        p.purgatory
            .settle(&event.id, leased.lease, &Settlement::Served)
            .await
            .unwrap()
    );
}

/// A PR that is offered to the repositories `a` and `b`.
fn offered_to_both(event: &nostr::event::Event) -> Hold {
    Hold {
        coordinates: coordinates(&["a", "b"]),
        ..hold(event, LONG)
    }
}

async fn a_pr_is_read_only_by_its_id_and_looked_at_by_each_of_its_repositories(p: Fixture) {
    let pr = event(&Keys::generate(), 1618, "unused", 1);
    let both = coordinates(&["a", "b"]);
    p.purgatory.hold(&offered_to_both(&pr)).await.unwrap();

    assert_eq!(p.read(&["a", "b"]).await.entries, []);
    let reading = p.purgatory.read_with(&both, &ids([&pr])).await.unwrap();
    assert_eq!(reading.entries.len(), 1);
    assert_eq!(reading.entries[0].coordinates, both);
    assert_eq!(p.clear_dirty().await, [""; 0], "nothing else is reconciled");
    assert_eq!(p.look_at_pull_requests().await, ["a", "b"]);
    assert_eq!(p.look_at_pull_requests().await, [""; 0]);

    // What is staged for it goes with it.
    p.purgatory.end(&ids([&pr])).await.unwrap();
    assert_eq!(p.purgatory.read_with(&both, &ids([&pr])).await.unwrap().entries, []);
    assert_eq!(p.look_at_pull_requests().await, ["a", "b"]);
}

async fn what_happens_to_a_repository_has_all_its_prs_looked_at_and_a_new_one_only_itself(p: Fixture) {
    let [first, second] = [1, 2].map(|at| event(&Keys::generate(), 1618, "unused", at));
    let a = coordinates(&["a"]).pop_first().unwrap();
    let unreconciled = async || p.purgatory.unreconciled_page(&a).await.unwrap().event_ids();
    p.purgatory.hold(&offered_to_both(&first)).await.unwrap();
    assert_eq!(unreconciled().await, ids([&first]));
    p.look_at_pull_requests().await;

    p.purgatory.hold(&offered_to_both(&second)).await.unwrap();
    assert_eq!(unreconciled().await, ids([&second]));
    p.purgatory.mark_dirty(&[a.clone()].into()).await.unwrap();
    assert_eq!(unreconciled().await, ids([&second]));
    assert_eq!(p.clear_dirty().await, ["a"]);
    assert_eq!(unreconciled().await, ids([&first, &second]));
    p.look_at_pull_requests().await;

    p.purgatory.begin_rounds(&coordinates(&["a", "nothing"])).await.unwrap();
    assert_eq!(unreconciled().await, ids([&first, &second]));
    assert_eq!(p.look_at_pull_requests().await, ["a"]);
}

async fn what_happens_to_a_pr_while_it_is_looked_at_has_it_looked_at_again(p: Fixture) {
    let [first, second] = [1, 2].map(|at| event(&Keys::generate(), 1618, "unused", at));
    let a = coordinates(&["a"]).pop_first().unwrap();
    for pr in [&first, &second] {
        p.purgatory.hold(&offered_to_both(pr)).await.unwrap();
    }
    let nothing = BTreeMap::new();
    let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
    p.purgatory.mark_unreconciled(&a, &ids([&first])).await.unwrap();

    assert!(p.purgatory.note_reconciled(&a, &unreconciled, &nothing).await.unwrap());
    let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
    assert_eq!(unreconciled.event_ids(), ids([&first]));

    // What happens to the repository meanwhile has all of them looked at.
    p.purgatory.begin_rounds(&[a.clone()].into()).await.unwrap();
    assert!(p.purgatory.note_reconciled(&a, &unreconciled, &nothing).await.unwrap());
    let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
    assert_eq!(unreconciled.event_ids(), ids([&first, &second]));
    let again = BTreeMap::from([(first.id, PullRequestOutcome::Again)]);
    assert!(p.purgatory.note_reconciled(&a, &unreconciled, &again).await.unwrap());
    let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
    assert_eq!(unreconciled.event_ids(), ids([&first]));
    assert!(!p.purgatory.note_reconciled(&a, &unreconciled, &nothing).await.unwrap());
}

async fn a_pr_that_could_not_be_installed_is_looked_at_again_after_its_pause(p: Fixture) {
    let pr = event(&Keys::generate(), 1618, "unused", 1);
    let a = coordinates(&["a"]).pop_first().unwrap();
    p.purgatory.hold(&offered_to_both(&pr)).await.unwrap();
    let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
    let later = BTreeMap::from([(pr.id, PullRequestOutcome::Later { secs: 0 })]);
    assert!(!p.purgatory.note_reconciled(&a, &unreconciled, &later).await.unwrap());

    assert_eq!(p.purgatory.mark_overdue(9, 1).await.unwrap(), 1);

    assert_eq!(p.purgatory.unreconciled_page(&a).await.unwrap().event_ids(), ids([&pr]));
    p.look_at_pull_requests().await;
    p.let_a_second_pass().await;
    p.let_a_second_pass().await;
    assert_eq!(
        p.purgatory.mark_overdue(9, 1).await.unwrap(),
        0,
        "its deadline is ahead"
    );
}

async fn what_is_staged_is_looked_at_until_nothing_is(p: Fixture) {
    let pr = event(&Keys::generate(), 1618, "unused", 1);
    let a = coordinates(&["a"]).pop_first().unwrap();
    p.purgatory.mark_unreconciled(&a, &ids([&pr])).await.unwrap();
    let staged = BTreeMap::from([(pr.id, PullRequestOutcome::Staged)]);
    let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
    assert!(!p.purgatory.note_reconciled(&a, &unreconciled, &staged).await.unwrap());

    let later = BTreeMap::from([(pr.id, PullRequestOutcome::Later { secs: LONG })]);
    for found in [staged, later, BTreeMap::new()] {
        p.purgatory.begin_rounds(&[a.clone()].into()).await.unwrap();
        let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
        assert_eq!(unreconciled.event_ids(), ids([&pr]));
        assert!(!p.purgatory.note_reconciled(&a, &unreconciled, &found).await.unwrap());
    }
    p.purgatory.begin_rounds(&[a.clone()].into()).await.unwrap();
    assert_eq!(p.look_at_pull_requests().await, [""; 0]);
}

async fn more_prs_than_a_page_are_looked_at_page_by_page(p: Fixture) {
    let a = coordinates(&["a"]).pop_first().unwrap();
    let event_ids: BTreeSet<_> = (1..=100).map(|at| state(&Keys::generate(), at).id).collect();
    p.purgatory.mark_unreconciled(&a, &event_ids).await.unwrap();
    let (mut seen, mut pages) = (BTreeSet::new(), 0);
    loop {
        let unreconciled = p.purgatory.unreconciled_page(&a).await.unwrap();
        assert!(unreconciled.event_ids().is_disjoint(&seen));
        seen.extend(unreconciled.event_ids());
        pages += 1;
        if !p
            .purgatory
            .note_reconciled(&a, &unreconciled, &BTreeMap::new())
            .await
            .unwrap()
        {
            break;
        }
    }
    assert_eq!((seen, pages), (event_ids, 25));
}

async fn identifiers_with_odd_characters_are_kept_apart(p: Fixture) {
    let author = Keys::generate();
    let names = ["a:b", "a%3Ab", "ä 🦀 \"x\"", "{purgatory}"];
    for name in names {
        let event = event(&author, 30617, name, 1);
        p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
        let place = coordinate(&author, name);
        if name != "a:b" {
            p.purgatory
                .put_placeholder(&event.id, &place, oid('a'), LONG, None)
                .await
                .unwrap();
        }
    }

    for name in names {
        let reading = p.read(&[name]).await;
        assert_eq!(reading.entries.len(), 1, "{name}");
        assert_eq!(reading.entries[0].coordinates, [coordinate(&author, name)].into());
        let placeholders = usize::from(name != "a:b");
        assert_eq!(reading.placeholders.len(), placeholders, "{name}");
        assert_eq!(reading.dirty.len(), 1, "{name}");
    }
    assert_eq!(p.clear_dirty().await, names);
}

async fn a_dirty_mark_is_cleared_only_with_its_last_number(p: Fixture) {
    let name = coordinates(&["repo"]);
    p.purgatory.mark_dirty(&name).await.unwrap();
    let (repo, first) = p.purgatory.dirty(9).await.unwrap().remove(0);
    p.purgatory.mark_dirty(&name).await.unwrap();

    assert!(!p.purgatory.clear_dirty(&repo, first).await.unwrap());
    let (_, second) = p.purgatory.dirty(9).await.unwrap().remove(0);
    assert_eq!(p.purgatory.dirty_number(&repo).await.unwrap(), Some(second));
    assert!(p.purgatory.clear_dirty(&repo, second).await.unwrap());
    assert_eq!(p.purgatory.dirty_number(&repo).await.unwrap(), None);
    assert!(!p.purgatory.clear_dirty(&repo, second).await.unwrap());

    p.purgatory.mark_dirty(&name).await.unwrap();
    let (_, third) = p.purgatory.dirty(9).await.unwrap().remove(0);
    assert!(first < second && second < third);
}

async fn dirty_coordinates_are_listed_oldest_change_first(p: Fixture) {
    for name in ["c", "a", "b", "c"] {
        p.purgatory.mark_dirty(&coordinates(&[name])).await.unwrap();
    }

    let listed = p.purgatory.dirty(2).await.unwrap();

    let names: Vec<_> = listed.iter().map(|(at, _)| at.identifier.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(p.clear_dirty().await, ["a", "b", "c"]);
    assert_eq!(p.purgatory.dirty(0).await.unwrap(), []);
}

async fn what_is_dirty_by_some_changes_is_counted(p: Fixture) {
    let start = p.purgatory.last_change().await.unwrap();
    p.purgatory.mark_dirty(&coordinates(&["before"])).await.unwrap();
    let after = p.purgatory.last_change().await.unwrap();
    p.purgatory.mark_dirty(&coordinates(&["a", "b"])).await.unwrap();
    let until = p.purgatory.last_change().await.unwrap();
    p.purgatory.mark_dirty(&coordinates(&["later"])).await.unwrap();
    let count = async || p.purgatory.dirty_between(after, until).await.unwrap();
    assert!(start < after && after < until);
    assert_eq!(count().await, 2);

    // Changed again, it is dirty by another change.
    p.purgatory.mark_dirty(&coordinates(&["a"])).await.unwrap();
    assert_eq!(count().await, 1);
    let b = coordinates(&["b"]).pop_first().unwrap();
    let number = p.purgatory.dirty_number(&b).await.unwrap().unwrap();
    p.purgatory.clear_dirty(&b, number).await.unwrap();
    assert_eq!(count().await, 0);
}

async fn what_is_overdue_is_offered_again_only_after_a_while(p: Fixture) {
    let author = Keys::generate();
    let [overdue, waiting] = [1, 2].map(|at| state(&author, at));
    p.purgatory.hold(&hold(&overdue, 0)).await.unwrap();
    p.purgatory.hold(&hold(&waiting, LONG)).await.unwrap();
    p.clear_dirty().await;
    let before = p.entry(&overdue).await;

    assert_eq!(p.purgatory.mark_overdue(9, 1).await.unwrap(), 1);

    assert_eq!(p.clear_dirty().await, ["repo"]);
    assert_eq!(p.entry(&overdue).await, before);
    p.let_a_second_pass().await;
    p.let_a_second_pass().await;
    assert_eq!(p.purgatory.mark_overdue(0, LONG).await.unwrap(), 0);
    assert_eq!(p.purgatory.mark_overdue(9, LONG).await.unwrap(), 1);
    assert_eq!(p.purgatory.mark_overdue(9, LONG).await.unwrap(), 0);
    // Looking again is not what decides: it is past all the time.
    let expired = p.purgatory.expire(&overdue.id, Expiry::Gone).await;
    assert!(expired.unwrap());
}

async fn an_overdue_placeholder_is_looked_at(p: Fixture) {
    let owner = Keys::generate();
    let id = state(&owner, 1).id;
    let place = coordinate(&owner, "repo");
    let outcome = p.purgatory.put_placeholder(&id, &place, oid('a'), 0, None).await;
    assert_eq!(outcome.unwrap(), PlaceholderOutcome::Recorded);

    assert_eq!(p.look_at_pull_requests().await, ["repo"]);

    assert_eq!(p.purgatory.mark_overdue(9, LONG).await.unwrap(), 1);
    assert_eq!(p.look_at_pull_requests().await, ["repo"]);
    assert_eq!(p.purgatory.mark_overdue(9, LONG).await.unwrap(), 0);
    assert_eq!(p.look_at_pull_requests().await, [""; 0]);
    assert_eq!(p.clear_dirty().await, [""; 0]);
    assert_eq!(p.read(&["repo"]).await.placeholders.len(), 1);
}

async fn releasing_writes_an_event_that_was_never_held(p: Fixture) {
    let event = announcement(&Keys::generate(), 1);

    let leased = p.purgatory.mark_releasing(&[release(&event)], LONG).await;

    assert_eq!(leased.unwrap().leased[0].event, event);
    let entry = p.entry(&event).await.unwrap();
    assert_eq!(entry.event.as_json(), event.as_json());
    assert_eq!((entry.status, entry.source.as_str()), (EntryStatus::Releasing, ""));
}

async fn releasing_keeps_what_only_the_held_entry_knew(p: Fixture) {
    let event = state(&Keys::generate(), 1);
    p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    let notes = BTreeMap::from([(event.id, "oid".to_owned())]);
    p.purgatory.note_waiting(&notes).await.unwrap();
    let held = p.entry(&event).await.unwrap();
    let held_since = held.held_since;

    let leased = p.purgatory.mark_releasing(&[release(&event)], LONG).await;

    assert_eq!(leased.unwrap().leased.len(), 1);
    let releasing = p.entry(&event).await.unwrap();
    let since = releasing.releasing_since.unwrap();
    let expected = Entry {
        status: EntryStatus::Releasing,
        waiting_for: String::new(),
        releasing_since: Some(since),
        ..held
    };
    assert_eq!(releasing, expected);
    let now = p.purgatory.counts().await.unwrap().now;
    assert!(held_since <= since && since <= now, "{held_since} {since} {now}");
}

async fn a_releasing_entry_is_neither_overdue_nor_expired_nor_ended_nor_extended(p: Fixture) {
    let event = announcement(&Keys::generate(), 1);
    p.purgatory.hold(&hold(&event, 0)).await.unwrap();
    let leased = p.purgatory.mark_releasing(&[release(&event)], LONG).await;
    assert_eq!(leased.unwrap().leased.len(), 1);
    let before = p.entry(&event).await;
    let id = ids([&event]);

    assert_eq!(p.purgatory.mark_overdue(9, 0).await.unwrap(), 0);
    assert!(!p.purgatory.expire(&event.id, Expiry::Gone).await.unwrap());
    assert_eq!(p.purgatory.end(&id).await.unwrap(), 0);
    assert_eq!(p.purgatory.extend(&id, LONG).await.unwrap(), 0);
    let outcome = p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    assert_eq!(outcome, HoldOutcome::AlreadyHeld(EntryStatus::Releasing));
    assert_eq!(p.entry(&event).await, before);
}

async fn what_is_leased_is_nobody_elses_until_the_lease_runs_out(p: Fixture) {
    let author = Keys::generate();
    let [running, over] = [1, 2].map(|at| state(&author, at));
    let releases = [release(&running), release(&over)];
    let first = p.purgatory.mark_releasing(&releases[..1], LONG).await;
    let second = p.purgatory.mark_releasing(&releases[1..], 0).await;
    let (first, second) = (first.unwrap().leased.remove(0), second.unwrap().leased.remove(0));
    assert_ne!(first.lease, second.lease);

    let marked = p.purgatory.mark_releasing(&releases, 0).await.unwrap().leased;
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0].event, over);
    let taken = p.purgatory.take_due(9, LONG).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event, over);
    assert!(taken[0].lease > marked[0].lease && marked[0].lease > second.lease);
    assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);
}

async fn only_the_current_lease_settles(p: Fixture) {
    let event = state(&Keys::generate(), 1);
    let old = p.purgatory.mark_releasing(&[release(&event)], 0).await;
    let old = old.unwrap().leased[0].lease;
    let new = p.purgatory.take_due(9, LONG).await.unwrap()[0].lease;
    let before = p.entry(&event).await;
    p.clear_dirty().await;

    let settled = p.purgatory.settle(&event.id, old, &Settlement::Served).await;
    assert!(!settled.unwrap());
    assert_eq!(p.entry(&event).await, before);
    assert_eq!(p.clear_dirty().await, [""; 0]);

    for expected in [true, false] {
        let settled = p.purgatory.settle(&event.id, new, &Settlement::Served).await;
        assert_eq!(settled.unwrap(), expected);
    }
}

async fn what_is_to_be_retried_later_is_not_marked_again_before(p: Fixture) {
    let event = state(&Keys::generate(), 1);
    let releases = [release(&event)];
    for after_secs in [0, LONG] {
        let leased = p.purgatory.mark_releasing(&releases, LONG).await.unwrap().leased;
        let retry = Settlement::Retry {
            after_secs,
            error: "error: down".to_owned(),
        };
        let settled = p.purgatory.settle(&event.id, leased[0].lease, &retry).await;
        assert!(settled.unwrap());
        let settled = p.purgatory.settle(&event.id, leased[0].lease, &retry).await;
        assert!(!settled.unwrap());
    }

    assert_eq!(p.purgatory.mark_releasing(&releases, LONG).await.unwrap().leased, []);
    assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);
    let entry = p.entry(&event).await.unwrap();
    assert_eq!(entry.status, EntryStatus::Releasing);
    assert_eq!(entry.release_error, "error: down");
}

async fn a_stuck_entry_says_why_and_is_taken_when_its_time_comes(p: Fixture) {
    let event = state(&Keys::generate(), 1);
    let leased = p.purgatory.mark_releasing(&[release(&event)], LONG).await;
    let stuck = Settlement::Stuck {
        after_secs: 0,
        error: "blocked: 🦀".to_owned(),
    };
    let settled = p
        .purgatory
        .settle(&event.id, leased.unwrap().leased[0].lease, &stuck)
        .await;
    assert!(settled.unwrap());

    let entry = p.entry(&event).await.unwrap();
    assert_eq!(
        (entry.status, entry.release_error.as_str()),
        (EntryStatus::Stuck, "blocked: 🦀")
    );
    assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap().len(), 1);
    assert_eq!(p.entry(&event).await.unwrap().status, EntryStatus::Stuck);
}

async fn an_entry_that_goes_makes_its_coordinates_dirty_only_if_it_is_dropped(p: Fixture) {
    let author = Keys::generate();
    for (settlement, dirty) in [
        (Settlement::Served, &[][..]),
        (Settlement::Dropped, &["repo", "second"][..]),
    ] {
        let event = state(&author, 1);
        let release = Release {
            coordinates: coordinates(&["repo", "second"]),
            ..release(&event)
        };
        let leased = p.purgatory.mark_releasing(&[release], 0).await.unwrap().leased;
        p.clear_dirty().await;

        let settled = p.purgatory.settle(&event.id, leased[0].lease, &settlement).await;

        assert!(settled.unwrap());
        assert_eq!(p.read(&["repo", "second"]).await.entries, []);
        assert_eq!(p.clear_dirty().await, dirty, "{settlement:?}");
        assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);
    }
}

async fn what_is_given_back_is_due_at_once_as_it_was(p: Fixture) {
    let event = state(&Keys::generate(), 1);
    let leased = p
        .purgatory
        .mark_releasing(&[release(&event)], LONG)
        .await
        .unwrap()
        .leased;
    let stuck = Settlement::Stuck {
        after_secs: 0,
        error: "blocked: no".to_owned(),
    };
    assert!(p.purgatory.settle(&event.id, leased[0].lease, &stuck).await.unwrap());
    let taken = p.purgatory.take_due(9, LONG).await.unwrap();
    let before = p.entry(&event).await.unwrap();
    p.clear_dirty().await;

    for expected in [true, false] {
        let settled = p
            .purgatory
            .settle(&event.id, taken[0].lease, &Settlement::GiveBack)
            .await;
        assert_eq!(settled.unwrap(), expected);
    }

    assert_eq!(before.status, EntryStatus::Stuck);
    assert_eq!(before.release_error, "blocked: no");
    assert_eq!(p.entry(&event).await.unwrap(), before);
    assert_eq!(p.clear_dirty().await, [""; 0]);
    let again = p.purgatory.take_due(9, LONG).await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(again[0].lease > taken[0].lease);
}

async fn what_is_ordered_after_the_callers_own_is_leased_with_it(p: Fixture) {
    let author = Keys::generate();
    let [first, second, gone] = [announcement(&author, 1), state(&author, 2), state(&author, 3)];
    let after = ids([&first, &gone]);
    let dependent = Release {
        after: after.clone(),
        ..release(&second)
    };

    let marked = p
        .purgatory
        .mark_releasing(&[release(&first), dependent], LONG)
        .await
        .unwrap();

    assert_eq!(marked.waiting, BTreeSet::new());
    let leased: Vec<_> = marked
        .leased
        .iter()
        .map(|leased| (&leased.event, &leased.after))
        .collect();
    assert_eq!(leased, [(&first, &BTreeSet::new()), (&second, &after)]);
    assert_eq!(p.entry(&second).await.unwrap().after, after);
}

async fn what_is_ordered_after_somebody_elses_waits_until_that_has_left(p: Fixture) {
    let author = Keys::generate();
    let [first, second, third] = [announcement(&author, 1), state(&author, 2), state(&author, 3)];
    let other = state(&author, 4);
    let behind = |event, before| Release {
        after: ids([before]),
        ..release(event)
    };
    let own = p
        .purgatory
        .mark_releasing(&[release(&first)], LONG)
        .await
        .unwrap()
        .leased;

    let releases = [behind(&second, &first), behind(&third, &second), release(&other)];
    let marked = p.purgatory.mark_releasing(&releases, LONG).await.unwrap();

    assert_eq!(marked.waiting, ids([&second, &third]));
    assert_eq!(marked.leased.len(), 1);
    assert_eq!(marked.leased[0].event, other);
    assert_eq!(p.entry(&third).await.unwrap().status, EntryStatus::Releasing);
    assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);
    let mut before = own[0].clone();
    for next in [&second, &third] {
        let settled = p
            .purgatory
            .settle(&before.event.id, before.lease, &Settlement::Served)
            .await;
        assert!(settled.unwrap());
        let mut taken = p.purgatory.take_due(9, LONG).await.unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!((&taken[0].event, &taken[0].after), (next, &ids([&before.event])));
        before = taken.remove(0);
    }
}

async fn what_waits_for_a_leaving_entry_is_taken_as_soon_as_that_has_left(p: Fixture) {
    let author = Keys::generate();
    let [first, second] = [announcement(&author, 1), state(&author, 2)];
    let after = ids([&first, &state(&author, 3)]);
    let dependent = Release {
        after: after.clone(),
        ..release(&second)
    };
    // Not in the order of publishing: what is named first is not leased before what it is ordered after.
    let releases = [dependent, release(&first)];
    let marked = p.purgatory.mark_releasing(&releases, 0).await.unwrap();
    assert_eq!(p.entry(&second).await.unwrap().after, after);
    assert_eq!(marked.waiting, ids([&second]));
    assert_eq!(marked.leased.len(), 1);

    let taken = p.purgatory.take_due(9, LONG).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event, first);
    let served = Settlement::Served;
    let settled = p.purgatory.settle(&first.id, taken[0].lease, &served).await;
    assert!(settled.unwrap());
    let taken = p.purgatory.take_due(9, LONG).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].event, second);
}

async fn of_what_is_due_no_more_is_taken_than_asked_for(p: Fixture) {
    let author = Keys::generate();
    let releases = [1, 2, 3].map(|at| release(&state(&author, at)));
    let leased = p.purgatory.mark_releasing(&releases, 0).await.unwrap().leased;
    assert_eq!(leased.len(), 3);

    for expected in [0, 2, 1] {
        let count_max = if expected == 0 { 0 } else { 2 };
        let taken = p.purgatory.take_due(count_max, LONG).await.unwrap();
        assert_eq!(taken.len(), expected);
    }
}

async fn no_two_publishers_take_the_same_entry(p: Fixture) {
    let author = Keys::generate();
    let releases: Vec<_> = (0..40).map(|at| release(&state(&author, at))).collect();
    let leased = p.purgatory.mark_releasing(&releases, 0).await.unwrap().leased;
    assert_eq!(leased.len(), 40);

    let publishers: Vec<_> = (0..8)
        .map(|_| {
            let purgatory = p.purgatory.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                loop {
                    let leased = purgatory.take_due(3, LONG).await.unwrap();
                    if leased.is_empty() {
                        return taken;
                    }
                    taken.extend(leased.into_iter().map(|leased| leased.event.id));
                }
            })
        })
        .collect();

    let mut all = Vec::new();
    for publisher in publishers {
        all.extend(publisher.await.unwrap());
    }
    assert_eq!(all.len(), 40);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 40);
}

async fn extending_never_shortens(p: Fixture) {
    let author = Keys::generate();
    let [short, long] = [1, 2].map(|at| state(&author, at));
    p.purgatory.hold(&hold(&short, 0)).await.unwrap();
    p.purgatory.hold(&hold(&long, 9 * LONG)).await.unwrap();
    let before = p.entry(&long).await;
    p.clear_dirty().await;

    let absent = state(&author, 3);
    let extended = p.purgatory.extend(&ids([&short, &long, &absent]), LONG).await;

    assert_eq!(extended.unwrap(), 2);
    assert_eq!(p.entry(&long).await, before);
    let reading = p.read(&["repo"]).await;
    assert!(p.entry(&short).await.unwrap().deadline >= reading.now + LONG - 5);
    assert_eq!(reading.dirty.len(), 0);
    assert_eq!(p.purgatory.mark_overdue(9, 0).await.unwrap(), 0);
}

async fn extending_wakes_a_sleeping_announcement_for_just_so_long(p: Fixture) {
    let event = announcement(&Keys::generate(), 1);
    p.purgatory.hold(&hold(&event, 0)).await.unwrap();
    let sleep = Expiry::Sleep { secs: 9 * LONG };
    assert!(p.purgatory.expire(&event.id, sleep).await.unwrap());
    p.clear_dirty().await;

    assert_eq!(p.purgatory.extend(&ids([&event]), LONG).await.unwrap(), 1);

    let reading = p.read(&["repo"]).await;
    assert_eq!(reading.entries[0].status, EntryStatus::Held);
    assert!(reading.entries[0].deadline <= reading.now + LONG);
    assert_eq!(reading.dirty.len(), 1);
}

async fn nothing_expires_before_its_deadline(p: Fixture) {
    let event = announcement(&Keys::generate(), 1);
    p.purgatory.hold(&hold(&event, 2)).await.unwrap();

    assert!(!p.purgatory.expire(&event.id, Expiry::Gone).await.unwrap());
    let sleep = Expiry::Sleep { secs: LONG };
    assert!(!p.purgatory.expire(&event.id, sleep).await.unwrap());
    assert_eq!(p.purgatory.mark_overdue(9, LONG).await.unwrap(), 0);

    for _ in 0..2 {
        p.let_a_second_pass().await;
    }
    assert!(p.purgatory.expire(&event.id, Expiry::Gone).await.unwrap());
}

async fn an_expired_entry_goes_or_sleeps(p: Fixture) {
    let author = Keys::generate();
    let [state, announcement] = [state(&author, 1), announcement(&author, 1)];
    p.purgatory.hold(&hold(&state, 0)).await.unwrap();
    p.purgatory.hold(&hold(&announcement, 0)).await.unwrap();

    assert!(p.purgatory.expire(&state.id, Expiry::Gone).await.unwrap());
    let sleep = Expiry::Sleep { secs: LONG };
    assert!(p.purgatory.expire(&announcement.id, sleep).await.unwrap());

    assert_eq!(p.entry(&state).await, None);
    let entry = p.entry(&announcement).await.unwrap();
    assert_eq!(entry.status, EntryStatus::Asleep);
    assert!(entry.deadline >= entry.held_since + LONG);
    assert_eq!(p.purgatory.mark_overdue(9, 0).await.unwrap(), 0);
    assert!(!p.purgatory.expire(&state.id, Expiry::Gone).await.unwrap());
}

async fn a_sleeping_entry_can_only_go(p: Fixture) {
    let event = announcement(&Keys::generate(), 1);
    p.purgatory.hold(&hold(&event, 0)).await.unwrap();
    let nap = Expiry::Sleep { secs: 0 };
    assert!(p.purgatory.expire(&event.id, nap).await.unwrap());

    assert!(!p.purgatory.expire(&event.id, nap).await.unwrap());
    assert_eq!(p.purgatory.mark_overdue(9, 0).await.unwrap(), 1);
    assert!(p.purgatory.expire(&event.id, Expiry::Gone).await.unwrap());
    assert_eq!(p.entry(&event).await, None);
}

async fn ended_entries_are_gone(p: Fixture) {
    let author = Keys::generate();
    let [held, asleep] = [state(&author, 1), announcement(&author, 1)];
    p.purgatory.hold(&hold(&held, LONG)).await.unwrap();
    p.purgatory.hold(&hold(&asleep, 0)).await.unwrap();
    let sleep = Expiry::Sleep { secs: LONG };
    assert!(p.purgatory.expire(&asleep.id, sleep).await.unwrap());

    let both = ids([&held, &asleep]);
    assert_eq!(p.purgatory.end(&both).await.unwrap(), 2);
    assert_eq!(p.purgatory.end(&both).await.unwrap(), 0);

    assert_eq!(p.read(&["repo"]).await.entries, []);
    // Nothing of the old announcement is in the way of an older one.
    let older = announcement(&author, 0);
    assert_eq!(p.purgatory.hold(&hold(&older, LONG)).await.unwrap(), HoldOutcome::Held);
}

async fn a_deletion_removes_its_authors_events_in_any_status(p: Fixture) {
    let author = Keys::generate();
    let [held, releasing] = [1, 2].map(|at| state(&author, at));
    let asleep = announcement(&author, 3);
    for event in [&held, &asleep] {
        p.purgatory.hold(&hold(event, 0)).await.unwrap();
    }
    let sleep = Expiry::Sleep { secs: LONG };
    assert!(p.purgatory.expire(&asleep.id, sleep).await.unwrap());
    let leased = p
        .purgatory
        .mark_releasing(&[release(&releasing)], 0)
        .await
        .unwrap()
        .leased;
    p.clear_dirty().await;

    let deletion = Deletion {
        author: author.public_key(),
        created_at: 0,
        event_ids: ids([&held, &releasing, &asleep]),
        addresses: BTreeSet::new(),
    };
    assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), 3);

    assert_eq!(p.read(&["repo"]).await.entries, []);
    assert_eq!(p.clear_dirty().await, ["repo"]);
    assert_eq!(p.purgatory.take_due(9, LONG).await.unwrap(), []);
    let lease = leased[0].lease;
    let served = Settlement::Served;
    let settled = p.purgatory.settle(&releasing.id, lease, &served).await;
    assert!(!settled.unwrap());
}

async fn a_deletion_touches_nobody_elses_events(p: Fixture) {
    let [author, other] = [Keys::generate(), Keys::generate()];
    let event = state(&author, 1);
    p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    p.clear_dirty().await;

    let deletion = Deletion {
        author: other.public_key(),
        created_at: 99,
        event_ids: ids([&event]),
        addresses: BTreeSet::from([(30618, identifier("repo"))]),
    };
    assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), 0);

    assert_eq!(p.clear_dirty().await, [""; 0]);
    let again = p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    assert_eq!(again, HoldOutcome::AlreadyHeld(EntryStatus::Held));
}

async fn an_author_vanishes_with_what_is_waiting_and_stays_away(p: Fixture) {
    let [author, other] = [Keys::generate(), Keys::generate()];
    let [early, late, foreign] = [state(&author, 9), state(&author, 11), state(&other, 9)];
    let asleep = announcement(&author, 10);
    for event in [&early, &late, &foreign] {
        p.purgatory.hold(&hold(event, LONG)).await.unwrap();
    }
    p.purgatory.hold(&hold(&asleep, 0)).await.unwrap();
    assert!(
        p.purgatory
            .expire(&asleep.id, Expiry::Sleep { secs: LONG })
            .await
            .unwrap()
    );
    p.clear_dirty().await;

    assert_eq!(p.purgatory.vanish(&author.public_key(), 10).await.unwrap(), 2);

    let left: BTreeSet<_> = p
        .read(&["repo"])
        .await
        .entries
        .iter()
        .map(|entry| entry.event.id)
        .collect();
    assert_eq!(left, ids([&late, &foreign]));
    assert_eq!(p.clear_dirty().await, ["repo"]);
    assert_eq!(
        p.purgatory.hold(&hold(&early, LONG)).await.unwrap(),
        HoldOutcome::Deleted
    );
    assert_eq!(
        p.purgatory
            .mark_releasing(&[release(&early)], LONG)
            .await
            .unwrap()
            .leased,
        []
    );
    // An older request does not take the gate back.
    assert_eq!(p.purgatory.vanish(&author.public_key(), 1).await.unwrap(), 0);
    assert_eq!(
        p.purgatory.hold(&hold(&early, LONG)).await.unwrap(),
        HoldOutcome::Deleted
    );
}

async fn what_is_more_than_a_page_is_done_whole(p: Fixture) {
    let [author, other] = [Keys::generate(), Keys::generate()];
    let mut events = Vec::new();
    for at in 1..=PAGES {
        events.push(state(&author, at));
        let foreign = hold(&state(&other, at), LONG);
        let mine = hold(&events[events.len() - 1], 0);
        for hold in [mine, foreign] {
            let hold = Hold {
                room: Room::Always,
                is_new_repository: false,
                behind: None,
                ..hold
            };
            assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
        }
    }
    let place = coordinate(&author, "repo");
    let put = p.purgatory.put_placeholder(&events[0].id, &place, oid('a'), LONG, None);
    assert_eq!(put.await.unwrap(), PlaceholderOutcome::Recorded);
    let count = events.len();

    let reading = p.read(&["repo"]).await;
    assert_eq!((reading.entries.len(), reading.placeholders.len()), (2 * count, 1));
    assert_eq!(p.purgatory.extend(&ids(&events), 1).await.unwrap(), count);
    let notes = events.iter().map(|event| (event.id, "oid".to_owned())).collect();
    p.purgatory.note_waiting(&notes).await.unwrap();
    let noted = p.read(&["repo"]).await.entries;
    assert_eq!(noted.iter().filter(|entry| entry.waiting_for == "oid").count(), count);

    let after: Vec<Release> = events[1..].iter().map(release).collect();
    let after = after.into_iter().map(|release| Release {
        after: ids([&events[0]]),
        ..release
    });
    let releases: Vec<Release> = [release(&events[0])].into_iter().chain(after).collect();
    let marked = p.purgatory.mark_releasing(&releases, LONG).await.unwrap();
    assert_eq!(
        (marked.leased.len(), marked.waiting.len()),
        (count, 0),
        "its own are no obstacle"
    );

    let deletion = Deletion {
        author: author.public_key(),
        created_at: PAGES,
        event_ids: BTreeSet::new(),
        addresses: BTreeSet::from([(30617, identifier("repo")), (30618, identifier("repo"))]),
    };
    assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), count);
    assert_eq!(
        p.purgatory.vanish(&other.public_key(), PAGES / 2).await.unwrap(),
        count / 2
    );
    let left = p.read(&["repo"]).await.entries;
    assert!(left.iter().all(|entry| entry.event.created_at.as_secs() > PAGES / 2));
    let left = ids(left.iter().map(|entry| entry.event.as_ref()));
    assert_eq!(p.purgatory.end(&left).await.unwrap(), count - count / 2);
    assert_eq!(p.read(&["repo"]).await.entries, []);
}

async fn many_coordinates_are_marked_and_listed_by_pages(p: Fixture) {
    let owner = Keys::generate();
    let names: BTreeSet<Coordinate> = (0..250)
        .map(|number| coordinate(&owner, &format!("{number:03}")))
        .collect();

    p.purgatory.mark_dirty(&names).await.unwrap();

    let listed = p.purgatory.dirty(220).await.unwrap();
    let listed: Vec<&Coordinate> = listed.iter().map(|(name, _)| name).collect();
    assert_eq!(listed, names.iter().take(220).collect::<Vec<_>>());
}

/// More than any page.
const PAGES: u64 = 150;

async fn a_deletion_by_address_spares_later_versions(p: Fixture) {
    let author = Keys::generate();
    let [older, same, later] = [9, 10, 11].map(|at| state(&author, at));
    let announcement = announcement(&author, 9);
    for event in [&older, &same, &later, &announcement] {
        p.purgatory.hold(&hold(event, LONG)).await.unwrap();
    }

    let deletion = |created_at| Deletion {
        author: author.public_key(),
        created_at,
        event_ids: BTreeSet::new(),
        addresses: BTreeSet::from([(30618, identifier("repo")), (1618, identifier("repo"))]),
    };
    assert_eq!(p.purgatory.delete(&deletion(10)).await.unwrap(), 2);

    let left: BTreeSet<_> = ids(p.read(&["repo"]).await.entries.iter().map(|e| e.event.as_ref()));
    assert_eq!(left, ids([&later, &announcement]));
    // An older request does not open the gate again.
    assert_eq!(p.purgatory.delete(&deletion(5)).await.unwrap(), 0);
    for (event, expected) in [
        (&older, HoldOutcome::Deleted),
        (&same, HoldOutcome::Deleted),
        (&later, HoldOutcome::AlreadyHeld(EntryStatus::Held)),
    ] {
        let outcome = p.purgatory.hold(&hold(event, LONG)).await.unwrap();
        assert_eq!(outcome, expected);
    }
}

async fn a_deleted_event_is_not_held_again(p: Fixture) {
    let author = Keys::generate();
    let event = state(&author, 1);
    let deletion = Deletion {
        author: author.public_key(),
        created_at: 0,
        event_ids: ids([&event]),
        addresses: BTreeSet::new(),
    };
    assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), 0);

    let outcome = p.purgatory.hold(&hold(&event, LONG)).await.unwrap();

    assert_eq!(outcome, HoldOutcome::Deleted);
    let reading = p.read(&["repo"]).await;
    assert_eq!((reading.entries.len(), reading.dirty.len()), (0, 0));
}

async fn a_deleted_event_is_not_marked_releasing(p: Fixture) {
    // A gateway decides on facts that it read before the deletion came.
    let author = Keys::generate();
    let [deleted, other] = [1, 2].map(|at| state(&author, at));
    p.purgatory.hold(&hold(&deleted, LONG)).await.unwrap();
    let deletion = Deletion {
        author: author.public_key(),
        created_at: 0,
        event_ids: ids([&deleted]),
        addresses: BTreeSet::new(),
    };
    assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), 1);

    let releases = [release(&deleted), release(&other)];
    let leased = p.purgatory.mark_releasing(&releases, LONG).await.unwrap().leased;

    assert_eq!(leased.len(), 1);
    assert_eq!(leased[0].event, other);
    assert_eq!(p.entry(&deleted).await, None);
}

async fn notes_are_kept_where_there_is_an_entry(p: Fixture) {
    let author = Keys::generate();
    let [held, absent] = [1, 2].map(|at| state(&author, at));
    p.purgatory.hold(&hold(&held, LONG)).await.unwrap();
    p.clear_dirty().await;
    let notes = [(held.id, "oid 🦀".to_owned()), (absent.id, "x".to_owned())];

    p.purgatory.note_waiting(&notes.into()).await.unwrap();

    assert_eq!(p.entry(&held).await.unwrap().waiting_for, "oid 🦀");
    assert_eq!(p.entry(&absent).await, None);
    assert_eq!(p.clear_dirty().await, [""; 0]);
}

/// A stranger's push to the same ref removed the commit that another had been told `ok` for.
async fn commits_for_one_event_wait_beside_each_other(p: Fixture) {
    let owner = Keys::generate();
    let id = state(&owner, 1).id;
    let place = coordinate(&owner, "repo");
    for (commit, secs) in [('a', 0), ('b', LONG), ('a', LONG)] {
        let outcome = p.purgatory.put_placeholder(&id, &place, oid(commit), secs, None).await;
        assert_eq!(outcome.unwrap(), PlaceholderOutcome::Recorded);
    }

    let reading = p.read(&["repo"]).await;
    let commits: Vec<_> = reading.placeholders.iter().map(|one| one.commit_oid).collect();
    assert_eq!(commits, [oid('a'), oid('b')]);
    for placeholder in &reading.placeholders {
        assert_eq!((placeholder.event_id, &placeholder.coordinate), (id, &place));
        assert!((reading.now + LONG - 5..=reading.now + LONG).contains(&placeholder.deadline));
    }
    assert_eq!(p.purgatory.mark_overdue(9, 0).await.unwrap(), 0);
    // What is staged is looked at as long as any of them is there.
    for commit in ['a', 'b'] {
        p.look_at_pull_requests().await;
        assert!(p.purgatory.drop_placeholder(&id, &place, oid(commit)).await.unwrap());
        assert_eq!(p.look_at_pull_requests().await, ["repo"]);
    }
}

async fn a_placeholder_is_dropped_only_with_its_commit(p: Fixture) {
    let [owner, other] = [Keys::generate(), Keys::generate()];
    let id = state(&owner, 1).id;
    let place = coordinate(&owner, "repo");
    for place in [&place, &coordinate(&other, "repo")] {
        let put = p.purgatory.put_placeholder(&id, place, oid('a'), 0, None).await;
        assert_eq!(put.unwrap(), PlaceholderOutcome::Recorded);
    }

    for (commit, expected) in [('b', false), ('a', true), ('a', false)] {
        let dropped = p.purgatory.drop_placeholder(&id, &place, oid(commit)).await.unwrap();
        assert_eq!(dropped, expected);
    }
    assert_eq!(p.read(&["repo"]).await.placeholders.len(), 1);
    assert_eq!(p.purgatory.mark_overdue(9, 0).await.unwrap(), 1);
}

async fn placeholders_have_a_limit(p: Fixture) {
    let owner = Keys::generate();
    let place = coordinate(&owner, "repo");
    let events: Vec<_> = (0..4).map(|at| state(&owner, at)).collect();
    let put = async |index: usize| {
        let put = p
            .purgatory
            .put_placeholder(&events[index].id, &place, oid('a'), LONG, None);
        put.await.unwrap()
    };
    for index in 0..3 {
        assert_eq!(put(index).await, PlaceholderOutcome::Recorded);
    }

    assert_eq!(put(3).await, PlaceholderOutcome::Full(PlaceholderLimit::Placeholders));
    assert_eq!(put(0).await, PlaceholderOutcome::Recorded);
    // Another repository has room of its own, although there are as many as may be in all.
    let other = coordinate(&owner, "other");
    let elsewhere = p.purgatory.put_placeholder(&events[3].id, &other, oid('a'), LONG, None);
    assert_eq!(elsewhere.await.unwrap(), PlaceholderOutcome::Recorded);
    let dropped = p.purgatory.drop_placeholder(&events[0].id, &place, oid('a')).await;
    assert!(dropped.unwrap());
    assert_eq!(put(3).await, PlaceholderOutcome::Recorded);
    assert_eq!(p.read(&["repo"]).await.placeholders.len(), 3);
}

async fn placeholders_of_one_address_have_a_limit(p: Fixture) {
    let [owner, other] = [Keys::generate(), Keys::generate()];
    let (place, elsewhere) = (coordinate(&owner, "repo"), coordinate(&other, "repo"));
    let events: Vec<_> = (0..3).map(|at| state(&owner, at).id).collect();
    let full = PlaceholderOutcome::Full(PlaceholderLimit::PlaceholdersPerSource);
    let [pusher, neighbour, stranger] = ["2001:db8::1", "2001:db8::2", "203.0.113.7"].map(|ip| ip.parse().unwrap());
    let put = async |place: &Coordinate, index: usize, pusher, secs| {
        let put = p
            .purgatory
            .put_placeholder(&events[index], place, oid('a'), secs, Some(pusher));
        put.await.unwrap()
    };
    let fit = async |indexes: &[usize], pusher| {
        let commits: Vec<_> = indexes.iter().map(|index| (events[*index], oid('a'))).collect();
        p.purgatory.placeholders_fit(&place, &commits, pusher).await.unwrap()
    };

    assert_eq!(fit(&[0, 1], pusher).await, PlaceholderOutcome::Recorded);
    assert_eq!(fit(&[0, 1, 2], pusher).await, full);
    assert_eq!(put(&place, 0, pusher, LONG).await, PlaceholderOutcome::Recorded);
    assert_eq!(put(&elsewhere, 1, neighbour, LONG).await, PlaceholderOutcome::Recorded);
    // Whoever restores it after a loss does not know whose it is.
    let restored = p.purgatory.put_placeholder(&events[0], &place, oid('a'), LONG, None);
    assert_eq!(restored.await.unwrap(), PlaceholderOutcome::Recorded);
    assert_eq!(put(&place, 2, pusher, LONG).await, full);
    // What it has already it may push again, and others are not concerned.
    assert_eq!(fit(&[0], neighbour).await, PlaceholderOutcome::Recorded);
    let another = [(events[0], oid('b'))];
    let another = p.purgatory.placeholders_fit(&place, &another, pusher).await;
    assert_eq!(another.unwrap(), full, "another commit for it needs a place");
    assert_eq!(put(&place, 0, neighbour, LONG).await, PlaceholderOutcome::Recorded);
    assert_eq!(fit(&[2], stranger).await, PlaceholderOutcome::Recorded);
    // It counts for the address that has pushed it last, until it is dropped, or its deadline is past.
    assert_eq!(put(&place, 0, stranger, LONG).await, PlaceholderOutcome::Recorded);
    assert_eq!(put(&place, 2, pusher, LONG).await, PlaceholderOutcome::Recorded);
    let dropped = p.purgatory.drop_placeholder(&events[2], &place, oid('a')).await;
    assert!(dropped.unwrap());
    assert_eq!(put(&place, 2, pusher, 0).await, PlaceholderOutcome::Recorded);
    assert_eq!(fit(&[1], pusher).await, PlaceholderOutcome::Recorded);
}

/// Waits for a wake-up, and lets those that follow at once pass (one may stand for the subscription itself).
async fn is_woken(notifications: &mut Notifications) -> bool {
    let woken = timeout(Duration::from_secs(5), notifications.next()).await.is_ok();
    while timeout(Duration::from_millis(200), notifications.next()).await.is_ok() {}
    woken
}

async fn holding_and_releasing_wake(p: Fixture) {
    let event = state(&Keys::generate(), 1);
    let mut notifications = p.purgatory.notifications();
    // The first may be the subscription's own; in memory there is none.
    p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    assert!(is_woken(&mut notifications).await);

    p.purgatory.hold(&hold(&event, LONG)).await.unwrap();
    assert!(is_woken(&mut notifications).await);
    let leased = p.purgatory.mark_releasing(&[release(&event)], LONG).await;
    assert_eq!(leased.unwrap().leased.len(), 1);
    assert!(is_woken(&mut notifications).await);

    p.read(&["repo"]).await;
    let woken = timeout(Duration::from_millis(200), notifications.next()).await;
    assert!(woken.is_err());
}

async fn an_entry_that_goes_wakes_only_for_what_is_ordered_after_it(p: Fixture) {
    let author = Keys::generate();
    let [first, second, alone] = [announcement(&author, 1), state(&author, 2), state(&author, 3)];
    let behind = Release {
        after: ids([&first]),
        ..release(&second)
    };
    let mut leased = Vec::new();
    for release in [release(&first), release(&alone), behind] {
        leased.extend(p.purgatory.mark_releasing(&[release], LONG).await.unwrap().leased);
    }
    assert_eq!(leased.len(), 2);
    let mut notifications = p.purgatory.notifications();
    p.purgatory.mark_dirty(&coordinates(&["repo"])).await.unwrap();
    assert!(is_woken(&mut notifications).await);
    p.clear_dirty().await;

    for (leased, expected) in leased.iter().rev().zip([false, true]) {
        let settled = p
            .purgatory
            .settle(&leased.event.id, leased.lease, &Settlement::Served)
            .await;
        assert!(settled.unwrap());
        let woken = timeout(Duration::from_millis(300), notifications.next()).await.is_ok();
        assert_eq!(woken, expected);
    }
    assert_eq!(p.clear_dirty().await, [""; 0]);
}

async fn a_wake_up_that_nobody_waited_for_is_not_lost(p: Fixture) {
    let mut notifications = p.purgatory.notifications();
    p.purgatory.mark_dirty(&coordinates(&["a"])).await.unwrap();
    is_woken(&mut notifications).await;

    // Waiting is given up, and then it happens.
    assert!(timeout(Duration::from_millis(50), notifications.next()).await.is_err());
    p.purgatory.mark_dirty(&coordinates(&["a"])).await.unwrap();
    assert!(is_woken(&mut notifications).await);
}

async fn spans_beyond_all_bounds_are_cut(p: Fixture) {
    let event = announcement(&Keys::generate(), 1);
    p.purgatory.hold(&hold(&event, u64::MAX)).await.unwrap();
    assert_eq!(p.purgatory.mark_overdue(usize::MAX, u64::MAX).await.unwrap(), 0);

    let entry = p.entry(&event).await.unwrap();
    assert_eq!(entry.deadline, entry.held_since + u64::from(u32::MAX));
    let leased = p
        .purgatory
        .mark_releasing(&[release(&event)], u64::MAX)
        .await
        .unwrap()
        .leased;
    assert_eq!(leased.len(), 1);
    assert_eq!(p.purgatory.take_due(usize::MAX, 0).await.unwrap(), []);
}

async fn concurrent_holds_leave_one_announcement(p: Fixture) {
    let author = Keys::generate();
    let events: Vec<_> = (0..30).map(|at| announcement(&author, at % 10)).collect();

    let holds: Vec<_> = events
        .iter()
        .map(|event| {
            let (purgatory, hold) = (p.purgatory.clone(), hold(event, LONG));
            tokio::spawn(async move { purgatory.hold(&hold).await.unwrap() })
        })
        .collect();
    for hold in holds {
        hold.await.unwrap();
    }

    let winner = events
        .iter()
        .max_by_key(|event| (event.created_at, std::cmp::Reverse(event.id)));
    let entries = p.read(&["repo"]).await.entries;
    assert_eq!((entries.len(), entries[0].event.as_ref()), (1, winner.unwrap()));
}

async fn whatever_waits_can_be_marked_dirty_at_once(p: Fixture) {
    let author = Keys::generate();
    let releasing = event(&author, 30618, "releasing", 1);
    let leased = p
        .purgatory
        .mark_releasing(&[release(&releasing)], LONG)
        .await
        .unwrap()
        .leased;
    assert_eq!(leased.len(), 1);
    let count = 3;
    for number in 0..count {
        let name = format!("held-{number}");
        p.purgatory
            .hold(&hold(&event(&author, 30618, &name, 1), LONG))
            .await
            .unwrap();
    }
    let place = coordinate(&author, "pushed");
    let put = p.purgatory.put_placeholder(&releasing.id, &place, oid('a'), LONG, None);
    assert_eq!(put.await.unwrap(), PlaceholderOutcome::Recorded);
    for (name, number) in p.purgatory.dirty(count + 9).await.unwrap() {
        assert!(p.purgatory.clear_dirty(&name, number).await.unwrap());
    }

    p.look_at_pull_requests().await;

    p.purgatory.mark_held().await.unwrap();

    let dirty = p.purgatory.dirty(count + 9).await.unwrap();
    let dirty: BTreeSet<_> = dirty.into_iter().map(|(at, _)| at.identifier.to_string()).collect();
    let expected = (0..count).map(|number| format!("held-{number}"));
    assert_eq!(dirty, expected.collect());
    assert_eq!(p.look_at_pull_requests().await, ["pushed"]);
}

async fn what_is_served_while_its_author_vanishes_hides_nothing(p: Fixture) {
    let author = Keys::generate();
    let states: Vec<_> = (100..160)
        .map(|number| event(&author, 30618, &format!("r{number}"), 1))
        .collect();
    let first = Release {
        coordinates: home(&states[0]),
        ..release(&states[0])
    };
    let leased = p.purgatory.mark_releasing(&[first], LONG).await.unwrap().leased;
    for state in &states[1..] {
        let hold = Hold {
            room: Room::Always,
            ..hold(state, LONG)
        };
        assert_eq!(p.purgatory.hold(&hold).await.unwrap(), HoldOutcome::Held);
    }
    let mut cursor = ("author".to_owned(), "0".to_owned());
    let mut vanished = 0;

    while !cursor.0.is_empty() {
        let (page, index, read, _) = p
            .purgatory
            .vanish_page(&author.public_key(), LONG, &cursor)
            .await
            .unwrap();
        if vanished == 0 && page > 0 {
            let served = p.purgatory.settle(&states[0].id, leased[0].lease, &Settlement::Served);
            assert!(served.await.unwrap());
        }
        vanished += page;
        cursor = (index, read);
    }

    assert_eq!(vanished, states.len() - 1);
}

/// The call after a page that was cut continued behind the last member that was marked, wherever it was by then: what
/// stood between its old place and its new one was never marked.
async fn what_moves_while_everything_is_marked_dirty_hides_nothing(p: Fixture) {
    let mut waiting = Vec::new();
    for number in 0..4 {
        let pull_request = event(&Keys::generate(), 1618, "pr", number);
        let names: Vec<String> = (0..16).map(|other| format!("{number}-{other}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let hold = Hold {
            coordinates: coordinates(&names),
            ..hold(&pull_request, LONG + number)
        };
        p.purgatory.hold(&hold).await.unwrap();
        waiting.push(hold);
    }
    assert_eq!(p.look_at_pull_requests().await.len(), 64);
    let start = ("0".to_owned(), String::new());
    let mut cursor = p.purgatory.mark_held_page(&start).await.unwrap();
    assert!(!cursor.1.is_empty(), "{cursor:?}");
    let marked = || async {
        let marked = p.purgatory.dirty_pull_requests(99).await.unwrap();
        let marked: BTreeSet<_> = marked.into_iter().map(|(coordinate, _)| coordinate).collect();
        marked
    };

    while cursor != start {
        let marked = marked().await;
        for hold in waiting.iter_mut().filter(|hold| hold.coordinates.is_subset(&marked)) {
            assert_eq!(p.purgatory.end(&ids([&hold.event])).await.unwrap(), 1);
            hold.hold_secs += 10;
            p.purgatory.hold(hold).await.unwrap();
        }
        cursor = p.purgatory.mark_held_page(&cursor).await.unwrap();
    }

    assert_eq!(marked().await.len(), 64);
}

async fn neither_overdue_placeholders_nor_overdue_entries_starve_the_others(p: Fixture) {
    let author = Keys::generate();
    for number in 0..8 {
        let state = event(&author, 30618, &format!("entry-{number}"), 1);
        p.purgatory.hold(&hold(&state, 0)).await.unwrap();
        let place = coordinate(&author, &format!("placeholder-{number}"));
        let put = p.purgatory.put_placeholder(&state.id, &place, oid('a'), 0, None).await;
        assert_eq!(put.unwrap(), PlaceholderOutcome::Recorded);
    }
    p.clear_dirty().await;
    p.look_at_pull_requests().await;

    for _ in 0..2 {
        assert_eq!(p.purgatory.mark_overdue(4, LONG).await.unwrap(), 4);

        assert_eq!(
            (p.clear_dirty().await.len(), p.look_at_pull_requests().await.len()),
            (2, 2)
        );
    }
}

async fn an_epoch_that_has_begun_goes_on(p: Fixture) {
    let found = p.purgatory.epoch().await.unwrap();

    let name = p.purgatory.begin_epoch(&found).await.unwrap();

    let epoch = p.purgatory.epoch().await.unwrap();
    assert_eq!(epoch.name, name);
    assert!(!epoch.is_unknown() && !epoch.is_of_another_server(), "{epoch:?}");
    // Whoever found the same one is told of this one, and begins no other.
    assert_eq!(p.purgatory.begin_epoch(&found).await.unwrap(), name);
}

async fn what_is_pending_is_told(p: Fixture) {
    let author = Keys::generate();
    let pending = async || {
        let pending = p.purgatory.pending().await.unwrap();
        assert_eq!(pending.epoch, p.purgatory.epoch().await.unwrap());
        let kinds = [
            (pending.is_overdue, "overdue"),
            (pending.is_dirty, "dirty"),
            (pending.has_pull_requests, "pull requests"),
            (pending.is_due, "due"),
        ];
        let told = kinds.into_iter().filter_map(|(is_so, kind)| is_so.then_some(kind));
        told.collect::<Vec<_>>()
    };
    assert_eq!(pending().await, [""; 0]);

    p.purgatory.hold(&hold(&state(&author, 1), LONG)).await.unwrap();
    assert_eq!(pending().await, ["dirty"]);
    p.clear_dirty().await;
    p.look_at_pull_requests().await;
    assert_eq!(pending().await, [""; 0]);

    let pr = event(&author, 1618, "repo", 1);
    p.purgatory.hold(&hold(&pr, LONG)).await.unwrap();
    assert_eq!(pending().await, ["pull requests"]);
    p.look_at_pull_requests().await;

    let leased = p.purgatory.mark_releasing(&[release(&state(&author, 2))], 0).await;
    assert_eq!(leased.unwrap().leased.len(), 1);
    p.clear_dirty().await;
    assert_eq!(pending().await, ["due"]);
    p.purgatory.take_due(1, LONG).await.unwrap();
    assert_eq!(pending().await, [""; 0]);

    let (place, absent) = (coordinate(&author, "repo"), state(&author, 3).id);
    let placeholder = p.purgatory.put_placeholder(&absent, &place, oid('a'), 0, None);
    placeholder.await.unwrap();
    p.look_at_pull_requests().await;
    assert_eq!(pending().await, ["overdue"]);
    p.purgatory.mark_overdue(4, LONG).await.unwrap();
    p.look_at_pull_requests().await;
    p.clear_dirty().await;
    assert_eq!(pending().await, [""; 0]);

    p.purgatory.hold(&hold(&state(&author, 5), 0)).await.unwrap();
    p.clear_dirty().await;
    p.look_at_pull_requests().await;
    assert_eq!(pending().await, ["overdue"]);
}

async fn entries_are_read_by_their_ids(p: Fixture) {
    let author = Keys::generate();
    let [held, absent] = [1, 2].map(|at| state(&author, at));
    p.purgatory.hold(&hold(&held, LONG)).await.unwrap();

    let entries = p.purgatory.entries(&ids([&held, &absent])).await.unwrap();

    assert_eq!(entries, p.read(&["repo"]).await.entries);
}
