//! The feed of a repository's releases (Atom, RFC 4287). Pure.

use gix::date::Time;
use gix::date::time::format::ISO8601_STRICT;
use shared::nip34::Coordinate;
use shared::rules::Service;

use crate::http::pages::escape;
use crate::http::pages::excerpt;
use crate::repositories::releases::TaggedRelease;
use wire::path::releases_path;
use wire::path::repository_path;

/// Writes the feed of a repository with this name, the newest release first.
pub(crate) fn feed(coordinate: &Coordinate, name: &str, service: &Service, releases: &[TaggedRelease]) -> String {
    let origin = service.http_origin();
    let page = escape(&format!("{origin}{}", repository_path(coordinate)));
    let own = escape(&format!("{origin}{}", releases_path(coordinate)));
    let name = xml(name);
    let updated = releases
        .first()
        .map_or_else(|| timestamp(Time::default()), |newest| timestamp(newest.time));
    let entries: String = releases.iter().map(|release| entry(release, &page)).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <feed xmlns=\"http://www.w3.org/2005/Atom\"><id>{own}</id><title>Releases of {name}</title>\
         <updated>{updated}</updated><author><name>{name}</name></author>\
         <link rel=\"self\" type=\"application/atom+xml\" href=\"{own}\"/>\
         <link rel=\"alternate\" type=\"text/html\" href=\"{page}\"/>{entries}</feed>\n"
    )
}

fn entry(release: &TaggedRelease, page: &str) -> String {
    // A tag that is moved is another release.
    format!(
        "<entry><id>{page}#{oid}</id><title>{name}</title><updated>{time}</updated>\
         <link rel=\"alternate\" type=\"text/html\" href=\"{page}\"/>\
         <content type=\"text\">{message}</content></entry>",
        oid = release.oid,
        name = xml(&excerpt(&release.name, NAME_CHARS_MAX)),
        time = timestamp(release.time),
        message = xml(&excerpt(&release.message, MESSAGE_CHARS_MAX)),
    )
}

/// Escapes text for XML 1.0, which has no control characters, escaped or not.
fn xml(text: &str) -> String {
    let is_allowed = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}') || matches!(c, '\n' | '\t');
    escape(&text.chars().filter(is_allowed).collect::<String>())
}

/// Writes a time (RFC 3339), in UTC: the zones that commits name need not exist.
pub(super) fn timestamp(time: Time) -> String {
    let utc = Time::new(time.seconds, 0).format(ISO8601_STRICT).ok();
    utc.filter(|text| text.len() == FIRST_TIME.len() && !text.starts_with('-'))
        .unwrap_or_else(|| FIRST_TIME.to_owned())
}

/// Written instead of a time that the format cannot represent.
const FIRST_TIME: &str = "1970-01-01T00:00:00+00:00";

/// Of a tag.
const NAME_CHARS_MAX: usize = 100;

const MESSAGE_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::coordinate;

    #[test]
    fn times_are_those_of_the_calendar_or_the_first() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (1_700_000_000, "2023-11-14T22:13:20+00:00"),
            (i64::MAX, "1970-01-01T00:00:00+00:00"),
            (i64::MIN, "1970-01-01T00:00:00+00:00"),
            (-62_200_000_000, "1970-01-01T00:00:00+00:00"),
            (253_500_000_000, "1970-01-01T00:00:00+00:00"),
        ] {
            assert_eq!(timestamp(Time::new(seconds, 99 * 3600)), text, "{seconds}");
        }
    }

    #[test]
    fn what_tags_say_is_text() {
        let release = TaggedRelease {
            name: "v1]]><script>".to_owned(),
            oid: "1".repeat(40).parse().unwrap(),
            time: Time::default(),
            message: "\u{0}\u{1b}[31m</content><entry>&\u{ffff}".to_owned(),
        };

        let feed = feed(
            &coordinate("a\"b"),
            "<b>",
            &"git.example.com".parse().unwrap(),
            &[release],
        );

        assert!(feed.contains("<title>v1]]&gt;&lt;script&gt;</title>"), "{feed}");
        assert!(
            feed.contains("[31m&lt;/content&gt;&lt;entry&gt;&amp;</content>"),
            "{feed}"
        );
        assert_eq!(feed.matches("<entry>").count(), 1);
        assert!(!feed.contains(['\u{0}', '\u{1b}', '\u{ffff}']));
    }
}
