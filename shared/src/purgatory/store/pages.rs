//! How much one call of a script is given, so that it does not occupy Redis for long. The script bounds what it finds
//! by itself (`keys.rs` has the numbers).

use super::keys::PAGE_BYTES;
use crate::nip01::Deletion;
use crate::nip01::text_bytes;
use crate::purgatory::release::Release;

/// Coordinates that one call marks or lists.
pub(super) const NAMES_MAX: usize = 100;

/// Event ids that one call is given.
pub(super) const IDS_MAX: usize = 100;

/// Entries that one call returns.
pub(super) const ENTRIES_MAX: usize = 8;

/// Releases that one call marks, and coordinates of them.
const RELEASES_MAX: usize = 32;

/// Splits releases into pages, in order.
pub(super) fn release_pages(releases: &[Release]) -> Vec<&[Release]> {
    let mut pages = Vec::new();
    let (mut first, mut bytes, mut names) = (0, 0, 0);
    for (place, release) in releases.iter().enumerate() {
        let more = text_bytes(&release.event);
        if place > first && (names >= RELEASES_MAX || bytes + more > PAGE_BYTES) {
            pages.push(&releases[first..place]);
            (first, bytes, names) = (place, 0, 0);
        }
        bytes += more;
        names += 1 + release.coordinates.len();
    }
    if first < releases.len() {
        pages.push(&releases[first..]);
    }
    pages
}

/// Returns what `gate.lua` keeps out for a request.
pub(super) fn gates(deletion: &Deletion) -> Vec<String> {
    let ids = deletion.event_ids.iter().map(ToString::to_string);
    let addresses = deletion.addresses.iter();
    let addresses = addresses.map(|(kind, identifier)| format!("{kind}:{}", identifier.encoded()));
    ids.chain(addresses).collect()
}
