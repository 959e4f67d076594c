//! Large messages are read one at a time, in a thread of low priority: each takes milliseconds to parse and to hash,
//! and strangers send as many as they like, while the processors are needed for pushes, for git and for everybody's
//! small messages.

use std::io;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::thread;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::client_message::ClientMessage;
use crate::client_message::MalformedMessage;
use crate::limits::RelayLimits;
use crate::outbound::Gone;

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct LargeMessages {
    unread: mpsc::Sender<Unread>,
}

#[derive(Debug)]
struct Unread {
    text: Utf8Bytes,
    read: oneshot::Sender<ReadMessage>,
}

pub(super) type ReadMessage = Result<ClientMessage, MalformedMessage>;

impl LargeMessages {
    pub(super) fn start(limits: RelayLimits) -> io::Result<Self> {
        Self::start_as(THREAD, limits)
    }

    fn start_as(thread: &str, limits: RelayLimits) -> io::Result<Self> {
        let (unread, messages) = mpsc::channel(1);
        let read_all = move || read_all(messages, limits);
        thread::Builder::new().name(thread.to_owned()).spawn(read_all)?;
        Ok(Self { unread })
    }

    /// Reads a message when all earlier ones are read.
    ///
    /// # Errors
    /// The message could not be read at all: its connection has to end.
    pub(super) async fn read(&self, text: Utf8Bytes) -> Result<ReadMessage, Gone> {
        let (read, message) = oneshot::channel();
        self.unread.send(Unread { text, read }).await.map_err(|_| Gone)?;
        message.await.map_err(|_| Gone)
    }
}

fn read_all(mut messages: mpsc::Receiver<Unread>, limits: RelayLimits) {
    // On Linux a priority is that of a thread, here of this one.
    if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
        tracing::debug!(%error, "could not lower the priority of a thread");
    }
    while let Some(Unread { text, read }) = messages.blocking_recv() {
        // A panic would be that of this message alone, as in a task.
        if let Ok(message) = catch_unwind(AssertUnwindSafe(|| ClientMessage::parse(text.as_str(), &limits))) {
            // The client may have left meanwhile.
            drop(read.send(message));
        }
    }
}

const THREAD: &str = "large-messages";

/// Of `nice(1)`: a tenth of what others get where the processors do not suffice. An honest large event takes
/// milliseconds, so that it is not late even then.
const PRIORITY: i32 = 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// No other test has a thread of this name.
    const OURS: &str = "large-tried";

    /// The priorities of the threads of this process with the name of ours.
    fn priorities() -> Vec<i32> {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        let ours = stats.filter(|stat| stat.contains(&format!("({OURS})")));
        // proc_pid_stat(5): the 19th field.
        let priority = |stat: String| stat.rsplit(')').next()?.split_whitespace().nth(16)?.parse().ok();
        ours.filter_map(priority).collect()
    }

    #[tokio::test]
    async fn large_messages_are_read_with_low_priority_in_a_thread_that_ends() {
        let messages = LargeMessages::start_as(OURS, RelayLimits::default()).unwrap();

        let read = messages.read(r#"["CLOSE","s"]"#.into()).await.unwrap().unwrap();

        let subscription = "s".to_owned();
        assert_eq!(read, ClientMessage::Close { subscription });
        let [priority] = priorities()[..] else {
            panic!("{:?}", priorities());
        };
        assert!(priority >= PRIORITY, "{priority}");
        drop(messages);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !priorities().is_empty() {
            assert!(std::time::Instant::now() < deadline, "the thread does not end");
            thread::yield_now();
        }
    }
}
