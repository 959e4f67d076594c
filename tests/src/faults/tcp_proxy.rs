//! A proxy before Redis or before the relay that counts what passes and stops at the n-th: so a test can kill, cut or
//! delay between any two steps of a program, and no program knows.
//!
//! What counts is a call of a script in Redis, and an event that is sent to the relay.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::faults::frames::Direction;
use crate::faults::frames::Stage;
use crate::faults::frames::Wire;

/// When a counted command stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The server has not heard of it.
    BeforeCommand,
    /// It was forwarded; whether the server has done it already is open.
    AfterCommand,
    /// The server has done it, and whoever asked does not know.
    BeforeAnswer,
    /// Whoever asked knows.
    AfterAnswer,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::BeforeCommand,
        Self::AfterCommand,
        Self::BeforeAnswer,
        Self::AfterAnswer,
    ];
}

/// What becomes of a connection that was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    GoOn,
    /// It ends, and what was held back is lost.
    Cut,
}

/// A connection that waits at the moment that was asked for.
#[derive(Debug)]
#[must_use = "dropping it lets the connection go on"]
pub struct Stopped(oneshot::Sender<Then>);

impl Stopped {
    /// Lets it go on, or ends it.
    pub fn then(self, then: Then) {
        // A connection that ended meanwhile needs no word.
        self.0.send(then).ok();
    }
}

struct Trap {
    /// How many commands pass before the one that is caught.
    countdown: u64,
    moment: Moment,
    sprung: oneshot::Sender<Stopped>,
}

/// How a proxy treats connections.
#[derive(Debug, Clone, Default)]
struct Treatment {
    is_down: bool,
    delay: Duration,
    /// The message (and whether it says "taken") with which the proxy answers events in the relay's place.
    answer: Option<(bool, String)>,
    /// Whether no query comes to its end.
    cuts_queries: bool,
}

struct Shared {
    wire: Wire,
    upstream: SocketAddr,
    trap: Mutex<Option<Trap>>,
    treatment: watch::Sender<Treatment>,
    counted: watch::Sender<u64>,
}

/// A running proxy. It ends when it is dropped.
pub struct TcpProxy {
    port: u16,
    shared: Arc<Shared>,
    accept: AbortHandle,
}

impl TcpProxy {
    /// Listens on a port of its own and passes on to a port of this host.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn start(upstream_port: u16, wire: Wire) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            wire,
            upstream: SocketAddr::from(([127, 0, 0, 1], upstream_port)),
            trap: Mutex::default(),
            treatment: watch::Sender::default(),
            counted: watch::Sender::default(),
        });
        let accept = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { port, shared, accept }
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many commands were counted so far.
    pub fn counted(&self) -> u64 {
        *self.shared.counted.borrow()
    }

    /// Stops the command behind the next `skip` ones at that moment. A trap that was set before is taken away.
    ///
    /// # Panics
    /// Another thread panicked while it set one.
    pub fn stop_at(&self, skip: u64, moment: Moment) -> oneshot::Receiver<Stopped> {
        let (sprung, stopped) = oneshot::channel();
        *self.shared.trap.lock().unwrap() = Some(Trap {
            countdown: skip,
            moment,
            sprung,
        });
        stopped
    }

    /// Takes the trap away.
    ///
    /// # Panics
    /// Another thread panicked while it set one.
    pub fn disarm(&self) {
        *self.shared.trap.lock().unwrap() = None;
    }

    /// Ends all connections and refuses new ones, or stops doing so.
    pub fn set_down(&self, is_down: bool) {
        self.shared
            .treatment
            .send_modify(|treatment| treatment.is_down = is_down);
    }

    /// Delays every answer of the server.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.treatment.send_modify(|treatment| treatment.delay = delay);
    }

    /// Answers every event itself, in the relay's place; `None`: no longer.
    pub fn set_answer(&self, answer: Option<(bool, &str)>) {
        let answer = answer.map(|(taken, message)| (taken, message.to_owned()));
        self.shared.treatment.send_modify(|treatment| treatment.answer = answer);
    }

    /// Ends every query of the relay before it is answered (`CLOSED`), or no longer.
    pub fn set_cuts_queries(&self, cuts_queries: bool) {
        self.shared
            .treatment
            .send_modify(|treatment| treatment.cuts_queries = cuts_queries);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accept.abort();
        self.set_down(true);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.treatment.borrow().is_down {
            continue;
        }
        tokio::spawn(pass(client, Arc::clone(&shared)));
    }
}

async fn pass(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(shared.upstream).await else {
        return;
    };
    // Small frames, as the programs send them.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let (own, own_answers) = mpsc::unbounded_channel();
    let watched = Arc::new(Mutex::new(Watched::default()));
    let mut treatment = shared.treatment.subscribe();
    let up = Up {
        shared: &shared,
        watched: &watched,
        own_answers: own,
    };
    tokio::select! {
        () = up.run(client_read, server_write) => {}
        () = down(&shared, &watched, server_read, client_write, own_answers) => {}
        _ = treatment.wait_for(|treatment| treatment.is_down) => {}
    }
}

/// What one direction of a connection tells the other.
#[derive(Default)]
struct Watched {
    /// Commands sent, and answers seen, of a wire whose answers come in order.
    commands: u64,
    answers: u64,
    caught: VecDeque<Caught>,
}

/// A command whose answer is waited for.
struct Caught {
    key: Key,
    moment: Moment,
    sprung: oneshot::Sender<Stopped>,
}

/// How an answer is found that belongs to a command.
#[derive(PartialEq, Eq)]
enum Key {
    Number(u64),
    Id(String),
}

struct Up<'a> {
    shared: &'a Shared,
    watched: &'a Mutex<Watched>,
    own_answers: mpsc::UnboundedSender<Vec<u8>>,
}

impl Up<'_> {
    async fn run(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut frames = Frames::new(self.shared.wire, Direction::ToServer);
        loop {
            let Some(frame) = frames.next(&mut from).await else {
                // Whoever has said everything may still listen: the server ends the connection.
                drop(to);
                return std::future::pending().await;
            };
            let moment = self.note(&frame);
            if let Some((Moment::BeforeCommand, sprung)) = moment {
                if stop(sprung).await == Then::Cut || to.write_all(&frame).await.is_err() {
                    return;
                }
                continue;
            }
            if let Some(answer) = self.answer_itself(&frame) {
                if self.own_answers.send(answer).is_err() {
                    return;
                }
                continue;
            }
            if to.write_all(&frame).await.is_err() {
                return;
            }
            if let Some((Moment::AfterCommand, sprung)) = moment
                && stop(sprung).await == Then::Cut
            {
                return;
            }
        }
    }

    /// Counts a frame. Returns what is to be done on this side.
    fn note(&self, frame: &[u8]) -> Option<(Moment, oneshot::Sender<Stopped>)> {
        let mut watched = self.watched.lock().unwrap();
        watched.commands += 1;
        let number = watched.commands;
        let key = match self.shared.wire {
            Wire::Redis if self.shared.wire.is_counted(frame) => Key::Number(number),
            Wire::WebSocket => Key::Id(self.shared.wire.event_id(frame)?),
            Wire::Redis => return None,
        };
        self.shared.counted.send_modify(|counted| *counted += 1);
        let mut slot = self.shared.trap.lock().unwrap();
        let trap = slot.as_mut()?;
        if trap.countdown > 0 {
            trap.countdown -= 1;
            return None;
        }
        let Trap { moment, sprung, .. } = slot.take()?;
        match moment {
            Moment::BeforeCommand | Moment::AfterCommand => Some((moment, sprung)),
            Moment::BeforeAnswer | Moment::AfterAnswer => {
                watched.caught.push_back(Caught { key, moment, sprung });
                None
            }
        }
    }

    fn answer_itself(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let answer = self.shared.treatment.borrow().answer.clone();
        let (taken, message) = answer?;
        let id = self.shared.wire.event_id(frame)?;
        let text = serde_json::json!(["OK", id, taken, message]).to_string();
        Some(self.shared.wire.text_frame(&text))
    }
}

async fn down(
    shared: &Shared,
    watched: &Mutex<Watched>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut own_answers: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let mut frames = Frames::new(shared.wire, Direction::ToClient);
    loop {
        let frame = tokio::select! {
            frame = frames.next(&mut from) => frame,
            Some(own) = own_answers.recv() => Some(own),
        };
        let Some(frame) = frame else { return };
        let cuts_queries = shared.treatment.borrow().cuts_queries;
        let kept = if cuts_queries {
            shared.wire.cut_query(frame)
        } else {
            Some(frame)
        };
        let Some(frame) = kept else { continue };
        let delay = shared.treatment.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let caught = take_caught(shared.wire, watched, &frame);
        let (before, after) = match caught {
            Some(caught) if caught.moment == Moment::BeforeAnswer => (Some(caught.sprung), None),
            Some(caught) => (None, Some(caught.sprung)),
            None => (None, None),
        };
        if let Some(sprung) = before
            && stop(sprung).await == Then::Cut
        {
            return;
        }
        if to.write_all(&frame).await.is_err() {
            return;
        }
        if let Some(sprung) = after
            && stop(sprung).await == Then::Cut
        {
            return;
        }
    }
}

fn take_caught(wire: Wire, watched: &Mutex<Watched>, frame: &[u8]) -> Option<Caught> {
    let mut watched = watched.lock().unwrap();
    let key = match wire {
        Wire::Redis if wire.is_push(frame) => return None,
        Wire::Redis => {
            watched.answers += 1;
            Key::Number(watched.answers)
        }
        Wire::WebSocket => Key::Id(wire.answered_id(frame)?),
    };
    let found = watched.caught.iter().position(|caught| caught.key == key)?;
    watched.caught.remove(found)
}

async fn stop(sprung: oneshot::Sender<Stopped>) -> Then {
    let (sender, decided) = oneshot::channel();
    if sprung.send(Stopped(sender)).is_err() {
        return Then::GoOn;
    }
    decided.await.unwrap_or(Then::GoOn)
}

/// Takes a stream apart into frames. Safe to be cancelled between two reads.
struct Frames {
    wire: Wire,
    direction: Direction,
    buffer: Vec<u8>,
    stage: Stage,
}

impl Frames {
    fn new(wire: Wire, direction: Direction) -> Self {
        Self {
            wire,
            direction,
            buffer: Vec::new(),
            stage: Stage::Head,
        }
    }

    async fn next(&mut self, from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
        loop {
            let length = match self.stage {
                Stage::Head => self.wire.head_length(&self.buffer),
                Stage::Frames => self.wire.frame_length(&self.buffer),
                Stage::Plain => Some(self.buffer.len()).filter(|length| *length > 0),
            };
            if let Some(length) = length {
                if self.stage == Stage::Head {
                    self.stage = self.wire.after_head(&self.buffer, self.direction);
                }
                let rest = self.buffer.split_off(length);
                let frame = std::mem::replace(&mut self.buffer, rest);
                if frame.is_empty() {
                    continue;
                }
                return Some(frame);
            }
            match from.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
