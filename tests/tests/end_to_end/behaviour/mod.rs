//! What clients may expect while nothing fails.

mod access;
mod deletions;
mod events;
mod expiry;
mod http;
mod late_binding;
mod limits;
mod pull_requests;
mod push_cost;
mod pushes;
mod readers;
mod related;
mod several_owners;
mod slow_clients;
mod strangers;
