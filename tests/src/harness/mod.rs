//! Programs under test in a world of their own: how each is started, found, waited for and ended.

pub mod doctor;
pub mod gateway;
mod neighbours;
pub mod options;
pub mod plugin_host;
pub mod process;
pub mod redis;
pub mod redis_connection;
pub mod redis_topology;
mod relay;
pub mod repository;
pub mod reverse_proxy;
pub mod second_gateway;
pub mod strfry;
pub mod strfry_import;
pub mod wait;
pub mod world;
