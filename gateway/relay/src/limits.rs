//! The limits of the relay, named and set as in strfry's configuration, and the information document (NIP-11).

use serde_json::Value;
use serde_json::json;
use shared::nip01;

/// Limits. The defaults are those of `strfry-config/strfry.conf`, each with its reason there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Largest event as normalised JSON (`events.maxEventSize`).
    pub event_bytes_max: usize,
    /// Most tags of an event (`events.maxNumTags`).
    pub tags_max: usize,
    /// Most elements of all tags of an event together.
    pub tag_elements_max: usize,
    /// Longest value of a tag with a one-letter name (`events.maxTagValSize`).
    pub tag_value_bytes_max: usize,
    /// Longest message (`relay.maxWebsocketPayloadSize`).
    pub message_bytes_max: usize,
    /// Most filters of one request (`relay.maxReqFilterSize`).
    pub filters_max: usize,
    /// Most stored events returned for one filter (`relay.maxFilterLimit`).
    pub limit_max: usize,
    /// Most stored events returned for one request of a client that is not on this host; then the request is closed.
    pub results_max: usize,
    /// Most events that are counted for one request; the answer is approximate then.
    pub count_max: usize,
    /// Most open subscriptions of one connection (`relay.maxSubsPerConnection`).
    pub subscriptions_max: usize,
    /// Bytes that the open subscriptions of one connection may take (`request_size.rs`). This and the next two are for
    /// clients that are not on this host.
    pub open_bytes_max: u32,
    /// Bytes that the open subscriptions of all connections of one address may take.
    pub open_bytes_per_address_max: u32,
    /// Most filters of open subscriptions of one address: each stored event is compared with all.
    pub open_filters_per_address_max: u32,
    /// Bytes that messages of all connections of one address may take that are parsed, and not judged yet: others
    /// wait.
    pub parsed_bytes_per_address_max: u32,
    /// The same of all addresses.
    pub parsed_bytes_max: u32,
    /// Bytes of memory that messages of all connections of one address may take that are arriving, or wait to be parsed
    /// (`incoming.rs`).
    pub unread_bytes_per_address_max: usize,
    /// The same of all addresses.
    pub unread_bytes_max: usize,
    /// Bytes of messages that all connections of one address may not have taken.
    pub unsent_bytes_per_address_max: usize,
    /// The same of all addresses.
    pub unsent_bytes_max: usize,
    /// Bytes of new stored events that wait for the slowest connection. One that is further behind ends.
    pub served_bytes_max: usize,
    /// Most ranges of indexes that the database reads for one request (`look_up_cost.rs`) of a client that is not on
    /// this host.
    pub ranges_max: usize,
    /// Largest size of the database on the disk, in bytes; a multiple of a page of memory (`room.rs`).
    pub database_bytes_max: usize,
    /// Bytes of the disk that an address may have stored in a day, of which it may have all at once. Not for clients on
    /// this host.
    pub stored_bytes_per_day_max: u64,
    /// Most connections at a time; further ones wait to be accepted. As many WebSockets as a gateway passes on by
    /// default, plus its own.
    pub connections_max: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            event_bytes_max: 262_144,
            tags_max: nip01::TAGS_MAX,
            tag_elements_max: nip01::TAG_ELEMENTS_MAX,
            tag_value_bytes_max: 1_024,
            message_bytes_max: 393_216,
            filters_max: 200,
            limit_max: 1_000,
            results_max: 10_000,
            count_max: 10_000,
            subscriptions_max: 200,
            open_bytes_max: 2 << 20,
            open_bytes_per_address_max: 8 << 20,
            open_filters_per_address_max: 5_000,
            parsed_bytes_per_address_max: 4 << 20,
            parsed_bytes_max: 16 << 20,
            unread_bytes_per_address_max: 8 << 20,
            unread_bytes_max: 32 << 20,
            unsent_bytes_per_address_max: 16 << 20,
            unsent_bytes_max: 48 << 20,
            served_bytes_max: 16 << 20,
            ranges_max: 50_000,
            database_bytes_max: 32 << 30,
            stored_bytes_per_day_max: 1 << 30,
            connections_max: 4_160,
        }
    }
}

/// Longest subscription id (NIP-01).
pub(super) const SUBSCRIPTION_ID_BYTES_MAX: usize = 64;

impl RelayLimits {
    /// Returns the information document (NIP-11).
    pub(super) fn document(&self) -> Value {
        json!({
            "name": "grasp-gateway",
            "description": "The built-in relay of a GRASP server.",
            "supported_nips": [1, 9, 11, 40, 45, 70],
            "software": "strfry-grasp",
            "version": env!("CARGO_PKG_VERSION"),
            "limitation": {
                "max_message_length": self.message_bytes_max,
                "max_subscriptions": self.subscriptions_max,
                "max_limit": self.limit_max,
                "default_limit": self.limit_max,
                "max_subid_length": SUBSCRIPTION_ID_BYTES_MAX,
                "max_event_tags": self.tags_max,
                "created_at_lower_limit": nip01::AGE_SECS_MAX,
                "created_at_upper_limit": nip01::AHEAD_SECS_MAX,
                "auth_required": false,
                "payment_required": false,
                "restricted_writes": true,
            },
        })
    }
}
