//! Why an event is refused, in the words of NIP-01: a machine-readable prefix, then a sentence for a person.

use crate::nip01::TimeDefect;
use crate::nip34::Defect;
use crate::purgatory::Limit;

use super::Service;

/// A refusal of an event. Its text is the message of `["OK", id, false, …]` (NIP-01).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The event's author has deleted it (NIP-09).
    #[error("deleted: user requested deletion")]
    Deleted,
    /// A newer version is served or held.
    #[error("replaced: have newer event")]
    Replaced,
    /// The event is malformed, or does not follow NIP-34.
    #[error("invalid: {0}")]
    Malformed(#[from] Defect),
    /// It is dated wrongly, or has expired (NIP-40).
    #[error("invalid: {0}")]
    Untimely(#[from] TimeDefect),
    /// The announcement does not name this server.
    #[error("invalid: announcement must list {0} in both 'clone' and 'relays' tags")]
    NotListed(Service),
    /// The announcement marks its repository as private.
    #[error(
        "restricted: everyone can read the repositories of this server, and the announcement marks this one as private; list a server that restricts reading, or publish it without its 'private' or 'public-read' tag"
    )]
    Private,
    /// No announcement here makes the state's author a maintainer: none of their own, and none that lists them.
    #[error(
        "restricted: no announcement (kind 30617) on this server makes this author a maintainer; publish one first"
    )]
    NotMaintainer,
    /// The PR's repositories are not hosted here.
    #[error("restricted: none of the repositories that this PR is offered to is hosted on this server")]
    NotHosted,
    /// The operator's lists exclude it.
    #[error("blocked: the operator of this server does not host this")]
    Blocked,
    /// The event refers to no served event, and none refers to it.
    #[error("restricted: event must reference an accepted repository or accepted event")]
    Unrelated,
    /// The purgatory is full.
    #[error("restricted: {limit}; {advice}", limit = .0, advice = .0.advice())]
    Full(Limit),
    /// The purgatory or the relay, which the decision needs, did not answer.
    #[error("error: {0} is not available, try again later")]
    Unavailable(&'static str),
}
