//! Load, and what a server takes for it: floods of events, many pushes at once, decisions, memory and time.

pub mod bench;
pub mod decision_time;
pub mod flood;
pub mod history;
pub mod measure;
pub mod namesakes;
pub mod noise;
mod other_user;
pub mod plugin_rate;
pub mod process_memory;
pub mod publisher;
pub mod push_memory;
pub mod push_time;
pub mod read_rate;
pub mod redis_cost;
pub mod scale;
pub mod steady_reading;
