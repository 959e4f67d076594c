//! Placeholder of the relay client.
