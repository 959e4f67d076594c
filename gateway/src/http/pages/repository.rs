//! The page of a repository: what its events describe, with the content of its newest commit. Pure.

use nostr::event::Kind;
use nostr::key::PublicKey;
use nostr::nips::nip01;
use nostr::nips::nip19::Nip19Coordinate;
use nostr::nips::nip19::ToBech32;
use nostr::types::RelayUrl;
use shared::nip34;
use shared::nip34::Coordinate;
use shared::rules::EventStatus;
use shared::rules::Facts;
use shared::rules::Hosting;
use shared::rules::Service;

use crate::http::open_counts::OpenCount;
use crate::http::pages::PAGE_BYTES_MAX;
use crate::http::pages::and_more;
use crate::http::pages::contents::Contents;
use crate::http::pages::escape;
use crate::http::pages::escaped_excerpt;
use crate::http::pages::excerpt;
use crate::http::pages::page;
use crate::http::pages::ref_tables::ref_tables;
use wire::path::npub;
use wire::path::releases_path;
use wire::path::repository_path;

/// Returns the name of a repository: its owner's, or its identifier.
pub(crate) fn name_of<'n>(coordinate: &'n Coordinate, facts: &'n Facts) -> &'n str {
    let announced = facts.announcement(coordinate).map(|known| known.item.name.as_str());
    announced
        .filter(|name| !name.is_empty())
        .unwrap_or(coordinate.identifier.as_str())
}

/// The page of a repository without the content of a commit.
#[derive(Debug)]
pub(crate) struct Outline<'f> {
    service: &'f Service,
    title: String,
    feed: String,
    opening: String,
    refs: String,
    maintainers: String,
}

impl<'f> Outline<'f> {
    /// Writes it; `None` if the repository is not hosted here.
    pub(crate) fn new(coordinate: &Coordinate, facts: &'f Facts, open: Option<OpenCount>) -> Option<Self> {
        let notice = match facts.hosting(coordinate) {
            Hosting::Absent => return None,
            Hosting::Waiting => notice(
                "This repository is announced but not served yet: its git data has not been pushed.",
                held_secs(coordinate, facts),
            ),
            Hosting::Announced if facts.candidate_states(coordinate).is_empty() => String::new(),
            Hosting::Announced => notice(
                "Its maintainers have declared a newer state: its git data has not been pushed yet.",
                None,
            ),
        } + &unfulfillable(coordinate, facts);
        let announcement = &facts.announcement(coordinate)?.item;
        let (identifier, name) = (coordinate.identifier.as_str(), name_of(coordinate, facts));
        let opening = format!(
            // Each with a direction of its own: text from right to left does not reorder what surrounds it.
            "<h1 dir=\"auto\">{shown}</h1>{identifier}\
             <p class=\"description\" dir=\"auto\">{description}</p>{notice}{access}",
            shown = escaped_excerpt(name, NAME_CHARS_MAX),
            identifier = match name == identifier {
                true => String::new(),
                false => format!(
                    "<p class=\"quiet\"><code><bdi>{}</bdi></code></p>",
                    escaped_excerpt(identifier, NAME_CHARS_MAX)
                ),
            },
            description = escaped_excerpt(&announcement.description, DESCRIPTION_CHARS_MAX),
            access = access(coordinate, &facts.service, open),
        );
        Some(Self {
            service: &facts.service,
            title: excerpt(name, TITLE_CHARS_MAX),
            feed: releases_path(coordinate),
            opening,
            refs: ref_tables(coordinate, facts),
            maintainers: maintainers(coordinate, facts),
        })
    }

    /// Returns for how many bytes there is room, in steps: for each of them a README is rendered once.
    pub(crate) fn room(&self) -> usize {
        let room = PAGE_BYTES_MAX.saturating_sub(self.page(&Contents::default()).len());
        room - room % ROOM_STEP_BYTES
    }

    pub(crate) fn page(&self, contents: &Contents) -> String {
        let Contents { readme, commits } = contents;
        let (opening, refs, maintainers) = (&self.opening, &self.refs, &self.maintainers);
        let body = format!("{opening}{readme}{refs}{commits}{maintainers}");
        page(self.service, &self.title, Some(&self.feed), &body)
    }
}

fn notice(text: &str, secs_left: Option<u64>) -> String {
    let left = match secs_left.map(|secs| secs / 60) {
        None => String::new(),
        Some(0) => " Less than a minute is left to push it.".to_owned(),
        Some(1) => " One minute is left to push it.".to_owned(),
        Some(minutes) => format!(" {minutes} minutes are left to push it."),
    };
    format!("<p class=\"notice\" role=\"status\">{text}{left}</p>")
}

/// Returns a notice that the newest state that waits can never be served; empty if it can, or if none waits.
fn unfulfillable(coordinate: &Coordinate, facts: &Facts) -> String {
    let newest = facts.candidate_states(coordinate).into_iter().next();
    let fault = newest.and_then(|state| state.declared.as_ref().err());
    fault.map_or_else(String::new, |fault| {
        let fault = escape(&fault.to_string());
        notice(
            &format!("No push can fulfil the newest state that they have declared: {fault}."),
            None,
        )
    })
}

/// Returns the seconds for which the announcement is still held; `None` if it is not held.
fn held_secs(coordinate: &Coordinate, facts: &Facts) -> Option<u64> {
    let announcement = facts.announcement(coordinate)?;
    let entry = facts.entries.get(&announcement.item.revision.event_id)?;
    (announcement.status == EventStatus::Held).then(|| entry.deadline.saturating_sub(facts.now))
}

fn access(coordinate: &Coordinate, service: &Service, open: Option<OpenCount>) -> String {
    let address = nostr_address(coordinate, service);
    format!(
        "<h2>Clone</h2>\
         <h3>with git</h3><pre class=\"copy\">git clone {origin}{path}</pre>\
         <h3>with <a href=\"https://gitworkshop.dev/ngit\">ngit</a>, to open pull requests too</h3>\
         <pre class=\"copy\">git clone nostr://{address}</pre>\
         <p>Files, {open}: <a href=\"https://gitworkshop.dev/{address}\">gitworkshop.dev</a></p>",
        open = open.map_or_else(|| "issues and pull requests".to_owned(), open_text),
        origin = escape(&service.http_origin()),
        path = escape(&repository_path(coordinate)),
        address = escape(&address),
    )
}

fn open_text(open: OpenCount) -> String {
    let count = |number: usize, one: &str| match number {
        1 => format!("1 open {one}"),
        number => format!("{number} open {one}s"),
    };
    let (issues, pull_requests) = (count(open.issues, "issue"), count(open.pull_requests, "pull request"));
    let newest = if open.is_partial { " among the newest" } else { "" };
    format!("{issues} and {pull_requests}{newest}")
}

/// Returns the repository's address as ngit and gitworkshop.dev read it: `<npub>/<relay host>/<identifier>` (ngit
/// `nostr_url.rs`, gitworkshop `RepoRoute`).
///
/// ngit does not decode the identifier in that form, and both assume a relay with TLS. A repository that this does not
/// fit gets its `naddr` (NIP-19), which both read as well.
fn nostr_address(coordinate: &Coordinate, service: &Service) -> String {
    let (npub, identifier) = (npub(&coordinate.owner), coordinate.identifier.as_str());
    let readable = format!("{npub}/{service}/{}", coordinate.identifier.encoded());
    let relay = service.relay_url();
    if coordinate.identifier.encoded() == identifier && relay == format!("wss://{service}") {
        return readable;
    }
    let address = nip01::Coordinate::new(Kind::from_u16(nip34::ANNOUNCEMENT), coordinate.owner).identifier(identifier);
    let relay = RelayUrl::parse(&relay).ok();
    Nip19Coordinate::new(address, relay).to_bech32().unwrap_or(readable)
}

fn maintainers(coordinate: &Coordinate, facts: &Facts) -> String {
    let confirmed = facts.membership(coordinate).confirmed;
    let (owner, others): (Vec<&PublicKey>, Vec<&PublicKey>) =
        confirmed.iter().partition(|key| **key == coordinate.owner);
    let items: String = owner
        .into_iter()
        .chain(others)
        .take(MAINTAINERS_SHOWN_MAX)
        .map(|maintainer| {
            let owner = if *maintainer == coordinate.owner {
                " <span class=\"mark\">owner</span>"
            } else {
                ""
            };
            format!("<li><code>{}</code>{owner}</li>", npub(maintainer))
        })
        .collect();
    if items.is_empty() {
        return String::new();
    }
    let more = and_more(confirmed.len().saturating_sub(MAINTAINERS_SHOWN_MAX));
    format!("<h2>Maintainers</h2><ul>{items}</ul>{more}")
}

/// A README is rendered once for each of the rooms that there may be.
const ROOM_STEP_BYTES: usize = 1024;

/// Maintainers listed on a page, of 200 at most.
const MAINTAINERS_SHOWN_MAX: usize = 20;

/// Of a name; identifiers are no longer.
const NAME_CHARS_MAX: usize = 255;

const TITLE_CHARS_MAX: usize = 100;

const DESCRIPTION_CHARS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nostr::event::Event;
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::key::Keys;
    use nostr::nips::nip19::FromBech32;
    use shared::purgatory::Reading;
    use shared::rules::Covered;
    use shared::rules::MaintainerMode;

    use super::*;
    use crate::repositories::head_contents::CommitLine;
    use crate::repositories::head_contents::HeadContents;
    use crate::repositories::head_contents::Readme;

    fn repository(identifier: &str) -> Coordinate {
        Coordinate {
            owner: PublicKey::from_hex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap(),
            identifier: identifier.parse().unwrap(),
        }
    }

    #[test]
    fn addresses_that_clients_read_rightly_are_readable() {
        let address = nostr_address(&repository("my.repo.git"), &"git.example.com".parse().unwrap());

        let npub = "npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d";
        assert_eq!(address, format!("{npub}/git.example.com/my.repo.git"));
    }

    #[test]
    fn what_clients_would_misread_has_an_naddr() {
        for (identifier, domain, relay) in [
            ("my repo", "git.example.com", "wss://git.example.com"),
            ("🦀", "git.example.com", "wss://git.example.com"),
            ("a:b?c#d%20", "git.example.com", "wss://git.example.com"),
            ("r", "127.0.0.1:7334", "ws://127.0.0.1:7334"),
        ] {
            let address = nostr_address(&repository(identifier), &domain.parse().unwrap());

            let parsed = Nip19Coordinate::from_bech32(&address).unwrap();
            assert_eq!(parsed.coordinate.identifier, identifier);
            assert_eq!(parsed.coordinate.public_key, repository(identifier).owner);
            assert_eq!(parsed.coordinate.kind.as_u16(), nip34::ANNOUNCEMENT);
            assert_eq!(parsed.relays, [RelayUrl::parse(relay).unwrap()]);
        }
    }

    #[test]
    fn the_longest_identifier_has_an_address() {
        let address = nostr_address(&repository(&"🦀".repeat(63)), &"git.example.com".parse().unwrap());

        assert!(address.starts_with("naddr1"), "{address}");
    }

    fn signed(keys: &Keys, kind: u16, tags: Vec<Vec<String>>) -> Event {
        EventBuilder::new(Kind::from_u16(kind), "")
            .tags(tags.into_iter().map(|tag| Tag::parse(tag).unwrap()))
            .finalize(keys)
            .unwrap()
    }

    /// Everything about a repository that untrusted authors can write, at its maximum length, in the characters that
    /// take most.
    fn facts_at_their_limits(keys: &[Keys], identifier: &str) -> Facts {
        let tag = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<String>>();
        let (service, long): (Service, String) = ("git.example.com".parse().unwrap(), "'".repeat(5000));
        let announcements = keys.iter().map(|own| {
            let npub = own.public_key().to_bech32().unwrap();
            let others = keys.iter().map(|other| other.public_key().to_hex());
            let tags = vec![
                tag(&["d", identifier]),
                tag(&["name", &long]),
                tag(&["description", &long]),
                tag(&[
                    "clone",
                    &format!("https://git.example.com/{npub}/{}.git", "x".repeat(10)),
                ]),
                tag(&["relays", &service.relay_url()]),
                ["maintainers".to_owned()].into_iter().chain(others).collect(),
            ];
            signed(own, nip34::ANNOUNCEMENT, tags)
        });
        let mut tags = vec![tag(&["d", identifier]), tag(&["HEAD", "ref: refs/heads/main"])];
        for number in 0..2000 {
            for kind in ["heads", "tags"] {
                tags.push(tag(&[
                    &format!("refs/{kind}/{number}{}", "'".repeat(20)),
                    &"1".repeat(40),
                ]));
            }
        }
        tags.push(tag(&["refs/heads/main", &"2".repeat(40)]));
        let state = signed(&keys[0], nip34::STATE, tags);
        let coordinates = keys.iter().map(|own| Coordinate {
            owner: own.public_key(),
            identifier: identifier.parse().unwrap(),
        });
        let covered = Covered {
            coordinates: coordinates.collect(),
            ..Covered::default()
        };
        let events = announcements.chain([state]).collect();
        let (mode, access, reading) = (MaintainerMode::default(), Arc::default(), Reading::default());
        Facts::assemble(service, mode, access, covered, reading, events)
    }

    #[test]
    fn a_page_with_everything_at_its_limit_stays_in_its_budget_and_shows_of_everything() {
        let keys: Vec<Keys> = (0..30).map(|_| Keys::generate()).collect();
        for (identifier, character) in [("r".to_owned(), "a"), ("'".repeat(255), "'"), ("🦀".repeat(63), "🦀")] {
            let facts = facts_at_their_limits(&keys, &identifier);
            let coordinate = Coordinate {
                owner: keys[0].public_key(),
                identifier: identifier.parse().unwrap(),
            };
            let commit = || CommitLine {
                oid: "3".repeat(40).parse().unwrap(),
                title: character.repeat(500),
                author: character.repeat(500),
                time: None,
            };
            let read = HeadContents {
                readme: Some(Readme {
                    text: "<'\n\n".repeat(4000),
                    is_markdown: true,
                    is_whole: false,
                }),
                commits: (0..10).map(|_| commit()).collect(),
            };
            let open = OpenCount {
                issues: 100,
                pull_requests: 100,
                is_partial: true,
            };

            let outline = Outline::new(&coordinate, &facts, Some(open)).unwrap();
            let page = outline.page(&Contents::new(&read, outline.room()));

            assert!(page.len() <= PAGE_BYTES_MAX, "{}: {identifier}", page.len());
            for part in [
                "<article dir=\"auto\"><p>&lt;'</p>\n<p>",
                "The rest of the README is not shown.",
                "<bdi>main</bdi> <span class=\"mark\">default",
                "<bdi>1999&#39;",
                "Last commits",
                "and 10 more",
            ] {
                assert!(page.contains(part), "{part} in {page}");
            }
        }
    }
}
