//! Answers line after line until strfry closes our standard input.

use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Write;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use plugin::protocol::Request;
use plugin::protocol::Subject;
use plugin::protocol::answer_line;
use shared::rules::Refusal;
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
    match &request.subject {
        Subject::NotOurs => Answer::Accept,
        Subject::Malformed { reason } => Answer::Refuse(Refusal::Malformed(reason.as_str().into()).to_string()),
        Subject::Ours(event) => {
            // What comes by stream or sync is checked by strfry only after we let it in, and a held event is not let
            // in: without this check anybody could fill the purgatory with events of others.
            if !request.verified && event.verify().is_err() {
                return Answer::Refuse(Refusal::Malformed("id or signature is wrong".into()).to_string());
            }
            policy.answer(event, &request.source).await
        }
    }
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
