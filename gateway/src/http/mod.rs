//! HTTP: connections, routes, bodies, pages, WebSockets. No rules.

pub(crate) mod body;
pub(crate) mod client_address;
pub(crate) mod connections;
#[cfg(test)]
mod connections_tests;
mod failure;
mod large_files;
mod open_counts;
pub(crate) mod own_requests;
pub(crate) mod pages;
pub(crate) mod relay_info;
pub(crate) mod reply;
pub(crate) mod repository_pages;
pub(crate) mod root;
pub(crate) mod routes;
pub(crate) mod server;
mod shown_contents;
mod slow_reader;
pub(crate) mod tagged;
pub(crate) mod websocket;
