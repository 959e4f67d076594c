//! Requests of this gateway to its relay that come back to it: `relay-url` leads here, by way of a reverse proxy.
//! Passed on, each would come back again, until there are no descriptors left.

use shared::relay_client::SENDER_HEADER;
use shared::relay_client::own_mark;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::http::reply;
use crate::logged::Repeats;

/// Refuses what comes back.
#[derive(Default)]
pub(crate) struct OwnRequests {
    logged: Repeats,
}

impl OwnRequests {
    /// Returns the answer to a request that this gateway has sent itself, and logs the mistake once a minute; `None`:
    /// it is somebody else's.
    pub(crate) fn refuse(&self, headers: &HeaderMap) -> Option<Response> {
        let mut senders = headers.get_all(SENDER_HEADER).into_iter();
        senders.find(|sender| *sender == own_mark())?;
        if self.logged.is_due(String::new()) {
            tracing::error!(
                "relay-url leads back to this gateway, by way of the reverse proxy: it must name strfry, by the address in \
                 strfry.conf (relay.bind and relay.port), such as ws://127.0.0.1:7777; then restart the gateway and strfry"
            );
        }
        let text = "this server's relay-url names the server itself: its operator must correct that\n";
        Some(reply::text(StatusCode::LOOP_DETECTED, text))
    }
}
