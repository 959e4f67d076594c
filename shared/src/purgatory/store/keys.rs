//! The names of everything that the purgatory keeps. `docs/redis.md` has what each is, its type and its TTL, and tests
//! compare the two: the names below, types and fields in `shared/tests/purgatory/`.
//!
//! All keys have the hash tag `{purgatory}`: one script is one atomic step over them, on Redis Cluster too.

use crate::purgatory::reading::Reading;

/// The keys of the scripts, by the names that these have for them. Of one with a variable part they get what stands
/// before it.
const SCRIPT_KEYS: [(&str, &str); 38] = [
    ("changes", "{purgatory}:changes"),
    ("leases", "{purgatory}:leases"),
    ("dirty", "{purgatory}:dirty"),
    ("dirty_pull_requests", "{purgatory}:dirty_pull_requests"),
    ("releasing", "{purgatory}:releasing"),
    ("releasing_counts", "{purgatory}:releasing_counts"),
    ("entries", "{purgatory}:entries"),
    ("bytes", "{purgatory}:bytes"),
    ("placeholders", "{purgatory}:placeholders"),
    ("deadlines", "{purgatory}:deadlines"),
    ("new_repositories", "{purgatory}:new_repositories"),
    ("refusals", "{purgatory}:refusals"),
    ("decisions", "{purgatory}:decisions"),
    ("epoch", EPOCH),
    ("entry", "{purgatory}:entry:<event-id>"),
    (
        "announcements",
        "{purgatory}:announcements:<pubkey>:<encoded identifier>",
    ),
    ("coordinate", "{purgatory}:coordinate:<pubkey>:<encoded identifier>"),
    (
        "pull_requests",
        "{purgatory}:pull_requests:<pubkey>:<encoded identifier>",
    ),
    ("looked_at", "{purgatory}:looked_at:<pubkey>:<encoded identifier>"),
    ("round", "{purgatory}:round:<pubkey>:<encoded identifier>"),
    ("announcement", "{purgatory}:announcement:<pubkey>:<encoded identifier>"),
    ("own", "{purgatory}:own:<pubkey>"),
    ("own_counts", "{purgatory}:own_counts:<pubkey>"),
    ("author", "{purgatory}:author:<pubkey>"),
    ("author_bytes", "{purgatory}:author_bytes:<pubkey>"),
    ("source_counts", "{purgatory}:source_counts:<encoded source>"),
    ("source", "{purgatory}:source:<encoded source>"),
    ("source_bytes", "{purgatory}:source_bytes:<encoded source>"),
    (
        "placeholder",
        "{purgatory}:placeholder:<event-id>:<pubkey>:<encoded identifier>:<commit>",
    ),
    (
        "placeholders_of",
        "{purgatory}:placeholders:<pubkey>:<encoded identifier>",
    ),
    ("placeholders_from", "{purgatory}:placeholders_from:<encoded source>"),
    ("listed_by", "{purgatory}:listed_by:<pubkey>:<encoded identifier>"),
    ("lists", "{purgatory}:lists:<pubkey>:<encoded identifier>"),
    ("waiting", "{purgatory}:waiting:<event-id>"),
    ("behind", "{purgatory}:behind:<event-id>"),
    ("deleted", "{purgatory}:deleted:<pubkey>:<span>"),
    ("gate_bytes", "{purgatory}:gate_bytes:<span>"),
    ("settings", "{purgatory}:settings:<program>"),
];

/// The epoch.
pub(super) const EPOCH: &str = "{purgatory}:epoch";

/// Written to see whether Redis accepts writes in time.
pub(super) const PROBE: &str = "{purgatory}:probe";

/// No key but the channel on which a script notifies that a coordinate became dirty, or an entry releasing or due. The
/// message is empty.
pub(super) const WAKE: &str = "{purgatory}:wake";

/// How long after its deadline an entry or a placeholder is removed even if no gateway decides about it.
const BACKSTOP_SECS: u64 = 48 * 60 * 60;

/// The longest JSON of an event of which an entry leaves out what other fields have.
const CUT_BYTES_MAX: usize = 4 << 10;

/// Coordinates about which one call reads.
const COORDINATES_MAX: usize = 25;

/// Coordinates of which everything is read in one call, if a page has room for it: the repositories of a PR.
const FEW_MAX: usize = crate::nip34::PullRequest::REPOSITORIES_MAX;

/// The span of deadlines of which events are counted together: so many are in the longest that one may be held for.
const COUNT_SECS: u64 = 6 * 60 * 60;

/// How long a deleted event is kept out, and the span of time whose gates are one key. Only until the relay
/// has committed the request: from then on the relay itself is asked for the deletions that it serves.
const GATE_SECS: u64 = 10 * 60;

/// Gates of one author in one span: two requests of the most targets that are read of one
/// ([`Deletion::TARGETS_MAX`](crate::nip01::Deletion::TARGETS_MAX) of each form).
const GATES_PER_AUTHOR_MAX: u64 = 400;

/// Bytes of the gates of all in one span. Two spans count at a time, so twice of it in all.
const GATES_BYTES_MAX: u64 = 8 << 20;

/// Gates that each author may have when others have used half of it.
const GATES_KEPT_FREE: u64 = 16;

/// Entries of one coordinate that each author may have, however many others have: more states and PRs than an honest
/// author has waiting at a time.
const SHARE_KEPT_FREE: u64 = 32;

/// Placeholders that each repository may have, however many others have. Fewer than one push may bring: a new place
/// costs a signed announcement.
const PLACEHOLDERS_KEPT_FREE: u64 = 16;

/// Sources of which is remembered how many new repositories they have announced: beyond it those are forgotten that
/// have announced the fewest, or longest ago, and while all have announced more than one, of new ones nothing is
/// counted: who has so many addresses has their shares anyway.
const ANNOUNCING_MAX: usize = 20_000;

/// Related events that wait behind one event: a step that moves that one moves all of
/// them.
const BEHIND_MAX: usize = 32;

/// Of these, how many only the author of the event and the owners of its repositories may have.
const BEHIND_KEPT_FREE: usize = 8;

/// Of these, how many each stranger may have: more than a person writes before a PR is pushed.
const BEHIND_SHARE_MAX: usize = 8;

/// Related events that earlier versions let wait behind one event: all of them are moved.
const BEHIND_READ_MAX: usize = 48;

/// Events that a related one waits behind, at most, of all that it refers to: more than a comment in a thread does.
const AFTER_MAX: usize = 4;

/// Bytes of all announcements of one coordinate, which are read in one call, in some 3 ms: so many for each at least,
/// so that they are fewer than twice a page.
pub(super) const ANNOUNCEMENTS_BYTES_MAX: u64 = 1 << 20;
const ANNOUNCEMENT_BYTES_MIN: u64 = 34 << 10;

/// How much of the limits of a source, which others may share, and of those on all releasing events take at most.
const RELEASING_PART: f64 = 0.5;

/// For how long an event is put off that is ordered after one that the relay has not taken yet. As soon as that has
/// left, [`SCANNED_MAX`] such events are due at once.
const PUT_OFF_SECS_MAX: u64 = 10;

/// How many entries, their coordinates, and pubkeys that they list, one call changes: more than an honest one lists.
pub(super) const PAGE_MAX: usize = 32;

/// How many refusals are remembered: what one program logs in five minutes of a flood from everywhere
/// ([`RefusalLog`](crate::refusal_log::RefusalLog)), at most 8 MB.
const REFUSALS_MAX: usize = 3_000;

/// For how long, after the last of them: they have addresses of people.
const REFUSALS_SECS: u64 = 24 * 60 * 60;

/// How many changed PRs are reconciled under one lock, and as many others: setting the ref of one takes some ten
/// milliseconds, for which a push of the owner waits.
const UNRECONCILED_PAGE_MAX: usize = 4;

/// Bytes of events that one call returns or is given, and one event more.
pub(super) const PAGE_BYTES: usize = 128 << 10;

/// Subtracted from the number of a change to get the score of a PR that was not reconciled since: those are below 0, in
/// the order of their changes, and exact, until the year 2112.
const UNRECONCILED_OFFSET: u64 = 1 << 52;

/// How many entries of an index one call reads, however few of them it may return.
const SCANNED_MAX: u64 = 100;

/// How many of those who list the owner of a coordinate are ever read, and how many pubkeys of one announcement are
/// noted.
pub(super) const LISTED_MAX: usize = crate::rules::MEMBERS_MAX;

/// What the limits on held events count for each pubkey that an announcement lists, and twice its encoded identifier
/// beside that: what a key with one member takes of Redis, or of the gateway's memory, and the other member that leads
/// back to it.
const LISTING_BYTES: usize = 1 << 10;

/// Returns what every script call declares as KEYS: the names that do not depend on the call.
pub(super) fn fixed() -> Vec<&'static str> {
    let names = SCRIPT_KEYS.iter().map(|(_, form)| *form);
    names.filter(|form| !form.contains('<')).collect()
}

/// Returns the line of Lua that gives the scripts their names and bounds.
pub(super) fn lua_table() -> String {
    let prefix = |form: &'static str| form.split('<').next().unwrap_or(form);
    let names = SCRIPT_KEYS
        .iter()
        .map(|(name, form)| format!("{name} = '{}', ", prefix(form)));
    format!(
        "local K = {{ {}wake = '{WAKE}', backstop_secs = {BACKSTOP_SECS}, count_secs = {COUNT_SECS}, \
         cut_bytes_max = {CUT_BYTES_MAX}, coordinates_max = {COORDINATES_MAX}, few_max = {FEW_MAX}, \
         gate_secs = {GATE_SECS}, gates_per_author_max = {GATES_PER_AUTHOR_MAX}, gates_bytes_max = {GATES_BYTES_MAX}, \
         gates_kept_free = {GATES_KEPT_FREE}, share_kept_free = {SHARE_KEPT_FREE}, \
         placeholders_kept_free = {PLACEHOLDERS_KEPT_FREE}, announcing_max = {ANNOUNCING_MAX}, \
         page_max = {PAGE_MAX}, unreconciled_page_max = {UNRECONCILED_PAGE_MAX}, \
         page_bytes = {PAGE_BYTES}, scanned_max = {SCANNED_MAX}, unreconciled_offset = {UNRECONCILED_OFFSET}, \
         behind_max = {BEHIND_MAX}, behind_read_max = {BEHIND_READ_MAX}, behind_kept_free = {BEHIND_KEPT_FREE}, \
         behind_share_max = {BEHIND_SHARE_MAX}, \
         after_max = {AFTER_MAX}, put_off_secs_max = {PUT_OFF_SECS_MAX}, \
         announcement_bytes_min = {ANNOUNCEMENT_BYTES_MIN}, releasing_part = {RELEASING_PART}, \
         refusals_max = {REFUSALS_MAX}, refusals_secs = {REFUSALS_SECS}, \
         listing_max = {}, listed_max = {LISTED_MAX}, listing_bytes = {LISTING_BYTES} }}",
        names.collect::<String>(),
        Reading::LISTED_BY_MAX
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOC: &str = include_str!("../../../../docs/redis.md");

    #[test]
    fn every_key_in_the_doc_is_in_the_code_and_vice_versa() {
        let section = DOC.split_once("## Keys").unwrap().1;
        let section = section.split("\n#").next().unwrap();
        let documented: BTreeSet<&str> = section
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0))
            .collect();

        let forms = SCRIPT_KEYS.iter().map(|(_, form)| *form);
        assert_eq!(documented, forms.chain([PROBE]).collect());
        assert!(DOC.contains(&format!("One channel, which is no key: `{WAKE}`")));
    }
}
