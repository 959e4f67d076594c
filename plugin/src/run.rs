//! Answers line after line until strfry closes our standard input.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::mem;
use std::sync::Arc;

use nostr::event::Event;
use nostr::types::Timestamp;
use plugin::chain::Chain;
use plugin::protocol::Request;
use plugin::protocol::ScannedLine;
use plugin::protocol::Subject;
use plugin::protocol::write_answer;
use shared::nip01::check_date;
use shared::purgatory::NotedRefusal;
use shared::refusal_log::excerpt;
use shared::rules::Refusal;
use shared::rules::must_belong;
use shared::write_policy::Answer;
use shared::write_policy::Considered;
use shared::write_policy::WritePolicy;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Who answers.
pub(crate) struct Answerer {
    /// Our own rules.
    pub(crate) policy: WritePolicy,
    /// The operator's own plugin.
    pub(crate) chain: Option<Chain>,
}

/// Answers until the end of standard input. The thread that has read an event of another kind answers it; all others
/// are answered on `runtime`, which another thread keeps running.
///
/// # Errors
/// Standard output is gone, so nobody waits for answers any more.
pub(crate) fn run(answerer: &Arc<Answerer>, runtime: &Handle) -> io::Result<()> {
    let mut stdin = BufReader::with_capacity(READ_BYTES, io::stdin().lock());
    let mut stdout = io::stdout().lock();
    let other_kinds = answerer.policy.other_kinds;
    let (mut line, mut answer_line) = (Vec::new(), Vec::new());
    while read_line(&mut stdin, &mut line) {
        let scanned = ScannedLine::of(&line);
        if answerer.chain.is_none() && !scanned.may_concern(other_kinds) {
            write_answer(&mut answer_line, &scanned.id, &Answer::Accept);
        } else {
            let request = scanned.read(other_kinds);
            let (answerer, id, line) = (Arc::clone(answerer), request.id.clone(), mem::take(&mut line));
            let answered = runtime.spawn(async move { answerer.answer(&request, &line).await });
            // Whatever goes wrong, strfry's writer must not be left waiting.
            let panicked = |_| Answer::from(Refusal::Unavailable("the write policy"));
            let answer = runtime.block_on(answered).unwrap_or_else(panicked);
            write_answer(&mut answer_line, &id, &answer);
        }
        stdout.write_all(&answer_line)?;
        stdout.flush()?;
    }
    Ok(())
}

impl Answerer {
    async fn answer(&self, request: &Request, line: &[u8]) -> Answer {
        let event = match &request.subject {
            Subject::NotOurs => return self.ask_chained(line, request).await,
            Subject::Malformed { reason } => return refuse_malformed(&self.policy, request, reason),
            Subject::Ours(event) | Subject::Inexact { event, .. } => event,
        };
        let answer = self.answer_for(event, request, line).await;
        self.policy.note(event, &request.source, &answer);
        answer
    }

    /// Asks our rules, then the operator's, and then acts: an event is held only if neither refuses it.
    async fn answer_for(&self, event: &Event, request: &Request, line: &[u8]) -> Answer {
        let mut deadline = self.policy.deadline();
        let considered = match self.check(request) {
            Ok(Checked::Verified) => self.policy.consider(event, &request.source, deadline).await,
            Ok(Checked::NotOurs) => Considered::NotOurs,
            Err(refusal) => refusal.into(),
        };
        if self
            .chain
            .as_ref()
            .is_some_and(|chain| chain.is_asked(event, &considered))
        {
            let asked_at = Instant::now();
            match self.ask_chained(line, request).await {
                Answer::Accept => deadline += asked_at.elapsed(),
                against @ (Answer::Hold(_) | Answer::Refuse(_)) => return against,
            }
        }
        self.policy.complete(event, considered, deadline).await
    }

    async fn ask_chained(&self, line: &[u8], request: &Request) -> Answer {
        match &self.chain {
            Some(chain) => chain.ask(line, &request.id).await,
            None => Answer::Accept,
        }
    }

    /// Checks what strfry has not checked.
    fn check(&self, request: &Request) -> Result<Checked, Refusal> {
        match &request.subject {
            Subject::Ours(event) => verified(event, request.verified, Timestamp::now()).map(|()| Checked::Verified),
            Subject::Inexact { .. } if request.verified => Ok(Checked::Verified),
            Subject::Inexact { event, reason } if must_belong(event, self.policy.other_kinds) => {
                Err(Refusal::Malformed(reason.as_str().into()))
            }
            Subject::Inexact { .. } | Subject::NotOurs | Subject::Malformed { .. } => Ok(Checked::NotOurs),
        }
    }
}

/// Whether our rules apply to an event, as far as its line shows it.
enum Checked {
    /// Its author has signed it.
    Verified,
    /// No rule here applies to it, with a valid signature or without.
    NotOurs,
}

/// Refuses something that is not an event, of which only the claimed id is known.
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
/// strfry checks events of a stream or sync only after we accept them, and a held event is not accepted: without this
/// check anyone could fill the purgatory with forged events, and an event that strfry will never store would govern a
/// repository.
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

/// Reads the next line into `line`; `false`: there is none, or one that is longer than any event.
fn read_line(stdin: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    line.clear();
    match stdin.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line) {
        Ok(0) => false,
        Ok(_) if line.last() == Some(&b'\n') => true,
        Ok(_) => {
            tracing::error!(line.bytes = line.len(), "a line of strfry is cut off or too long");
            false
        }
        Err(error) => {
            tracing::error!(%error, "cannot read from strfry");
            false
        }
    }
}

/// Read at a time: as much as a pipe has, so that hardly any line takes a second step.
const READ_BYTES: usize = 64 * 1024;

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
