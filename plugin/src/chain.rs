//! The operator's own write policy (`--chain`), run as a child by the protocol that strfry speaks with us
//! (docs/strfry-contract.md): the only place of this program that spawns. It is held to what strfry holds a plugin to;
//! but it never keeps strfry's writer waiting longer than `--chain-timeout-ms`.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nostr::event::Event;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;
use serde_json::Value;
use shared::options::chain::ChainOptions;
use shared::options::chain::ChainScope;
use shared::options::chain::OnError;
use shared::rules::Refusal;
use shared::rules::is_about_git;
use shared::write_policy::Answer;
use shared::write_policy::Considered;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::protocol::ANSWER_BYTES_MAX;

/// A chained plugin. It is started at once, and again when it has ended or broken the protocol.
pub struct Chain {
    scope: ChainScope,
    timeout: Duration,
    on_error: OnError,
    /// Locked while it is asked, also when nobody waits for the answer any more.
    runner: Arc<Mutex<Runner>>,
    group: ChildGroup,
}

impl Chain {
    /// Returns the chained plugin, if there is to be one.
    pub fn new(options: ChainOptions) -> Option<Self> {
        let command = options.command?;
        let group = ChildGroup::default();
        // Beside the first event: a script takes its time to start. If it fails, the next start reports it.
        let running = RunningPlugin::start(&command, &group).ok();
        let runner = Runner {
            command,
            group: group.clone(),
            running,
            failures: 0,
            start_at: Instant::now(),
        };
        Some(Self {
            scope: options.scope,
            timeout: *options.timeout,
            on_error: options.on_error,
            runner: Arc::new(Mutex::new(runner)),
            group,
        })
    }

    /// Has the child end with us: strfry signals us alone, and a child that hangs does not see the end of its input.
    ///
    /// A thread of its own waits for SIGTERM, since strfry's writer waits for our end.
    ///
    /// # Errors
    /// The system has no thread or no signals for us.
    pub fn end_on_sigterm(&self) -> io::Result<()> {
        let group = self.group.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut sigterm = {
            let _entered = runtime.enter();
            signal(SignalKind::terminate())?
        };
        std::thread::Builder::new().spawn(move || {
            runtime.block_on(sigterm.recv());
            group.end();
            std::process::exit(0);
        })?;
        Ok(())
    }

    /// Ends the child at the end of our input.
    pub fn end(&self) {
        self.group.end();
    }

    /// Whether it is asked about an event that we let in.
    pub fn is_asked(&self, event: &Event, considered: &Considered) -> bool {
        match (self.scope, considered) {
            (_, Considered::Answered(_) | Considered::Releasing) => false,
            (ChainScope::All, _) => true,
            (ChainScope::Others, Considered::Waits(_)) => false,
            (ChainScope::Others, Considered::NotOurs | Considered::Deletes | Considered::Belongs) => {
                !is_about_git(event)
            }
        }
    }

    /// Asks about the event of a line of strfry. `Answer::Accept`: it has nothing against it.
    pub async fn ask(&self, line: &[u8], event_id: &str) -> Answer {
        self.ask_in_time(line, event_id)
            .await
            .unwrap_or_else(|| match self.on_error {
                OnError::Accept => Answer::Accept,
                OnError::Refuse => Refusal::Unavailable("the relay's own write policy").into(),
            })
    }

    async fn ask_in_time(&self, line: &[u8], event_id: &str) -> Option<Answer> {
        // A plugin that is still busy with an earlier event is not awaited a second time.
        let mut runner = Arc::clone(&self.runner).try_lock_owned().ok()?;
        let (line, event_id) = (line.to_owned(), event_id.to_owned());
        let asked = tokio::spawn(async move { runner.ask(&line, &event_id).await });
        timeout(self.timeout, asked).await.ok()?.ok()?
    }
}

/// Why a chained plugin gave no answer.
#[derive(Debug, thiserror::Error)]
enum ChainError {
    #[error("cannot start the chained plugin")]
    Start(#[source] io::Error),
    #[error("cannot write to the chained plugin")]
    Write(#[source] io::Error),
    #[error("cannot read from the chained plugin")]
    Read(#[source] io::Error),
    #[error("the chained plugin took longer than {PATIENCE:?}")]
    Timeout,
    #[error("the chained plugin has ended")]
    Ended,
    #[error("the chained plugin wrote a line over {ANSWER_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("the chained plugin wrote {SKIPPED_MAX} lines that are not JSON")]
    Babble,
    #[error("the chained plugin broke strfry's protocol: {0}")]
    Protocol(&'static str),
}

/// The process group of the child that runs; 0: none.
#[derive(Clone, Default)]
struct ChildGroup(Arc<AtomicI32>);

impl ChildGroup {
    fn set(&self, child: &Child) {
        let id = child.id().and_then(|id| id.try_into().ok());
        self.0.store(id.unwrap_or(0), Ordering::Relaxed);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.0.load(Ordering::Relaxed)) {
            // One that is gone is as good.
            kill_process_group(group, signal).ok();
        }
    }

    /// Ends it as this process ends: also one that does not want to.
    fn end(&self) {
        self.signal(Signal::TERM);
        std::thread::sleep(END_PATIENCE);
        self.signal(Signal::KILL);
    }
}

/// How long it has for its own end; strfry's writer waits for ours.
const END_PATIENCE: Duration = Duration::from_millis(100);

/// Starts and asks the child.
struct Runner {
    command: String,
    group: ChildGroup,
    running: Option<RunningPlugin>,
    /// Failures since its last answer.
    failures: u32,
    /// When it may be started again.
    start_at: Instant,
}

impl Runner {
    /// Returns its answer; `None`: it has none, or is not to be started yet.
    async fn ask(&mut self, line: &[u8], event_id: &str) -> Option<Answer> {
        if self.running.as_mut().is_some_and(|running| !running.is_alive()) {
            self.note_failure(&ChainError::Ended).await;
        }
        if self.running.is_none() {
            if Instant::now() < self.start_at {
                return None;
            }
            match RunningPlugin::start(&self.command, &self.group) {
                Ok(started) => self.running = Some(started),
                Err(error) => self.note_failure(&ChainError::Start(error)).await,
            }
        }
        let asked = timeout(PATIENCE, self.running.as_mut()?.ask(line, event_id));
        match asked.await.unwrap_or(Err(ChainError::Timeout)) {
            Ok(answer) => {
                self.failures = 0;
                Some(answer)
            }
            Err(error) => {
                self.note_failure(&error).await;
                None
            }
        }
    }

    async fn note_failure(&mut self, error: &ChainError) {
        let pause = pause_after(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.start_at = Instant::now() + pause;
        tracing::warn!(
            error = error as &dyn std::error::Error,
            pause_secs = pause.as_secs(),
            "the chained plugin fails; --chain-on-error applies"
        );
        if let Some(running) = self.running.take() {
            running.end(&self.group).await;
        }
    }
}

/// Returns how long not to start it after a failure that follows so many others: the first costs nothing, or each crash
/// would refuse a second's events.
fn pause_after(earlier_failures: u32) -> Duration {
    match earlier_failures {
        0 => Duration::ZERO,
        many => PAUSE_MAX.min(Duration::from_secs(1) * 2_u32.saturating_pow(many - 1)),
    }
}

/// The child.
struct RunningPlugin {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl RunningPlugin {
    fn start(command: &str, group: &ChildGroup) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the one place of this program that spawns")]
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What the shell starts ends with it.
            .process_group(0)
            .kill_on_drop(true);
        // It must not see our settings, which include the password of Redis.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"GRASP_") {
                shell.env_remove(name);
            }
        }
        let mut child = shell.spawn()?;
        group.set(&child);
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    async fn ask(&mut self, line: &[u8], event_id: &str) -> Result<Answer, ChainError> {
        self.stdin.write_all(line).await.map_err(ChainError::Write)?;
        for _ in 0..SKIPPED_MAX {
            let answer = self.read_line().await?;
            // strfry skips a stray print too.
            if let Ok(answer) = serde_json::from_slice(&answer) {
                return parse_answer(&answer, event_id);
            }
        }
        Err(ChainError::Babble)
    }

    async fn read_line(&mut self) -> Result<Vec<u8>, ChainError> {
        let mut line = Vec::new();
        let mut room = (&mut self.stdout).take(ANSWER_BYTES_MAX as u64);
        let read = room.read_until(b'\n', &mut line).await.map_err(ChainError::Read)?;
        match line.last() {
            Some(b'\n') => Ok(line),
            _ if read == ANSWER_BYTES_MAX => Err(ChainError::LineTooLong),
            _ => Err(ChainError::Ended),
        }
    }

    /// Asks it to end, and kills it with all that it started if it does not.
    async fn end(mut self, group: &ChildGroup) {
        drop(self.stdin);
        group.signal(Signal::TERM);
        // Processes that do not end, and those that an ended shell has left behind.
        timeout(END_WAIT, self.child.wait()).await.ok();
        group.signal(Signal::KILL);
        self.child.wait().await.ok();
    }
}

/// Reads an answer as strfry does (`PluginEventSifter.h`).
fn parse_answer(answer: &Value, event_id: &str) -> Result<Answer, ChainError> {
    if answer.get("id").and_then(Value::as_str) != Some(event_id) {
        return Err(ChainError::Protocol("its answer has another id"));
    }
    let message = match answer.get("msg") {
        None => "",
        Some(message) => message.as_str().ok_or(ChainError::Protocol("msg is not a string"))?,
    };
    match answer.get("action").and_then(Value::as_str) {
        Some("accept") => Ok(Answer::Accept),
        Some("reject") => Ok(Answer::Refuse(message.to_owned())),
        Some("shadowReject") => Ok(Answer::Hold(message.to_owned().into())),
        Some(_) | None => Err(ChainError::Protocol("it has no action that strfry knows")),
    }
}

/// How long it may take beside, before it is ended: as long as strfry would wait, its start included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest pause before it is started again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long it may take to end.
const END_WAIT: Duration = Duration::from_secs(2);

/// Lines of one answer that are no JSON, at the most.
const SKIPPED_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_none_and_have_an_end() {
        let pauses = [0, 1, 2, 3, 7, 100, u32::MAX].map(|failures| pause_after(failures).as_secs());

        assert_eq!(pauses, [0, 1, 2, 4, 60, 60, 60]);
    }

    #[test]
    fn answers_are_read_as_strfry_reads_them() {
        for (answer, expected) in [
            (r#"{"id":"x","action":"accept","msg":"dropped"}"#, Some(Answer::Accept)),
            (
                r#"{"id":"x","action":"reject","msg":"no"}"#,
                Some(Answer::Refuse("no".to_owned())),
            ),
            (r#"{"id":"x","action":"reject"}"#, Some(Answer::Refuse(String::new()))),
            (r#"{"id":"x","action":"shadowReject"}"#, Some(Answer::Hold("".into()))),
            (r#"{"id":"y","action":"accept"}"#, None),
            (r#"{"id":"x","action":"accept","msg":null}"#, None),
            (r#"{"id":"x","action":"allow"}"#, None),
            (r#"{"id":"x"}"#, None),
            (r#"["x"]"#, None),
        ] {
            let read = parse_answer(&serde_json::from_str(answer).unwrap(), "x");

            assert_eq!(read.ok(), expected, "{answer}");
        }
    }
}
