//! Clients of a server under test: git, nostr, HTTP and a browser.

pub mod browser;
pub mod git;
pub mod http;
pub mod nostr;
