//! Clients of a server under test: git, nostr, HTTP, a browser, and one that is slow.

pub mod browser;
pub mod git;
pub mod http;
pub mod nostr;
pub mod slow;
