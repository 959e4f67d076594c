//! The web pages, and what all of them share. Everything that comes from outside is escaped; no scripts, and nothing
//! that a browser would have to fetch. Pure.

pub(crate) mod repository;

use shared::rules::Service;

/// The page at `/`.
pub(crate) fn landing(service: &Service) -> String {
    let origin = escape(&service.http_origin());
    page(
        service,
        &service.to_string(),
        &format!(
            "<h1>Git repositories over nostr</h1>\
             <p>Pushes are authorised by events that the maintainers sign, not by accounts on this server \
             (<a href=\"https://gitworkshop.dev/danconwaydev.com/grasp\">GRASP</a>, \
             <a href=\"https://nips.nostr.com/34\">NIP-34</a>).</p>\
             <dl><dt>Relay</dt><dd><code>{relay}</code></dd>\
             <dt>Repositories</dt><dd><code>{origin}/&lt;npub&gt;/&lt;identifier&gt;.git</code></dd></dl>\
             <h2>Host a repository</h2>\
             <p>List this server in the repository's announcement, then push. With \
             <a href=\"https://gitworkshop.dev/ngit\">ngit</a>:</p>\
             <pre>ngit init --grasp-server {origin}</pre>\
             <h2>Browse</h2>\
             <p><a href=\"https://gitworkshop.dev/repos\">gitworkshop.dev</a> shows repositories with their issues and \
             pull requests. Every repository also has a page here, at its clone URL.</p>",
            relay = escape(&service.relay_url()),
        ),
    )
}

/// The page for everything that does not exist here.
pub(crate) fn not_found(service: &Service) -> String {
    page(
        service,
        "Not found",
        "<h1>Not found</h1>\
         <p>There is no such page or repository on this server.</p>\
         <p>A repository appears here, under its owner's npub and its identifier, once its announcement names this \
         server. An announcement without a push expires.</p>",
    )
}

/// The page for a repository that cannot be shown now, and why.
pub(crate) fn unavailable(service: &Service, reason: &str) -> String {
    page(
        service,
        "Not available now",
        &format!(
            "<h1>Not available now</h1><p class=\"notice\" role=\"status\">{}.</p>\
             <p>Load the page again later. git shows the same reason to whoever clones.</p>\
             <p>Its announcement may name other servers that have it: \
             <a href=\"https://gitworkshop.dev/repos\">gitworkshop.dev</a> shows where.</p>",
            escape(reason.trim_end()),
        ),
    )
}

fn page(service: &Service, title: &str, body: &str) -> String {
    document(&service.to_string(), title, None, body)
}

/// Returns a whole document, under the name of a site. `reload_secs`: after how long a browser asks for it again.
pub(crate) fn document(site: &str, title: &str, reload_secs: Option<u32>, body: &str) -> String {
    let reload = reload_secs.map(|secs| format!("<meta http-equiv=\"refresh\" content=\"{secs}\">"));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">{reload}\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><header><a href=\"/\">{site}</a></header><main>{body}</main></body></html>\n",
        reload = reload.unwrap_or_default(),
        title = escape(title),
        site = escape(site),
    )
}

/// Escapes text for HTML, in elements and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
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
        let service = "svc".parse().unwrap();
        assert!(!page(&service, "</title><script>", "").contains("<script>"));
    }

    #[test]
    fn the_style_cannot_end_its_element() {
        assert!(!STYLE.contains('<'));
    }
}
