//! What clients may expect while nothing fails.

mod access;
mod admin_address;
mod deletions;
mod disk_limits;
mod events;
mod expiry;
mod http;
mod late_binding;
mod limits;
mod operator_mistakes;
mod plugin_lines;
mod pull_request_refs;
mod pull_requests;
mod purgatory_command;
mod push_cost;
mod pushes;
mod readers;
mod redis_password;
mod refusal_log;
mod related;
mod scale;
mod several_owners;
mod slow_clients;
mod strangers;
mod submodules;
mod surplus;
