//! The kinds of events that concern git, and of requests to delete them.

/// Kind of a repository announcement (NIP-34).
pub const ANNOUNCEMENT: u16 = 30617;
/// Kind of a repository state (NIP-34).
pub const STATE: u16 = 30618;
/// Kind of a PR (NIP-34).
pub const PULL_REQUEST: u16 = 1618;
/// Kind of a PR update (NIP-34).
pub const PULL_REQUEST_UPDATE: u16 = 1619;
/// The kinds of what offers a commit.
pub const PULL_REQUESTS: [u16; 2] = [PULL_REQUEST, PULL_REQUEST_UPDATE];
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

/// Whether events of a kind are held until their git data has arrived.
pub fn needs_git_data(kind: u16) -> bool {
    matches!(kind, ANNOUNCEMENT | STATE) || is_pull_request(kind)
}

/// Whether a kind is that of a PR or of a PR update.
pub fn is_pull_request(kind: u16) -> bool {
    PULL_REQUESTS.contains(&kind)
}
