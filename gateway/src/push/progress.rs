//! The progress of a push that takes long, in words for the waiting client.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// All of it has come; it is checked, or waits for that.
    Checking {
        /// Of its pack.
        received_bytes: u64,
    },
    /// It was checked; its objects move in, and the refs are set.
    Storing,
    Publishing {
        events: usize,
    },
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checking { received_bytes } if *received_bytes < KILOBYTE => write!(f, "received, checking it"),
            Self::Checking { received_bytes } if *received_bytes < MEGABYTE => {
                write!(f, "received {} KB, checking them", received_bytes / KILOBYTE)
            }
            Self::Checking { received_bytes } => {
                write!(f, "received {} MB, checking them", received_bytes / MEGABYTE)
            }
            Self::Storing => write!(f, "checked, storing it"),
            Self::Publishing { events: 1 } => write!(f, "stored, waiting for the relay to store 1 event"),
            Self::Publishing { events } => write!(f, "stored, waiting for the relay to store {events} events"),
        }
    }
}

const KILOBYTE: u64 = 1000;
const MEGABYTE: u64 = 1000 * KILOBYTE;
