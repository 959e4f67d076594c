//! The git events of nostr (NIP-34) as parsed values: announcement, state, PR. No I/O.

mod announcement;
mod coordinate;
mod identifier;
mod pull_request;
mod roles;
mod state;

use nostr::event::Event;

pub use announcement::Announcement;
pub use announcement::AnnouncementError;
pub use coordinate::Coordinate;
pub use coordinate::CoordinateError;
pub use identifier::Identifier;
pub use identifier::IdentifierError;
pub use pull_request::PullRequest;
pub use pull_request::PullRequestError;
pub use roles::Roles;
pub use state::Declared;
pub use state::State;
pub use state::StateDefect;
pub use state::StateError;

/// Kind of a repository announcement (NIP-34).
pub const ANNOUNCEMENT: u16 = 30617;
/// Kind of a repository state (NIP-34).
pub const STATE: u16 = 30618;
/// Kind of a PR (NIP-34).
pub const PULL_REQUEST: u16 = 1618;
/// Kind of a PR update (NIP-34).
pub const PULL_REQUEST_UPDATE: u16 = 1619;
/// Kind of a patch (NIP-34).
pub const PATCH: u16 = 1617;
/// Kind of an issue (NIP-34).
pub const ISSUE: u16 = 1621;
/// First of the kinds of a status: open, applied, closed, draft (NIP-34).
pub const STATUS_FIRST: u16 = 1630;
/// Last of the kinds of a status.
pub const STATUS_LAST: u16 = 1633;
/// Kind of a user's list of GRASP servers (NIP-34).
pub const GRASP_LIST: u16 = 10317;
/// Kind of a deletion request (NIP-09).
pub const DELETION: u16 = 5;
/// Kind of a request to vanish (NIP-62).
pub const VANISH: u16 = 62;
/// Kind of a comment (NIP-22).
pub const COMMENT: u16 = 1111;

/// Tells whether `request` is a deletion request (NIP-09) by the author of `event` that covers it: by its id, or by
/// its address if it is no newer than the request.
pub fn is_deleted_by(event: &Event, request: &Event) -> bool {
    if request.kind.as_u16() != DELETION || request.pubkey != event.pubkey {
        return false;
    }
    let event_id = event.id.to_hex();
    let by_id = tags(request, "e").any(|values| values.first() == Some(&event_id));
    let by_address = event.kind.is_addressable() && event.created_at <= request.created_at && {
        let d = first_tag(event, "d")
            .and_then(|values| values.first())
            .map_or("", String::as_str);
        let address = format!("{}:{}:{d}", event.kind.as_u16(), event.pubkey.to_hex());
        tags(request, "a").any(|values| values.first() == Some(&address))
    };
    by_id || by_address
}

/// Returns the relays that a request to vanish (NIP-62) is meant for, as written; `ALL_RELAYS` is one of them if it
/// names all.
pub fn vanish_relays(request: &Event) -> impl Iterator<Item = &str> {
    tags(request, "relay")
        .filter_map(|values| values.first())
        .map(String::as_str)
}

/// Returns the values of the first tag called `name`, without the name.
fn first_tag<'e>(event: &'e Event, name: &str) -> Option<&'e [String]> {
    tags(event, name).next()
}

/// Returns the values of every tag called `name`, without the name.
fn tags<'e>(event: &'e Event, name: &str) -> impl Iterator<Item = &'e [String]> {
    event.tags.iter().filter_map(move |tag| {
        let (head, values) = tag.as_slice().split_first()?;
        (head == name).then_some(values)
    })
}

/// Returns the identifier in the first `d` tag.
fn identifier(event: &Event) -> Result<Identifier, IdentifierError> {
    first_tag(event, "d")
        .and_then(|values| values.first())
        .map_or("", String::as_str)
        .parse()
}
