//! The web pages, and what all of them share. Everything that comes from outside is escaped; no scripts, and nothing
//! that a browser would have to fetch. Pure.

pub(crate) mod contents;
pub(crate) mod feed;
pub(crate) mod landing;
mod readme;
mod ref_tables;
pub(crate) mod repository;

use shared::rules::Service;
use warp::http::StatusCode;

/// A page without its body.
#[derive(Debug, Default)]
pub(crate) struct PageHead<'h> {
    /// Whose page it is: the name of the link home.
    pub(crate) site: &'h str,
    pub(crate) title: &'h str,
    /// After how long a browser asks for it again.
    pub(crate) reload_secs: Option<u32>,
    pub(crate) feed: Option<&'h str>,
}

/// The page of a failure: the line that other clients get, and advice.
pub(crate) fn failure(status: StatusCode, reason: &str, retry_after_secs: Option<u32>) -> String {
    let (title, advice) = match status {
        StatusCode::NOT_FOUND => (
            "Not found",
            "Search for its name on the <a href=\"/\">start page</a>. A repository appears here, under its owner's \
             npub and its identifier, once its announcement names this server. An announcement without a push expires.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            "Too large",
            "Send less at once. A large repository can be pushed branch by branch.",
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            "Too many requests",
            "Reload the page later, and end other requests of your network to this server.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "Not available now",
            "Reload the page later; git shows the same reason. The announcement of a repository may name other \
             servers that have it: <a href=\"https://gitworkshop.dev/repos\">gitworkshop.dev</a> shows where.",
        ),
        other => (
            other.canonical_reason().unwrap_or("Failed"),
            "The <a href=\"/\">start page</a> explains what this server is for.",
        ),
    };
    let wait = retry_after_secs.map_or_else(String::new, |secs| format!(" Try again in {secs} seconds."));
    let body = format!(
        "<h1>{title}</h1><p class=\"notice\" role=\"status\">{}.</p><p>{advice}{wait}</p>",
        escape(reason.trim_end_matches('.')),
    );
    let head = PageHead {
        site: "Start page",
        title,
        ..PageHead::default()
    };
    document(&head, &body)
}

fn page(service: &Service, title: &str, feed: Option<&str>, body: &str) -> String {
    let head = PageHead {
        site: &service.to_string(),
        title,
        feed,
        ..PageHead::default()
    };
    document(&head, body)
}

pub(crate) fn document(head: &PageHead<'_>, body: &str) -> String {
    let reload = head
        .reload_secs
        .map(|secs| format!("<meta http-equiv=\"refresh\" content=\"{secs}\">"));
    let feed = head.feed.map(|path| {
        format!(
            "<link rel=\"alternate\" type=\"application/atom+xml\" title=\"Releases\" href=\"{}\">",
            escape(path)
        )
    });
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">{reload}{feed}\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><header><a href=\"/\">{site}</a></header><main>{body}</main></body></html>\n",
        reload = reload.unwrap_or_default(),
        feed = feed.unwrap_or_default(),
        title = escape(head.title),
        site = escape(head.site),
    )
}

/// Returns that a list has so many more items; empty: it has none.
pub(crate) fn and_more(count: usize) -> String {
    match count {
        0 => String::new(),
        more => format!("<p class=\"quiet\">and {more} more</p>"),
    }
}

/// Returns the start of a text that is too long for a row, with a mark if there is more.
pub(crate) fn excerpt(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns an excerpt for HTML, with a bound in bytes too.
fn escaped_excerpt(text: &str, chars_max: usize) -> String {
    let excerpt = excerpt(text, chars_max);
    match beginning(&excerpt, chars_max * CHAR_BYTES) {
        shown if shown == excerpt => escape(shown),
        shown => escape(shown) + "…",
    }
}

/// Returns the start of a text, with so many bytes after escaping.
fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut bytes = 0;
    let mut chars = text.char_indices();
    let end = chars.find(|(_, c)| {
        bytes += entity(*c).map_or(c.len_utf8(), str::len);
        bytes > bytes_max
    });
    end.map_or(text, |(end, _)| &text[..end])
}

/// Escapes text for HTML, in elements and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match entity(c) {
            Some(entity) => escaped.push_str(entity),
            None => escaped.push(c),
        }
    }
    escaped
}

fn entity(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    }
}

/// Of any page.
const PAGE_BYTES_MAX: usize = 30_000;

/// Average length of a character in an excerpt: that of most scripts is not longer.
const CHAR_BYTES: usize = 3;

/// Inline, so that a page is one request and needs nothing else to be allowed (`reply::html`).
const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_text() {
        assert_eq!(
            escape("<img src=x onerror='a'>\"&"),
            "&lt;img src=x onerror=&#39;a&#39;&gt;&quot;&amp;"
        );
        assert_eq!(beginning("a<é", 5), "a<");
        assert_eq!(excerpt("äöü", 2), "äö…");
        assert_eq!(excerpt("äöü", 3), "äöü");
        assert_eq!(escaped_excerpt("<<<", 2), "&lt;…");
        let service = "svc".parse().unwrap();
        assert!(!page(&service, "</title><script>", None, "").contains("<script>"));
    }

    #[test]
    fn the_style_cannot_end_its_element() {
        assert!(!STYLE.contains('<'));
    }
}
