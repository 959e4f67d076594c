//! A `.gitmodules` that harms who clones is refused, and names itself.

use nostr::key::Keys;
use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::world::World;

use crate::fixture::Served;
use crate::fixture::held;
use crate::fixture::in_both_worlds;

in_both_worlds!(a_carriage_return_in_gitmodules_is_refused_and_line_ends_are_not);

async fn a_carriage_return_in_gitmodules_is_refused_and_line_ends_are_not(kind: Kind) {
    let world = World::start(kind, Options::default()).await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let before = served.refs().await;
    let write = async |path: &str| {
        served
            .git
            .run(&["reset", "--quiet", "--hard", &served.commit])
            .await
            .expect_ok();
        let content = format!("[submodule \"a\"]\r\n\tpath = {path}\r\n\turl = ../a\r\n");
        served.git.commit_file(".gitmodules", content.as_bytes()).await
    };

    let evil = write("\"a\r\"").await;
    let state = served.repository.state(now() - 50, &[("refs/heads/main", &evil)]);
    assert_eq!(nostr.send(&state).await, held());
    let said = served.git.push(&served.url, &["main"]).await.expect_refused();
    assert!(said.contains("has a carriage return in a path or a URL"), "{said}");
    // In the commit of a PR too.
    let offer = served.repository.pull_request(&Keys::generate(), &evil);
    let refspec = format!("{evil}:refs/nostr/{}", offer.id);
    let said = served.git.push(&served.url, &[&refspec]).await.expect_refused();
    assert!(said.contains("has a carriage return in a path or a URL"), "{said}");
    assert_eq!(served.refs().await, before);

    let plain = write("a").await;
    let state = served.repository.state(now() - 40, &[("refs/heads/main", &plain)]);
    assert_eq!(nostr.send(&state).await, held());
    served.git.push(&served.url, &["main"]).await.expect_ok();
    assert!(nostr.serves(&state).await);
}
