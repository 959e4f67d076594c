//! The names of everything that the purgatory keeps in Redis; `docs/redis.md` is the same table for people, and the
//! tests below compare the two.
//!
//! All keys have the hash tag `{purgatory}`: one script is one atomic step over them, on Redis Cluster too. The scripts
//! get the names from here ([`lua_table`]) and put the variable parts behind the prefixes. `<encoded identifier>` is
//! `Identifier::encoded`, `<pubkey>` and `<event-id>` are 64 hex digits.

use crate::purgatory::bounds::BACKSTOP_SECS;
use crate::purgatory::bounds::GATE_SECS;
use crate::purgatory::bounds::SCANNED_MAX;

/// `{purgatory}:changes` STRING, the last dirty number; none is below the microsecond it was drawn in. No TTL.
pub(super) const CHANGES: &str = "{purgatory}:changes";
/// `{purgatory}:leases` STRING, the last lease; drawn as the dirty numbers are. No TTL.
pub(super) const LEASES: &str = "{purgatory}:leases";
/// `{purgatory}:dirty` ZSET of dirty identifiers (plain text) by dirty number. No TTL.
pub(super) const DIRTY: &str = "{purgatory}:dirty";
/// `{purgatory}:deadlines` ZSET of event ids (held, asleep) and placeholders (`<event-id>:<pubkey>:<encoded
/// identifier>`) by the time at which a gateway has to reconcile: the deadline, or later if one has tried. No TTL.
pub(super) const DEADLINES: &str = "{purgatory}:deadlines";
/// `{purgatory}:releasing` ZSET of event ids (releasing, stuck) by the time at which a gateway may publish them: the
/// end of the lease, the next attempt, or at once. No TTL.
pub(super) const RELEASING: &str = "{purgatory}:releasing";
/// `{purgatory}:entries` ZSET of `<event-id>:<bytes of the event>` (held, asleep) by deadline, for the limits on all.
/// No TTL; a member that a crash leaked does not count from [`BACKSTOP_SECS`] after its deadline on.
pub(super) const ENTRIES: &str = "{purgatory}:entries";
/// `{purgatory}:bytes` STRING, the sum of the bytes in [`ENTRIES`]; not there if that is empty. No TTL.
pub(super) const BYTES: &str = "{purgatory}:bytes";
/// `{purgatory}:placeholders` ZSET of placeholders (as in [`DEADLINES`]) by deadline, for their limit. TTL as
/// [`ENTRIES`].
pub(super) const PLACEHOLDERS: &str = "{purgatory}:placeholders";
/// `{purgatory}:entry:<event-id>` HASH (fields: docs/redis.md). TTL [`BACKSTOP_SECS`] after the deadline;
/// none while it is releasing or stuck.
pub(super) const ENTRY: &str = "{purgatory}:entry:";
/// `{purgatory}:identifier:<encoded identifier>` SET of the event ids indexed by it, in any status. No TTL; vanished
/// ones are taken out when it is read.
pub(super) const IDENTIFIER: &str = "{purgatory}:identifier:";
/// `{purgatory}:announcement:<pubkey>:<encoded identifier>` STRING, the event id of the announcement that is held or
/// asleep. TTL as its entry.
pub(super) const ANNOUNCEMENT: &str = "{purgatory}:announcement:";
/// `{purgatory}:author:<pubkey>` ZSET, as [`ENTRIES`] of one author, for the limits per author. TTL
/// [`BACKSTOP_SECS`] after the latest deadline.
pub(super) const AUTHOR: &str = "{purgatory}:author:";
/// `{purgatory}:author_bytes:<pubkey>` STRING, the sum of the bytes in [`AUTHOR`], and as long there.
pub(super) const AUTHOR_BYTES: &str = "{purgatory}:author_bytes:";
/// `{purgatory}:source:<encoded source>` ZSET, as [`ENTRIES`] from one source, for the limits per source. TTL
/// [`BACKSTOP_SECS`] after the latest deadline.
pub(super) const SOURCE: &str = "{purgatory}:source:";
/// `{purgatory}:source_bytes:<encoded source>` STRING, the sum of the bytes in [`SOURCE`], and as long there.
pub(super) const SOURCE_BYTES: &str = "{purgatory}:source_bytes:";
/// `{purgatory}:placeholder:<event-id>:<pubkey>:<encoded identifier>` HASH (fields: docs/redis.md); the
/// pubkey is the repository owner's. TTL [`BACKSTOP_SECS`] after the deadline.
pub(super) const PLACEHOLDER: &str = "{purgatory}:placeholder:";
/// `{purgatory}:placeholders:<encoded identifier>` SET of the placeholders (as in [`DEADLINES`]) in repositories with
/// this identifier. TTL [`BACKSTOP_SECS`] after the latest deadline.
pub(super) const PLACEHOLDERS_OF: &str = "{purgatory}:placeholders:";
/// `{purgatory}:deleted:event:<pubkey>:<event-id>` STRING, when its author asked to delete the event. TTL
/// [`GATE_SECS`].
pub(super) const DELETED_EVENT: &str = "{purgatory}:deleted:event:";
/// `{purgatory}:deleted:address:<pubkey>:<kind>:<encoded identifier>` STRING, up to which `created_at` its author asked
/// to delete the addressable event. TTL [`GATE_SECS`].
pub(super) const DELETED_ADDRESS: &str = "{purgatory}:deleted:address:";
/// `{purgatory}:deleted:author:<pubkey>` STRING, up to which `created_at` its author asked to vanish. TTL
/// [`GATE_SECS`].
pub(super) const DELETED_AUTHOR: &str = "{purgatory}:deleted:author:";

/// `{purgatory}:epoch` STRING `<run id>:<number>`: the server that this purgatory was last known whole on, and a number
/// that distinguishes two losses. No TTL.
pub(super) const EPOCH: &str = "{purgatory}:epoch";
/// `{purgatory}:probe` STRING that means nothing, written to see whether Redis takes writes in time. TTL 60 s.
pub(super) const PROBE: &str = "{purgatory}:probe";

/// `{purgatory}:wake` is no key but the channel on which a script notifies that an identifier became dirty, or an entry
/// releasing or due. The message is empty.
pub(super) const WAKE: &str = "{purgatory}:wake";

/// What every script call declares as KEYS: the names that do not depend on the call.
pub(super) const KEYS: [&str; 9] = [
    CHANGES,
    LEASES,
    DIRTY,
    DEADLINES,
    RELEASING,
    ENTRIES,
    BYTES,
    PLACEHOLDERS,
    EPOCH,
];

/// Names the scripts use, for the table `K` in Lua.
const LUA_NAMES: [(&str, &str); 23] = [
    ("changes", CHANGES),
    ("leases", LEASES),
    ("dirty", DIRTY),
    ("deadlines", DEADLINES),
    ("releasing", RELEASING),
    ("entries", ENTRIES),
    ("bytes", BYTES),
    ("placeholders", PLACEHOLDERS),
    ("entry", ENTRY),
    ("identifier", IDENTIFIER),
    ("announcement", ANNOUNCEMENT),
    ("author", AUTHOR),
    ("author_bytes", AUTHOR_BYTES),
    ("source", SOURCE),
    ("source_bytes", SOURCE_BYTES),
    ("placeholder", PLACEHOLDER),
    ("placeholders_of", PLACEHOLDERS_OF),
    ("deleted_event", DELETED_EVENT),
    ("deleted_address", DELETED_ADDRESS),
    ("deleted_author", DELETED_AUTHOR),
    ("epoch", EPOCH),
    ("probe", PROBE),
    ("wake", WAKE),
];

/// Returns the line of Lua that gives the scripts their names.
pub(super) fn lua_table() -> String {
    let names: String = LUA_NAMES
        .iter()
        .map(|(name, text)| format!("{name} = '{text}', "))
        .collect();
    format!(
        "local K = {{ {names}backstop_secs = {BACKSTOP_SECS}, gate_secs = {GATE_SECS}, \
         scanned_max = {SCANNED_MAX} }}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOC: &str = include_str!("../../../../docs/redis.md");

    /// First cells of the table under `heading` in docs/redis.md, without the backquotes.
    fn documented(heading: &str) -> BTreeSet<String> {
        let section = DOC.split_once(heading).unwrap().1;
        let section = section.split("\n#").next().unwrap();
        section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(cell, _)| cell.to_owned())
            .collect()
    }

    #[test]
    fn every_key_in_the_doc_is_in_the_code_and_vice_versa() {
        let patterns: BTreeSet<String> = documented("## Keys")
            .iter()
            .map(|pattern| pattern.split('<').next().unwrap().to_owned())
            .collect();

        let names: BTreeSet<String> = LUA_NAMES
            .iter()
            .map(|(_, text)| (*text).to_owned())
            .filter(|name| name != WAKE)
            .collect();
        assert_eq!(patterns, names);
        assert!(DOC.contains(&format!("One channel, which is no key: `{WAKE}`")));
    }

    #[test]
    fn every_key_in_the_doc_has_the_form_that_the_code_documents() {
        let source = include_str!("keys.rs");
        for pattern in documented("## Keys") {
            assert!(
                source
                    .lines()
                    .any(|line| line.starts_with(&format!("/// `{pattern}` "))),
                "{pattern}"
            );
        }
    }
}
