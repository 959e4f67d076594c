//! Refs of PRs: how many a repository takes, and that they end with their events or by the operator's word.

use nostr::event::Event;
use nostr::key::Keys;
use nostr::nips::nip19::ToBech32;
use tests::clients::nostr::NostrClient;
use tests::clients::nostr::now;
use tests::clients::nostr::sign;
use tests::clients::nostr::tag;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::wait::eventually;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::field;
use crate::fixture::held;
use crate::fixture::in_both_worlds;
use crate::fixture::redis;

in_both_worlds!(
    the_ref_of_a_pull_request_goes_with_its_event,
    the_ref_of_one_that_was_set_while_another_could_not_be_goes_with_its_event,
    the_refs_of_an_author_who_vanishes_go,
    the_refs_of_an_author_whom_the_operator_denies_go,
    pull_requests_of_one_stranger_take_only_his_share,
);

/// Offers a PR of a commit that is there, and waits until it is served with its ref.
async fn offered(served: &Served, nostr: &mut NostrClient, author: &Keys) -> Event {
    let event = served.repository.pull_request(author, &served.commit);
    assert_eq!(nostr.send(&event).await, held());
    eventually("the PR is served", async || nostr.serves(&event).await).await;
    assert!(has_ref(served, &event).await);
    event
}

async fn has_ref(served: &Served, event: &Event) -> bool {
    let name = format!("refs/nostr/{}", event.id);
    let refs = served.git.ls_remote(&served.url).await;
    refs.iter().any(|(found, _)| *found == name)
}

async fn the_ref_of_a_pull_request_goes_with_its_event(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let gone = offered(&served, &mut nostr, &author).await;
    let stays = offered(&served, &mut nostr, &Keys::generate()).await;
    let deletes = |author: &Keys, event: &Event| sign(author, 5, now(), &[tag(&["e", &event.id.to_hex()])]);

    // Nobody else's word counts, and the author's for nothing else.
    assert!(nostr.send(&deletes(&author, &stays)).await.taken);
    assert!(nostr.send(&deletes(&author, &gone)).await.taken);
    eventually("its ref is gone", async || !has_ref(&served, &gone).await).await;
    assert!(has_ref(&served, &stays).await);
    assert!(!served.refs().await.is_empty());
}

/// Both are in one plan, and what fails of it has the rest planned again.
async fn the_ref_of_one_that_was_set_while_another_could_not_be_goes_with_its_event(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let refs = world.repository_dir(&served.repository).join("refs/nostr");
    let (commit, author) = (served.git.commit("offered").await, Keys::generate());
    let [a, b] = [1, 2].map(|number| {
        let tags = [
            tag(&["a", &served.repository.coordinate().to_string()]),
            tag(&["c", &commit]),
        ];
        sign(&author, 1618, now() - number, &tags)
    });
    let (set, not_set) = if a.id < b.id { (a, b) } else { (b, a) };
    for event in [&set, &not_set] {
        assert_eq!(nostr.send(event).await, held());
    }
    // No ref has the name of a directory of another one.
    let within = refs.join(not_set.id.to_string());
    std::fs::create_dir_all(&within).unwrap();
    std::fs::write(within.join("another"), format!("{}\n", served.commit)).unwrap();

    let refspecs = [&set, &not_set].map(|event| format!("{commit}:refs/nostr/{}", event.id));
    let refspecs = refspecs.each_ref().map(String::as_str);
    let pushed = served.git.push(&served.url, &refspecs).await;
    let said = "stored; the events will be released as soon as possible";
    assert!(pushed.ok && pushed.stderr.contains(said), "{pushed:?}");
    eventually("one is served", async || nostr.serves(&set).await).await;
    assert!(has_ref(&served, &set).await && !has_ref(&served, &not_set).await);

    let deletion = sign(&author, 5, now(), &[tag(&["e", &set.id.to_hex()])]);
    assert!(nostr.send(&deletion).await.taken);
    eventually("its ref is gone", async || !has_ref(&served, &set).await).await;
}

async fn the_refs_of_an_author_who_vanishes_go(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let gone = offered(&served, &mut nostr, &author).await;
    let stays = offered(&served, &mut nostr, &Keys::generate()).await;

    let vanishes = sign(&author, 62, now(), &[tag(&["relay", "ALL_RELAYS"])]);
    assert!(nostr.send(&vanishes).await.taken);

    eventually("its ref is gone", async || !has_ref(&served, &gone).await).await;
    assert!(has_ref(&served, &stays).await);
}

async fn the_refs_of_an_author_whom_the_operator_denies_go(kind: Kind) {
    let options = Options {
        with_deny_list: true,
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let author = Keys::generate();
    let gone = offered(&served, &mut nostr, &author).await;
    let stays = offered(&served, &mut nostr, &Keys::generate()).await;

    let list = format!("{} # spam\n", author.public_key().to_bech32().unwrap());
    std::fs::write(world.denied_authors(), list).unwrap();

    eventually("its ref is gone", async || !has_ref(&served, &gone).await).await;
    assert!(has_ref(&served, &stays).await);
}

async fn pull_requests_of_one_stranger_take_only_his_share(kind: Kind) {
    let options = Options {
        gateway: &["--pr-refs-per-author-max=2", "--pr-refs-per-repository-max=12"],
        ..Options::default()
    };
    let world = World::start(kind, options).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let stranger = Keys::generate();
    let numbered = |author: &Keys, number: u64| {
        let tags = [
            tag(&["a", &served.repository.coordinate().to_string()]),
            tag(&["c", &served.commit]),
        ];
        sign(author, 1618, now() - number, &tags)
    };
    let offers: Vec<Event> = (0..4).map(|number| numbered(&stranger, number)).collect();
    for offer in &offers {
        assert_eq!(nostr.send(offer).await, held());
    }

    let there = async || {
        let mut there = 0;
        for offer in &offers {
            there += usize::from(has_ref(&served, offer).await);
        }
        there
    };
    // He has his share before anybody else asks: a turn of theirs may come first.
    eventually("his share is there", async || there().await >= 2).await;

    // Another stranger's fits, and so does the owner's, whatever strangers have.
    let another = offered(&served, &mut nostr, &Keys::generate()).await;
    let beyond = numbered(&Keys::generate(), 9);
    assert_eq!(nostr.send(&beyond).await, held());
    let owners = offered(&served, &mut nostr, &served.repository.owner).await;

    assert_eq!(there().await, 2);
    assert!(has_ref(&served, &another).await && has_ref(&served, &owners).await);
    assert!(!has_ref(&served, &beyond).await && !nostr.serves(&beyond).await);
    if kind == Kind::Strfry {
        let mut redis = redis(&world).await;
        let waits_for = field(&mut redis, &beyond.id.to_hex(), "waiting_for").await;
        assert!(waits_for.unwrap().contains("room for its ref"));
    }
}
