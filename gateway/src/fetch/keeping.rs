//! What becomes of an answer when git has ended: one that others ask for too is kept for them.

use crate::fetch::advertised::tags_of;
use crate::fetch::answer_key::AnswerKey;
use crate::fetch::answers::AnswerCache;
use crate::fetch::git_run::GitEnd;
use crate::fetch::limits::UploadPackLimits;
use crate::fetch::spool::FetchSpool;
use crate::fetch::spool::SpoolEnd;
use crate::repositories::disk_use::Spare;
use crate::repositories::disk_use::bytes_free;
use crate::repositories::layout::in_background;
use crate::repositories::repository::RepositoryStore;

#[derive(Debug, Clone)]
pub(super) struct AnswerKeeper {
    pub(super) store: RepositoryStore,
    pub(super) answers: AnswerCache,
    pub(super) limits: UploadPackLimits,
}

impl AnswerKeeper {
    /// Ends an answer that git has written, and keeps it if it is worth it.
    pub(super) async fn finish(&self, key: Option<&AnswerKey>, answer: &FetchSpool, end: GitEnd) {
        let writing = answer.take_writing();
        answer.end(SpoolEnd::Whole);
        let (Some(key), len) = (key, answer.len()) else {
            return;
        };
        self.answers.note_len(key, len);
        let writing = writing.filter(|writing| end == GitEnd::Answered && writing.is_kept_with(len));
        let Some(writing) = writing else { return };
        if self.has_tags_of(key).await && self.is_disk_free().await {
            match answer.whole().await {
                Ok(answer) => writing.keep(answer).await,
                Err(error) => tracing::warn!(%error, "cannot keep an answer"),
            }
        }
    }

    /// Whether the tags are those that a key names. git may have seen others than this process before.
    async fn has_tags_of(&self, key: &AnswerKey) -> bool {
        let Some(tags) = key.tags else {
            return true;
        };
        let refs = self.store.cached_refs_of(key.repository.to_path_buf()).await;
        refs.is_ok_and(|refs| refs.is_some_and(|refs| tags_of(&refs) == tags))
    }

    /// Whether there is room for an answer to keep; if not, kept answers are dropped. If the free space is unknown,
    /// there is no room.
    async fn is_disk_free(&self) -> bool {
        let layout = self.store.layout().clone();
        let needed = self.limits.disk_free_min.saturating_add(self.limits.answer_bytes_max);
        let answers = self.answers.clone();
        let is_free = in_background(move || {
            let is_free = bytes_free(layout.root()).is_ok_and(|free| free >= needed);
            if !is_free {
                answers.give_way();
            }
            is_free
        });
        is_free.await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::StreamExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::fetch::testing::READER;
    use crate::fetch::testing::body;
    use crate::fetch::testing::cloned;
    use crate::fetch::testing::fetch_of;
    use crate::fetch::testing::large;
    use crate::fetch::testing::lines;
    use crate::fetch::testing::readable;
    use crate::fetch::testing::refs;
    use crate::fetch::testing::server;
    use crate::fetch::testing::sources;
    use crate::fetch::testing::v2;
    use crate::fetch::testing::whole;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn clones_at_once_cost_one_git_and_the_next_none() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let patient = UploadPackLimits {
            another_wait_max: Duration::from_secs(60),
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, patient);
        let request = fetch_of(commit);

        let all = join_all((0..8).map(|_| cloned(&server, &repository, &request))).await;

        assert!(all.iter().all(|answer| *answer == all[0] && answer.len() > 3 << 20));
        assert_eq!(sources(&server), [1, 7]);
        assert!(cloned(&server, &repository, &request).await == all[0]);
        assert_eq!(sources(&server), [1, 8]);
        assert_eq!(
            server.receiver.fetches.in_use(),
            (0, 0),
            "what is kept is in nobody's share"
        );
    }

    #[tokio::test]
    async fn what_was_asked_for_twice_is_kept_and_nothing_else_is() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let once = cloned(&server, &repository, &fetch_of(commit)).await;
        assert_eq!(server.answer_load().bytes, 0);

        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(cloned(&server, &repository, &fetch_of(commit)).await);
        }

        assert!(answers.iter().all(|answer| *answer == once));
        assert_eq!(sources(&server), [2, 2]);
        assert!(server.answer_load().bytes > 3 << 20);
    }

    /// A client that declines tags gets the kept answer; one that takes them does not, once there are other tags.
    #[tokio::test]
    async fn other_refs_are_another_answer() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let want = format!("want {commit}\n");
        let with_tags = lines(&["command=fetch", "0001", "include-tag\n", &want, "done\n", "0000"]);
        for request in [&with_tags, &fetch_of(commit)] {
            for _ in 0..2 {
                cloned(&server, &repository, request).await;
            }
        }
        world
            .git(&repository, &["tag", "-a", "-m", "x", "one", &commit.to_string()], b"")
            .await;

        cloned(&server, &repository, &with_tags).await;
        assert_eq!(sources(&server), [5, 0]);
        cloned(&server, &repository, &fetch_of(commit)).await;
        assert_eq!(sources(&server), [5, 1]);

        // It is not a ref any more: git is asked, which may have it still.
        world
            .git(&repository, &["update-ref", "-d", "refs/heads/master"], b"")
            .await;
        world.git(&repository, &["tag", "-d", "one"], b"").await;
        cloned(&server, &repository, &fetch_of(commit)).await;
        assert_eq!(sources(&server), [5, 1]);
    }

    #[tokio::test]
    async fn a_repository_keeps_no_more_than_its_part() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let want = format!("want {commit}\n");
        let shallow = lines(&["command=fetch", "0001", "deepen 1\n", &want, "done\n", "0000"]);
        let limits = |kept_bytes_max| UploadPackLimits {
            kept_bytes_max,
            ..UploadPackLimits::DEFAULT
        };
        // Room for one of two.
        let one = server(&world, limits(16 << 20));
        for request in [&fetch_of(commit), &shallow] {
            for _ in 0..3 {
                cloned(&one, &repository, request).await;
            }
        }
        assert_eq!(sources(&one), [4, 2]);
        cloned(&one, &repository, &fetch_of(commit)).await;
        assert_eq!(sources(&one), [5, 2]);
        assert!(one.answer_load().bytes <= 4 << 20);

        for too_few in [8 << 20, 0] {
            let server = server(&world, limits(too_few));
            let request = fetch_of(commit);
            let answers = join_all((0..4).map(|_| cloned(&server, &repository, &request))).await;
            assert!(answers.iter().all(|answer| *answer == answers[0]));
            for _ in 0..3 {
                assert!(cloned(&server, &repository, &request).await == answers[0]);
            }
            assert_eq!((sources(&server)[1], server.answer_load().bytes), (0, 0));
        }
    }

    /// A client that has read the beginning of an answer must
    /// see that the rest is missing, and no other client gets it.
    #[tokio::test]
    async fn an_answer_whose_git_dies_is_cut_off_and_not_kept() {
        let world = World::whose_git_can_be_killed().await;
        let (repository, commit) = large(&world).await;
        let (server, advertised) = (server(&world, UploadPackLimits::DEFAULT), refs(&repository).await);
        let request = fetch_of(commit);
        world.fail_git("upload-pack", "git \"$@\" | head -c 1000000; kill -KILL $$");

        for _ in 0..3 {
            let found = readable(repository.path(), &advertised);
            let answer = server.fetch(found, READER, v2(), body(&request)).await.unwrap();
            let chunks: Vec<_> = answer.into_stream().collect().await;

            let (last, before) = chunks.split_last().unwrap();
            assert!(last.is_err() && before.iter().all(Result::is_ok));
            assert!(before.iter().flatten().map(Bytes::len).sum::<usize>() <= 1_000_000);
        }
        assert_eq!((sources(&server), server.answer_load().bytes), ([3, 0], 0));
    }

    #[tokio::test]
    async fn who_waits_for_the_git_of_a_slow_one_has_its_own_in_the_end() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let limits = UploadPackLimits {
            another_wait_max: Duration::from_millis(10),
            answer_bytes_max: 1 << 20,
            ..UploadPackLimits::DEFAULT
        };
        let server = server(&world, limits);
        let (refs, request) = (refs(&repository).await, fetch_of(commit));
        let slow = server.fetch(readable(repository.path(), &refs), READER, v2(), body(&request));
        let slow = slow.await.unwrap();

        for _ in 0..3 {
            assert!(cloned(&server, &repository, &request).await.len() > 3 << 20);
        }

        assert!(whole(slow).await.unwrap().len() > 3 << 20);
        assert_eq!(
            (sources(&server)[1], server.answer_load().bytes),
            (0, 0),
            "no beginning was left"
        );
    }

    #[tokio::test]
    async fn who_comes_when_the_first_has_gone_gets_all_of_it() {
        let world = World::new().await;
        let (repository, commit) = large(&world).await;
        let server = server(&world, UploadPackLimits::DEFAULT);
        let (refs, request) = (refs(&repository).await, fetch_of(commit));
        for _ in 0..3 {
            let gone = server.fetch(readable(repository.path(), &refs), READER, v2(), body(&request));
            drop(gone.await.unwrap());

            assert!(cloned(&server, &repository, &request).await.len() > 3 << 20);
        }
    }
}
