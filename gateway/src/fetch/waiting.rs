//! Who gets a slot, and when: a fetch waits for one, or for the answer to it that another request's git is writing.

use std::time::Duration;

use tokio::time::sleep;

use crate::fairness::slots::Slot;
use crate::fetch::answers::AnswerCache;
use crate::fetch::answers::Sought;
use crate::fetch::answers::WholeAnswer;
use crate::fetch::answers::Writing;
use crate::fetch::receive::PackFetch;
use crate::fetch::slot::FetchSlots;

pub(super) enum Awaited {
    Kept(WholeAnswer),
    /// A slot for a git process of its own, and whether its answer may be kept for others.
    Slot(Slot, Option<Writing>),
}

/// Waits for a slot, or for the answer. If another request's git process writes that answer, waits for it, outside the
/// queue and no longer than `another_wait_max`.
pub(super) async fn slot_or_answer(
    fetch: &PackFetch,
    slots: &FetchSlots,
    answers: &AnswerCache,
    another_wait_max: Duration,
) -> Awaited {
    let acquired = slots.acquire(fetch.kind, fetch.request.address);
    let Some(key) = fetch.key.as_ref().filter(|_| answers.per_repository_max() > 0) else {
        return Awaited::Slot(acquired.await, None);
    };
    let mut news = answers.news();
    let patience = sleep(another_wait_max);
    tokio::pin!(acquired, patience);
    let writing = loop {
        match answers.seek(key) {
            Sought::Kept(answer) => return Awaited::Kept(answer),
            Sought::Nowhere(writing) => break writing,
            Sought::WrittenForAnother => {}
        }
        tokio::select! {
            // The sender is here as well.
            _ = news.changed() => {}
            () = &mut patience => break answers.begin(key),
        }
    };
    loop {
        tokio::select! {
            biased;
            _ = news.changed() => {
                if let Some(answer) = answers.find(key) {
                    return Awaited::Kept(answer);
                }
            }
            slot = &mut acquired => return Awaited::Slot(slot, Some(writing)),
        }
    }
}
