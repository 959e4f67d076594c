//! Hosts a strfry write policy plugin as strfry 1.1.0 does (`PluginEventSifter.h`, hoytech-cpp `stream.h`), so that
//! the built-in relay can stand in for strfry. `tests/tests/strfry_contract.rs` holds both to the same suite.
//!
//! One difference: strfry waits for a plugin that it has signalled for ever, this host only `END_MAX`.

use std::io;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use nostr::event::Event;
use relay::EventPolicy;
use relay::source_type;
use serde_json::Value;
use serde_json::json;
use shared::write_policy::Answer;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;

use crate::harness::process::signal;

/// A plugin, started at the first event and anew after it has broken the protocol.
#[derive(Debug)]
pub struct PluginHost {
    command: String,
    timeout: Duration,
    running: Option<Plugin>,
}

/// Why a plugin's answer is none.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("cannot start the plugin")]
    Start(#[source] io::Error),
    #[error("cannot write to the plugin")]
    Write(#[source] io::Error),
    #[error("cannot read from the plugin")]
    Read(#[source] io::Error),
    #[error("the plugin took too long")]
    Timeout,
    #[error("the plugin closed its output")]
    Closed,
    #[error("the plugin's line is over {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("the plugin broke the protocol: {0}")]
    Protocol(&'static str),
}

impl PluginHost {
    /// Returns a host for `command`, a line for `/bin/sh`. `timeout` is for each write and each line read.
    pub fn new(command: String, timeout: Duration) -> Self {
        Self {
            command,
            timeout,
            running: None,
        }
    }

    async fn ask(&mut self, event: &Event, client: IpAddr) -> Result<Answer, PluginError> {
        // strfry follows the file of a command without spaces, and fails where there is none.
        let modified = match self.command.contains(' ') {
            true => None,
            false => Some(modified(&self.command).await.map_err(PluginError::Start)?),
        };
        if self.running.as_ref().is_some_and(|plugin| plugin.modified != modified) {
            self.end().await;
        }
        if self.running.is_none() {
            self.running = Some(Plugin::start(&self.command, modified).map_err(PluginError::Start)?);
        }
        let Some(plugin) = &mut self.running else {
            return Err(PluginError::Closed);
        };

        let request = request(event, client);
        let written = tokio::time::timeout(self.timeout, plugin.write(&request));
        written.await.map_err(|_| PluginError::Timeout)??;
        loop {
            let line = tokio::time::timeout(self.timeout, plugin.read_line());
            let line = line.await.map_err(|_| PluginError::Timeout)??;
            match serde_json::from_slice(&line) {
                Ok(answer) => return parse_answer(&answer, &event.id.to_hex()),
                Err(_) => tracing::warn!("the plugin wrote a line that is not JSON"),
            }
        }
    }

    /// Ends the plugin, as strfry does where its command has changed.
    pub async fn end(&mut self) {
        if let Some(mut plugin) = self.running.take() {
            plugin.end().await;
        }
    }
}

impl EventPolicy for PluginHost {
    async fn judge(&mut self, event: &Event, client: IpAddr) -> Answer {
        match self.ask(event, client).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "the plugin failed");
                self.end().await;
                Answer::Refuse("error: internal error".to_owned())
            }
        }
    }
}

/// Returns the line that asks about an event. The keys of a JSON object sort themselves.
fn request(event: &Event, client: IpAddr) -> String {
    let received_at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let request = json!({
        "event": event,
        "receivedAt": received_at,
        "sourceInfo": client.to_string(),
        "sourceType": source_type(client),
        "type": "new",
    });
    format!("{request}\n")
}

fn parse_answer(answer: &Value, event_id: &str) -> Result<Answer, PluginError> {
    if answer.get("id").and_then(Value::as_str) != Some(event_id) {
        return Err(PluginError::Protocol("id mismatch"));
    }
    // `optional<std::string>` is for a key that is not there: null throws.
    let message = match answer.get("msg") {
        None => String::new(),
        Some(message) => message
            .as_str()
            .ok_or(PluginError::Protocol("msg is not a string"))?
            .to_owned(),
    };
    match answer.get("action").and_then(Value::as_str) {
        Some("accept") => Ok(Answer::Accept),
        Some("reject") => Ok(Answer::Refuse(message)),
        Some("shadowReject") => Ok(Answer::Hold(message.into())),
        Some(_) | None => Err(PluginError::Protocol("unknown action")),
    }
}

async fn modified(path: &str) -> io::Result<SystemTime> {
    tokio::fs::metadata(path).await?.modified()
}

/// A running plugin.
#[derive(Debug)]
struct Plugin {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// What was read behind the last line.
    rest: Vec<u8>,
    modified: Option<SystemTime>,
}

impl Plugin {
    fn start(command: &str, modified: Option<SystemTime>) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a plugin is no git")]
        let mut child = tokio::process::Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own, so that nothing of it outlives the host.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the plugin has no pipes"));
        };
        Ok(Self {
            child,
            stdin,
            stdout,
            rest: Vec::new(),
            modified,
        })
    }

    async fn write(&mut self, request: &str) -> Result<(), PluginError> {
        self.stdin
            .write_all(request.as_bytes())
            .await
            .map_err(PluginError::Write)?;
        self.stdin.flush().await.map_err(PluginError::Write)
    }

    async fn read_line(&mut self) -> Result<Vec<u8>, PluginError> {
        loop {
            let end = self.rest.iter().position(|byte| *byte == b'\n');
            if end.unwrap_or(self.rest.len()) > LINE_BYTES_MAX {
                return Err(PluginError::LineTooLong);
            }
            if let Some(end) = end {
                let rest = self.rest.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.rest, rest);
                line.truncate(end);
                return Ok(line);
            }
            if self.stdout.read_buf(&mut self.rest).await.map_err(PluginError::Read)? == 0 {
                return Err(PluginError::Closed);
            }
        }
    }

    /// Signals the process that was started, which is the shell unless the command is an `exec`, and waits for it.
    /// Its pipes stay open until then, as strfry's do.
    async fn end(&mut self) {
        if let Some(id) = self.child.id() {
            signal("TERM", &id.to_string());
        }
        match tokio::time::timeout(END_MAX, self.child.wait()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "cannot wait for the plugin"),
            Err(_) => tracing::error!("the plugin ignores SIGTERM; strfry would wait for ever"),
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // Only while the child has not been waited for is the number of its group its own.
        if let Some(id) = self.child.id() {
            signal("KILL", &format!("-{id}"));
        }
    }
}

/// Longest line that a plugin may answer (`streamReader.setMaxRecordSize`).
const LINE_BYTES_MAX: usize = 8192;
/// How long a plugin may take to end.
const END_MAX: Duration = Duration::from_secs(30);
