//! The index of listings: who lists a key as maintainer. It ends with what merely was held, and stays with what is
//! served.

use std::collections::BTreeSet;

use nostr::event::Event;
use nostr::key::Keys;
use shared::nip01::Deletion;
use shared::purgatory::*;

use crate::fixture::*;

on_both_stores! {
    who_lists_an_author_is_found_by_the_author
    a_new_listing_keeps_dirty_who_is_being_decided_about
    what_merely_was_held_lists_nobody_when_it_has_ended
    what_sleeps_or_is_served_lists
    a_replacement_lists_whom_it_lists
    as_many_as_an_announcement_may_list_are_noted_and_replaced
    whom_a_program_that_died_has_not_noted_is_noted_when_the_announcement_comes_again
    of_many_nobody_is_left_when_the_announcement_has_ended
    what_another_announcement_lists_stays_when_the_rest_of_one_is_taken_off
    whom_an_announcement_lists_counts_for_the_limits
    what_an_index_has_of_earlier_versions_is_taken_off_whole
}

async fn who_lists_an_author_is_found_by_the_author(p: Fixture) {
    let [first, second, listed, other] = [1, 2, 3, 4].map(|_| Keys::generate());
    let at = |keys: &Keys| coordinate(keys, "repo");
    let found = async |keys: &Keys, count_max| {
        let listing = p.purgatory.listing(&[at(keys)].into(), count_max).await.unwrap();
        let read = p.purgatory.read(&[at(keys)].into()).await.unwrap().listed_by;
        let owners: BTreeSet<_> = listing.iter().map(|at| at.owner).collect();
        if count_max == 9 {
            assert_eq!(read.get(&at(keys)).cloned().unwrap_or_default(), owners);
        }
        listing
    };
    for owner in [&first, &second] {
        let announcement = listing(owner, 1, &[&listed, &other]);
        p.purgatory.hold(&hold(&announcement, LONG)).await.unwrap();
    }
    assert_eq!(found(&listed, 9).await, [at(&first), at(&second)].into());
    assert_eq!(found(&first, 9).await, BTreeSet::new());

    // Served, it comes first; and one that is not listed any more goes.
    let still = BTreeSet::from([listed.public_key()]);
    let held = Listing::new(&BTreeSet::new(), &still);
    let served = Listing::new(&still, &BTreeSet::new());
    for (owner, listing) in [(&first, held), (&second, served)] {
        let gone = p.purgatory.note_listings(&at(owner), &listing).await;
        assert_eq!(gone.unwrap(), 1);
    }
    assert_eq!(found(&listed, 1).await, [at(&second)].into());
    assert_eq!(found(&other, 9).await, BTreeSet::new());

    let both = [at(&listed), at(&other)].into();
    p.purgatory
        .note_listings(&at(&second), &Listing::default())
        .await
        .unwrap();
    assert_eq!(p.purgatory.listing(&both, 9).await.unwrap(), [at(&first)].into());
}

/// A push that had not found a repository which lists its owner cleared its mark, and that repository stayed behind.
/// The model of the protocol found it.
async fn a_new_listing_keeps_dirty_who_is_being_decided_about(p: Fixture) {
    let [owner, listed, clean] = [1, 2, 3].map(|_| Keys::generate());
    let at = |keys: &Keys| coordinate(keys, "repo");
    let number = async |keys: &Keys| p.purgatory.dirty_number(&at(keys)).await.unwrap();
    let clear = async |read| {
        let cleared = p.purgatory.clear_dirty(&at(&listed), read).await;
        cleared.unwrap();
    };
    p.purgatory.mark_dirty(&[at(&listed)].into()).await.unwrap();
    let read = number(&listed).await.unwrap();

    let announcement = listing(&owner, 1, &[&listed, &clean]);
    p.purgatory.hold(&hold(&announcement, LONG)).await.unwrap();

    clear(read).await;
    let raised = number(&listed).await.unwrap();
    assert_eq!(number(&clean).await, None, "nobody is deciding about it");

    // What is noted already is no news.
    let both = Listing::new(&[&listed, &clean].map(Keys::public_key).into(), &BTreeSet::new());
    p.purgatory.note_listings(&at(&owner), &both).await.unwrap();
    clear(raised).await;
    assert_eq!(number(&listed).await, None);
}

/// Returns whom the announcements of `owner` list, by the index, and how many it has noted.
async fn noted(p: &Fixture, owner: &Keys, keys: &[&Keys]) -> (Vec<bool>, usize) {
    let keys_and_owner = keys.iter().copied().chain([owner]);
    let coordinates = keys_and_owner.map(|key| coordinate(key, "repo")).collect();
    let reading = p.purgatory.read(&coordinates).await.unwrap();
    let lists = |key: &&Keys| {
        let listed_by = reading.listed_by.get(&coordinate(key, "repo"));
        listed_by.is_some_and(|owners| owners.contains(&owner.public_key()))
    };
    let noted = reading.noted.get(&coordinate(owner, "repo"));
    (keys.iter().map(lists).collect(), noted.copied().unwrap_or_default())
}

/// Its index stayed for ever, and no limit counted it: announcements that were held and deleted filled Redis.
async fn what_merely_was_held_lists_nobody_when_it_has_ended(p: Fixture) {
    for way in ["end", "expire", "delete", "delete its address", "vanish", "drop"] {
        let [owner, first, second] = [1, 2, 3].map(|_| Keys::generate());
        let announcement = listing(&owner, 1, &[&first, &second]);
        p.purgatory.hold(&hold(&announcement, 0)).await.unwrap();
        assert_eq!(noted(&p, &owner, &[&first, &second]).await, (vec![true, true], 2));

        end(&p, &announcement, way).await;

        assert_eq!(
            noted(&p, &owner, &[&first, &second]).await,
            (vec![false, false], 0),
            "{way}"
        );
    }
}

async fn end(p: &Fixture, announcement: &Event, way: &str) {
    let id = &announcement.id;
    let deletion = |event_ids, addresses| Deletion {
        author: announcement.pubkey,
        created_at: 9,
        event_ids,
        addresses,
    };
    match way {
        "end" => assert_eq!(p.purgatory.end(&ids([announcement])).await.unwrap(), 1),
        "expire" => assert!(p.purgatory.expire(id, Expiry::Gone).await.unwrap()),
        "delete" => {
            let deletion = deletion(ids([announcement]), BTreeSet::new());
            assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), 1);
        }
        "delete its address" => {
            let deletion = deletion(BTreeSet::new(), [(30617, identifier("repo"))].into());
            assert_eq!(p.purgatory.delete(&deletion).await.unwrap(), 1);
        }
        "vanish" => assert_eq!(p.purgatory.vanish(&announcement.pubkey, 9).await.unwrap(), 1),
        "drop" => assert!(p.purgatory.drop_entry(id).await.unwrap().is_some()),
        _ => panic!("{way}"),
    }
}

async fn what_sleeps_or_is_served_lists(p: Fixture) {
    let [owner, first, second] = [1, 2, 3].map(|_| Keys::generate());
    let [served, held] = [listing(&owner, 1, &[&first]), listing(&owner, 2, &[&first, &second])];
    let [of_served, of_held] = [&first, &second].map(|key| BTreeSet::from([key.public_key()]));
    let listing = Listing::new(&of_served, &of_held);
    p.purgatory.hold(&hold(&served, 0)).await.unwrap();
    let sleep = Expiry::Sleep { secs: LONG };
    assert!(p.purgatory.expire(&served.id, sleep).await.unwrap());
    assert_eq!(noted(&p, &owner, &[&first]).await, (vec![true], 1));
    let leased = p
        .purgatory
        .mark_releasing(&[release(&served)], LONG)
        .await
        .unwrap()
        .leased;
    let of_first = Listing::new(&of_served, &BTreeSet::new());
    p.purgatory
        .note_listings(&coordinate(&owner, "repo"), &of_first)
        .await
        .unwrap();
    let settled = p
        .purgatory
        .settle(&served.id, leased[0].lease, &Settlement::Served)
        .await;
    assert!(settled.unwrap());
    p.purgatory.hold(&hold(&held, LONG)).await.unwrap();
    p.purgatory
        .note_listings(&coordinate(&owner, "repo"), &listing)
        .await
        .unwrap();
    assert_eq!(noted(&p, &owner, &[&first, &second]).await, (vec![true, true], 2));

    assert_eq!(p.purgatory.end(&ids([&held])).await.unwrap(), 1);

    assert_eq!(noted(&p, &owner, &[&first, &second]).await, (vec![true, false], 1));
}

async fn a_replacement_lists_whom_it_lists(p: Fixture) {
    let [owner, first, second, third] = [1, 2, 3, 4].map(|_| Keys::generate());
    for (created_at, listed) in [(1, [&first, &second]), (2, [&second, &third])] {
        let announcement = listing(&owner, created_at, &listed);
        p.purgatory.hold(&hold(&announcement, LONG)).await.unwrap();
    }

    let keys = [&first, &second, &third];
    assert_eq!(noted(&p, &owner, &keys).await, (vec![false, true, true], 2));
}

fn always(announcement: &Event) -> Hold {
    Hold {
        room: Room::Always,
        ..hold(announcement, LONG)
    }
}

/// More than one call notes.
async fn as_many_as_an_announcement_may_list_are_noted_and_replaced(p: Fixture) {
    let owner = Keys::generate();
    let all: Vec<Keys> = (0..300).map(|_| Keys::generate()).collect();
    let all: Vec<&Keys> = all.iter().collect();
    for (created_at, listed) in [(1, 0..200), (2, 100..300), (3, 299..300)] {
        let announcement = listing(&owner, created_at, &all[listed.clone()]);
        assert_eq!(
            p.purgatory.hold(&always(&announcement)).await.unwrap(),
            HoldOutcome::Held
        );

        let expected = (0..all.len()).map(|place| listed.contains(&place)).collect();
        assert_eq!(noted(&p, &owner, &all).await, (expected, listed.len()), "{created_at}");
    }
}

/// Nor has it taken off all whom the announcement before listed.
async fn whom_a_program_that_died_has_not_noted_is_noted_when_the_announcement_comes_again(p: Fixture) {
    let owner = Keys::generate();
    let before: Vec<Keys> = (0..20).map(|_| Keys::generate()).collect();
    let all: Vec<Keys> = (0..150).map(|_| Keys::generate()).collect();
    let all: Vec<&Keys> = all.iter().collect();
    let announcement = listing(&owner, 1, &all);
    p.purgatory.hold(&always(&announcement)).await.unwrap();
    let few = Listing::new(
        &BTreeSet::new(),
        &all[..10].iter().copied().chain(&before).map(Keys::public_key).collect(),
    );
    p.purgatory
        .note_listings(&coordinate(&owner, "repo"), &few)
        .await
        .unwrap();
    assert_eq!(noted(&p, &owner, &all).await.1, 30);

    let again = p.purgatory.hold(&always(&announcement)).await.unwrap();

    assert_eq!(again, HoldOutcome::AlreadyHeld(EntryStatus::Held));
    assert_eq!(noted(&p, &owner, &all).await, (vec![true; 150], 150));
}

/// What its author ends leaves at once: no gateway may be there. Of the rest, the gateway finds the mark.
async fn of_many_nobody_is_left_when_the_announcement_has_ended(p: Fixture) {
    let all: Vec<Keys> = (0..200).map(|_| Keys::generate()).collect();
    let all: Vec<&Keys> = all.iter().collect();
    for way in ["end", "expire", "delete", "delete its address", "vanish", "drop"] {
        let owner = Keys::generate();
        let at = coordinate(&owner, "repo");
        let announcement = listing(&owner, 1, &all);
        let overdue = Hold {
            hold_secs: 0,
            ..always(&announcement)
        };
        assert_eq!(p.purgatory.hold(&overdue).await.unwrap(), HoldOutcome::Held);
        let read = p.purgatory.dirty_number(&at).await.unwrap().unwrap();
        assert!(p.purgatory.clear_dirty(&at, read).await.unwrap());

        end(&p, &announcement, way).await;

        let left = noted(&p, &owner, &all).await.1;
        let is_the_authors = ["delete", "delete its address", "vanish"].contains(&way);
        assert_eq!(left == 0, is_the_authors, "{way}: {left}");
        assert!(p.purgatory.dirty_number(&at).await.unwrap().is_some(), "{way}");
    }
}

/// Between two pages of what an announcement has listed, another one may come.
async fn what_another_announcement_lists_stays_when_the_rest_of_one_is_taken_off(p: Fixture) {
    let owner = Keys::generate();
    let all: Vec<Keys> = (0..200).map(|_| Keys::generate()).collect();
    let all: Vec<&Keys> = all.iter().collect();
    let first = listing(&owner, 1, &all);
    p.purgatory.hold(&always(&first)).await.unwrap();
    let mut cursor = ("author".to_owned(), "0".to_owned());
    let mut left = Vec::new();
    while left.is_empty() {
        let page = p.purgatory.vanish_page(&owner.public_key(), LONG, &cursor).await;
        let (_, index, read, listing) = page.unwrap();
        (cursor, left) = ((index, read), listing);
    }

    let second = listing(&owner, 2, &all[..40]);
    p.purgatory.hold(&always(&second)).await.unwrap();
    p.purgatory.unlist(left).await.unwrap();

    assert_eq!(noted(&p, &owner, &all[..40]).await.0, vec![true; 40]);
}

async fn whom_an_announcement_lists_counts_for_the_limits(p: Fixture) {
    let owner = Keys::generate();
    let listed: Vec<_> = (0..10).map(|_| Keys::generate().public_key()).collect();
    let announce = |name| listing_of(&owner, name, 1, listed.iter().copied());
    let [first, second, third] = ["a", "b", "c"].map(announce);
    let hold_it = async |event| p.purgatory.hold(&hold(event, LONG)).await.unwrap();
    for event in [&first, &second] {
        assert_eq!(hold_it(event).await, HoldOutcome::Held);
    }

    assert_eq!(hold_it(&third).await, HoldOutcome::Full(Limit::BytesPerAuthor));
    assert_eq!(p.purgatory.end(&ids([&first])).await.unwrap(), 1);
    assert_eq!(hold_it(&third).await, HoldOutcome::Held);
    assert_eq!(p.purgatory.end(&ids([&second, &third])).await.unwrap(), 2);
    assert_eq!(p.purgatory.counts().await.unwrap().waiting_bytes, 0);
}

async fn what_an_index_has_of_earlier_versions_is_taken_off_whole(p: Fixture) {
    let owner = Keys::generate();
    let at = coordinate(&owner, "repo");
    let mut all = 0;
    // An earlier version took nothing off.
    for created_at in 1..=5 {
        let listed: Vec<Keys> = (0..150).map(|_| Keys::generate()).collect();
        let announcement = listing(&owner, created_at, &listed.iter().collect::<Vec<_>>());
        assert_eq!(
            p.purgatory.hold(&always(&announcement)).await.unwrap(),
            HoldOutcome::Held
        );
        let marked = p.purgatory.mark_releasing(&[release(&announcement)], LONG).await;
        assert_eq!(marked.unwrap().leased.len(), 1);
        all += listed.len();
        assert_eq!(noted(&p, &owner, &[]).await.1, all);
    }

    // One that is listed now may stand behind all of these.
    let listed: Vec<Keys> = (0..150).map(|_| Keys::generate()).collect();
    let listed: Vec<&Keys> = listed.iter().collect();
    let now = Listing::new(&listed.iter().map(|key| key.public_key()).collect(), &BTreeSet::new());

    assert_eq!(p.purgatory.note_listings(&at, &now).await.unwrap(), all);

    assert_eq!(noted(&p, &owner, &listed).await, (vec![true; 150], 150));
    assert_eq!(p.purgatory.note_listings(&at, &Listing::default()).await.unwrap(), 150);
    assert_eq!(noted(&p, &owner, &[]).await.1, 0);
}
