//! What the protocol is about: a handful of events, the coordinates of two repositories, and sets of them small enough
//! to be hashed millions of times. Whose they are and what they list says [`crate::scene`].

/// A git event. Their order is that of publishing: announcements, states from old to new, PRs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Kind 30617.
    Announcement,
    /// Kind 30618.
    Older,
    /// Another one, newer.
    Newer,
    /// Kind 1618, offered to both repositories.
    PullRequest,
}

impl Event {
    /// All of them, in the order of publishing.
    pub const ALL: [Self; 4] = [Self::Announcement, Self::Older, Self::Newer, Self::PullRequest];

    /// Returns the place in arrays by event.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Tells whether it declares refs.
    pub fn is_state(self) -> bool {
        matches!(self, Self::Older | Self::Newer)
    }
}

/// What a relay is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// A git event.
    Event(Event),
    /// Kind 5, by the author of the one event that it names (`Configuration::deletes`).
    Deletion,
}

impl Message {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Event(Event::Announcement),
        Self::Event(Event::Older),
        Self::Event(Event::Newer),
        Self::Event(Event::PullRequest),
        Self::Deletion,
    ];

    /// Returns the place in arrays by message.
    pub fn index(self) -> usize {
        match self {
            Self::Event(event) => event.index(),
            Self::Deletion => 4,
        }
    }
}

/// A set of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Events(u8);

impl Events {
    /// No event.
    pub const NONE: Self = Self(0);

    /// Tells whether an event is in it.
    pub fn has(self, event: Event) -> bool {
        self.0 & (1 << event.index()) != 0
    }

    /// Puts an event into it.
    pub fn add(&mut self, event: Event) {
        self.0 |= 1 << event.index();
    }

    /// Takes an event out of it.
    pub fn remove(&mut self, event: Event) {
        self.0 &= !(1 << event.index());
    }

    /// Returns those that are not in the other set.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns those that are in both sets.
    pub fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the events of both sets.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Tells whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the first in the order of publishing.
    pub fn first(self) -> Option<Event> {
        self.iter().next()
    }

    /// Goes through it in the order of publishing.
    pub fn iter(self) -> impl Iterator<Item = Event> {
        Event::ALL.into_iter().filter(move |event| self.has(*event))
    }
}

impl FromIterator<Event> for Events {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        let mut set = Self::NONE;
        events.into_iter().for_each(|event| set.add(event));
        set
    }
}

/// A set of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Messages(u8);

impl Messages {
    /// Tells whether a message is in it.
    pub fn has(self, message: Message) -> bool {
        self.0 & (1 << message.index()) != 0
    }

    /// Puts a message into it.
    pub fn add(&mut self, message: Message) {
        self.0 |= 1 << message.index();
    }

    /// Takes a message out of it.
    pub fn remove(&mut self, message: Message) {
        self.0 &= !(1 << message.index());
    }

    /// Tells whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Goes through it.
    pub fn iter(self) -> impl Iterator<Item = Message> {
        Message::ALL.into_iter().filter(move |message| self.has(*message))
    }
}

/// A set of the two coordinates, X and Y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Coordinates(u8);

impl Coordinates {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// That of the author of the older state.
    pub const X: Self = Self(1);
    /// The other one.
    pub const Y: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);
    /// Each by itself.
    pub const EACH: [Self; 2] = [Self::X, Self::Y];

    /// Tells whether the sets have one in common.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the coordinates of both sets.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns those that are not in the other set.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns those that are in both sets.
    pub fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Goes through it, each by itself.
    pub fn iter(self) -> impl Iterator<Item = Self> + Clone {
        Self::EACH.into_iter().filter(move |one| self.meets(*one))
    }

    /// Returns the place of a single one in arrays by coordinate.
    pub fn index(self) -> usize {
        usize::from(self == Self::Y)
    }

    /// Tells whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Which of the two refs that the newer state declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Parts(u8);

impl Parts {
    /// Neither.
    pub const NONE: Self = Self(0);
    /// One of them.
    pub const FIRST: Self = Self(1);
    /// The other one.
    pub const SECOND: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);

    /// Returns those of both.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Tells whether all of the others are in it.
    pub fn has(self, other: Self) -> bool {
        self.with(other) == self
    }
}

/// What a client pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Push {
    /// What the older state declares, to X.
    Older,
    /// What the newer state declares, to X.
    Newer,
    /// One of the two refs that the newer state declares, to X.
    FirstPart,
    /// The other one.
    SecondPart,
    /// What the newer state declares, to Y.
    NewerToY,
    /// The commit of the PR, to `refs/nostr/<event-id>` at X.
    CommitToX,
    /// The same at Y.
    CommitToY,
}

impl Push {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Older,
        Self::Newer,
        Self::FirstPart,
        Self::SecondPart,
        Self::NewerToY,
        Self::CommitToX,
        Self::CommitToY,
    ];

    /// Returns the place in arrays by push.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Returns the coordinate whose lock it takes.
    pub fn coordinate(self) -> Coordinates {
        match self {
            Self::Older | Self::Newer | Self::FirstPart | Self::SecondPart | Self::CommitToX => Coordinates::X,
            Self::NewerToY | Self::CommitToY => Coordinates::Y,
        }
    }

    /// Returns the state that it fulfils, or a part of it; `None`: it brings the commit of a PR.
    pub fn state(self) -> Option<Event> {
        match self {
            Self::Older => Some(Event::Older),
            Self::Newer | Self::FirstPart | Self::SecondPart | Self::NewerToY => Some(Event::Newer),
            Self::CommitToX | Self::CommitToY => None,
        }
    }

    /// Returns which refs of the newer state it brings to X.
    pub fn parts(self) -> Parts {
        match self {
            Self::FirstPart => Parts::FIRST,
            Self::SecondPart => Parts::SECOND,
            Self::Newer => Parts::BOTH,
            Self::Older | Self::NewerToY | Self::CommitToX | Self::CommitToY => Parts::NONE,
        }
    }

    /// Returns the event that it brings the data of.
    pub fn event(self) -> Event {
        self.state().unwrap_or(Event::PullRequest)
    }
}
