//! Answers line after line until strfry closes our standard input.

use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Write;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use nostr::event::Event;
use nostr::types::Timestamp;
use plugin::protocol::Request;
use plugin::protocol::Subject;
use plugin::protocol::answer_line;
use shared::nip01::check_date;
use shared::purgatory::NotedRefusal;
use shared::refusal_log::excerpt;
use shared::rules::Refusal;
use shared::rules::must_belong;
use shared::write_policy::Answer;
use shared::write_policy::WritePolicy;
use tokio::sync::mpsc;

/// Answers until the end of standard input.
///
/// # Errors
/// Standard output is gone, so nobody waits for answers any more.
pub(crate) async fn run(policy: &WritePolicy) -> io::Result<()> {
    let (sender, mut lines) = mpsc::channel(1);
    // Reading blocks; the connections to Redis and relay stay alive meanwhile.
    std::thread::spawn(move || read_lines(&sender));
    while let Some(line) = lines.recv().await {
        let request = Request::parse(&line, policy.other_kinds);
        // Whatever goes wrong, strfry's writer must not be left waiting.
        let answer = AssertUnwindSafe(answer(policy, &request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                let refusal = Refusal::Unavailable("the write policy");
                Answer::Refuse(refusal.to_string())
            });
        let mut stdout = io::stdout().lock();
        stdout.write_all(answer_line(&request.id, &answer).as_bytes())?;
        stdout.flush()?;
    }
    Ok(())
}

async fn answer(policy: &WritePolicy, request: &Request) -> Answer {
    let refuse = |event: &Event, refusal: Refusal| {
        let reason = refusal.to_string();
        policy.log_refusal(event, &request.source, &reason);
        Answer::Refuse(reason)
    };
    match &request.subject {
        Subject::NotOurs => Answer::Accept,
        Subject::Malformed { reason } => refuse_malformed(policy, request, reason),
        Subject::Inexact { event, .. } if request.verified => policy.answer(event, &request.source).await,
        Subject::Inexact { event, .. } if !must_belong(event, policy.other_kinds) => Answer::Accept,
        Subject::Inexact { event, reason } => refuse(event, Refusal::Malformed(reason.as_str().into())),
        Subject::Ours(event) => match verified(event, request.verified, Timestamp::now()) {
            Ok(()) => policy.answer(event, &request.source).await,
            Err(refusal) => refuse(event, refusal),
        },
    }
}

/// Refuses what is no event, of which only the id is known that it claims.
fn refuse_malformed(policy: &WritePolicy, request: &Request, reason: &str) -> Answer {
    let reason = Refusal::Malformed(reason.into()).to_string();
    let source = request.source.as_str();
    if policy.refusals.permits(source) {
        let (id, source) = (excerpt(&request.id), excerpt(source));
        tracing::info!(event.id = id, source, reason = excerpt(&reason), "event refused");
        policy.refusals.note(NotedRefusal {
            request: id.to_owned(),
            what: "event".to_owned(),
            source: source.to_owned(),
            reason: reason.clone(),
            ..NotedRefusal::default()
        });
    }
    Answer::Refuse(reason)
}

/// Checks what strfry has checked of events of its own clients.
///
/// What comes by stream or sync is checked by strfry only after we let it in, and a held event is not let in: without
/// this check anybody could fill the purgatory with events of others, and an event that strfry will never take would
/// govern a repository.
fn verified(event: &Event, by_strfry: bool, now: Timestamp) -> Result<(), Refusal> {
    if by_strfry {
        return Ok(());
    }
    check_date(event, now.as_secs())?;
    if event.verify().is_err() {
        return Err(Refusal::Malformed("id or signature is wrong".into()));
    }
    Ok(())
}

/// Sends on line after line; ends at the end of input, or at a line that is longer than any event.
fn read_lines(sender: &mpsc::Sender<Vec<u8>>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let ended = match stdin.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => true,
            Ok(_) if line.last() != Some(&b'\n') => {
                tracing::error!(line.bytes = line.len(), "a line of strfry is cut off or too long");
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!(%error, "cannot read from strfry");
                true
            }
        };
        if ended || sender.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Longest line read: far above any `events.maxEventSize`.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::key::Keys;

    use super::*;

    #[test]
    fn events_of_streams_are_checked_as_strfry_checks_those_of_its_clients() {
        let now = Timestamp::from_secs(2_000_000_000);
        let dated = |secs: u64| {
            EventBuilder::new(Kind::from_u16(30618), "")
                .custom_created_at(Timestamp::from_secs(secs))
                .finalize(&Keys::generate())
                .unwrap()
        };
        let mut forged = dated(2_000_000_000);
        forged.content = "x".to_owned();
        for (event, expected) in [
            (dated(2_000_000_900), None),
            (dated(2_000_000_901), Some("invalid: created_at too late")),
            (dated(4_000_000_000), Some("invalid: created_at too late")),
            (dated(1_000_000_000), Some("invalid: created_at too early")),
            (forged, Some("invalid: id or signature is wrong")),
        ] {
            let checked = verified(&event, false, now);

            assert_eq!(checked.err().map(|refusal| refusal.to_string()).as_deref(), expected);
            assert!(verified(&event, true, now).is_ok());
        }
    }
}
