//! The pages a person sees. Everything that comes from outside is escaped; no scripts. Pure.

use shared::nip34::Coordinate;
use shared::rules::Facts;
use shared::rules::Hosting;
use shared::rules::Service;

use crate::path::npub;
use crate::path::repository_path;

/// The page at `/`.
pub fn landing(service: &Service) -> String {
    let relay = escape(&service.relay_url());
    page(
        "a GRASP server",
        &format!(
            "<h1>{service}</h1>\
             <p>Git repositories that are declared by signed nostr events: who may push what is said by the \
             maintainers' events, not by accounts on this server.</p>\
             <dl><dt>Relay</dt><dd><code>{relay}</code></dd>\
             <dt>Clone URLs</dt><dd><code>{origin}/&lt;npub&gt;/&lt;identifier&gt;.git</code></dd></dl>\
             <p>To host a repository here, list this server in its announcement: <code>ngit init --grasp-server \
             {origin}</code></p>",
            service = escape(&service.to_string()),
            origin = escape(&service.http_origin()),
        ),
    )
}

/// The page of a repository; `None` if it is not hosted here.
pub fn repository(coordinate: &Coordinate, facts: &Facts) -> Option<String> {
    let waiting = match facts.hosting(coordinate) {
        Hosting::Absent => return None,
        Hosting::Waiting => {
            "<p><strong>This repository is announced, and not served yet: its git data has not been pushed.</strong></p>"
        }
        Hosting::Announced => "",
    };
    let announcement = &facts.announcement(coordinate)?.item;
    let name = if announcement.name.is_empty() {
        coordinate.identifier.as_str()
    } else {
        &announcement.name
    };
    let maintainers: String = facts
        .membership(coordinate)
        .confirmed
        .iter()
        .map(|maintainer| format!("<li><code>{}</code></li>", escape(&npub(maintainer))))
        .collect();
    let url = format!("{}{}", facts.service.http_origin(), repository_path(coordinate));
    Some(page(
        name,
        &format!(
            "<h1>{name}</h1><p>{description}</p>{waiting}\
             <pre>git clone {url}</pre>\
             <h2>Maintainers</h2><ul>{maintainers}</ul>{refs}",
            name = escape(name),
            description = escape(&announcement.description),
            url = escape(&url),
            refs = refs(coordinate, facts),
        ),
    ))
}

fn refs(coordinate: &Coordinate, facts: &Facts) -> String {
    let declared = facts
        .governing_state(coordinate)
        .and_then(|state| state.declared.as_ref().ok());
    let Some(declared) = declared.filter(|declared| !declared.refs.is_empty()) else {
        return String::new();
    };
    let rows: String = declared
        .refs
        .iter()
        .take(REFS_SHOWN_MAX)
        .map(|(name, oid)| {
            format!(
                "<tr><td>{}</td><td><code>{}</code></td></tr>",
                escape(name.as_str()),
                oid.short()
            )
        })
        .collect();
    let more = match declared.refs.len().checked_sub(REFS_SHOWN_MAX) {
        Some(more @ 1..) => format!("<p>and {more} more</p>"),
        Some(0) | None => String::new(),
    };
    format!("<h2>Branches and tags</h2><table>{rows}</table>{more}")
}

/// The page for everything that is not here.
pub fn not_found() -> String {
    page(
        "not found",
        "<h1>Not found</h1><p>There is no such page or repository on this server.</p>",
    )
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

/// Escapes text for HTML, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:0}\
                     main{max-width:46rem;margin:0 auto;padding:2rem 1rem;overflow-wrap:anywhere}\
                     pre{overflow-x:auto;padding:.75rem;border:1px solid;border-radius:.25rem}\
                     td{padding:.1rem 1rem .1rem 0}";

/// Branches and tags listed on a page.
const REFS_SHOWN_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_text() {
        assert_eq!(
            escape("<img src=x onerror='a'>\"&"),
            "&lt;img src=x onerror=&#39;a&#39;&gt;&quot;&amp;"
        );
        assert!(!page("</title><script>", "").contains("<script>"));
    }
}
