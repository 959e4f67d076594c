//! The GRASP git server: smart HTTP, authorisation of pushes by signed nostr events, release of held events into the
//! relay. `main.rs` starts it; the tests use its built-in relay as strfry's stand-in.

pub mod body;
pub mod cli;
pub mod client_address;
pub mod connections;
pub mod declare;
pub mod descriptors;
pub mod embedded;
pub mod embedded_policy;
pub mod git;
pub mod info_refs;
pub mod limit_options;
pub mod lock;
pub mod pages;
pub mod path;
pub mod proxy;
pub mod receive_pack;
pub mod relay_info;
pub mod release;
pub mod reply;
pub mod routes;
pub mod server;
pub mod site;
pub mod socket_activation;
pub mod start;
pub mod storage;
pub mod upload_pack;
mod websocket;
