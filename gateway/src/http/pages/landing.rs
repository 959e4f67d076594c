//! The page at `/`: what this server is, how to host a repository on it, and the list of hosted repositories with a
//! search by name.

use shared::nip34::Coordinate;
use shared::rules::Service;
use url::form_urlencoded;

use crate::http::pages::escape;
use crate::http::pages::escaped_excerpt;
use crate::http::pages::page;
use crate::repositories::hosted_index::HostedPage;
use wire::path::npub;
use wire::path::repository_path;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// The beginning of a word of a repository's name; empty: any.
    pub(crate) name: String,
    /// Which page, from 0.
    pub(crate) page: usize,
}

impl Search {
    /// Reads a query as forms write it; unknown parts are ignored.
    pub(crate) fn parse(query: &str) -> Self {
        let mut search = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "name" => search.name = value.trim().chars().take(NAME_CHARS_MAX).collect(),
                "page" => search.page = value.parse().map_or(0, |page: usize| page.saturating_sub(1)),
                _ => {}
            }
        }
        search
    }

    fn location(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.name.is_empty() {
            query.append_pair("name", &self.name);
        }
        query.append_pair("page", &(page + 1).to_string());
        format!("/?{}#repositories", query.finish())
    }
}

pub(crate) fn landing(service: &Service, search: &Search, hosted: &HostedPage) -> String {
    let origin = escape(&service.http_origin());
    let body = format!(
        "<h1>Git repositories over nostr</h1>\
         <p>Pushes are authorised by events that the maintainers sign, not by accounts on this server \
         (<a href=\"https://gitworkshop.dev/danconwaydev.com/grasp\">GRASP</a>, \
         <a href=\"https://nips.nostr.com/34\">NIP-34</a>).</p>\
         <h2>Host a repository here</h2>\
         <p>List this server in the repository's announcement, then push. With \
         <a href=\"https://gitworkshop.dev/ngit\">ngit</a>, in a git repository:</p>\
         <pre class=\"copy\">ngit init --grasp-server {origin}</pre>\
         <p>It has a page here then, at its clone URL, and is served for as long as it is announced.</p>\
         <dl><dt>Relay</dt><dd><code class=\"copy\">{relay}</code></dd>\
         <dt>Repositories</dt><dd><code>{origin}/&lt;npub&gt;/&lt;identifier&gt;.git</code></dd></dl>\
         <h2 id=\"repositories\">Repositories</h2>{repositories}\
         <p class=\"quiet\"><a href=\"https://gitworkshop.dev/repos\">gitworkshop.dev</a> shows repositories of all \
         servers with their files, issues and pull requests.</p>",
        relay = escape(&service.relay_url()),
        repositories = repositories(search, hosted),
    );
    page(service, &service.to_string(), None, &body)
}

fn repositories(search: &Search, hosted: &HostedPage) -> String {
    let form = format!(
        "<form action=\"/#repositories\" role=\"search\"><label for=\"name\">Name</label>\
         <input id=\"name\" name=\"name\" type=\"search\" value=\"{}\" maxlength=\"{NAME_CHARS_MAX}\" \
         autocapitalize=\"off\" spellcheck=\"false\"><button>Search</button></form>",
        escape(&search.name),
    );
    let found = match (hosted.found, search.name.is_empty()) {
        (0, true) => "No repository is hosted yet.".to_owned(),
        (0, false) => "No repository has a name with a word that begins like this.".to_owned(),
        (1, _) => "One repository.".to_owned(),
        (found, _) => format!("{found} repositories."),
    };
    let rows: String = hosted.coordinates.iter().map(row).collect();
    format!(
        "{form}<p class=\"quiet\" role=\"status\">{found}</p><ul>{rows}</ul>{}",
        turn(search, hosted)
    )
}

fn row(coordinate: &Coordinate) -> String {
    let npub = npub(&coordinate.owner);
    format!(
        "<li><a href=\"{}\"><bdi>{}</bdi></a> <span class=\"quiet\">{}…{}</span></li>",
        escape(&repository_path(coordinate)),
        escaped_excerpt(coordinate.identifier.as_str(), NAME_CHARS_SHOWN),
        &npub[..12],
        &npub[npub.len() - 4..],
    )
}

/// Returns the links to the pages before and behind this one.
fn turn(search: &Search, hosted: &HostedPage) -> String {
    if hosted.pages == 1 {
        return String::new();
    }
    let link = |is_there: bool, page: usize, rel: &str, text: &str| match is_there {
        true => format!(
            "<a href=\"{}\" rel=\"{rel}\">{text}</a>",
            escape(&search.location(page))
        ),
        false => String::new(),
    };
    let (number, pages) = (hosted.number, hosted.pages);
    format!(
        "<nav aria-label=\"Pages\">{} <span class=\"quiet\">Page {} of {pages}</span> {}</nav>",
        link(number > 0, number.saturating_sub(1), "prev", "Previous"),
        number + 1,
        link(number + 1 < pages, number + 1, "next", "Next"),
    )
}

/// Of a search text: longer than any word.
const NAME_CHARS_MAX: usize = 100;

/// Of a name in the list.
const NAME_CHARS_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pages::PAGE_BYTES_MAX;
    use crate::repositories::testing::coordinate;

    fn hosted(names: &[&str], number: usize, pages: usize) -> HostedPage {
        HostedPage {
            coordinates: names.iter().map(|name| coordinate(name)).collect(),
            found: names.len(),
            number,
            pages,
        }
    }

    fn shown(search: &Search, hosted: &HostedPage) -> String {
        landing(&"git.example.com".parse().unwrap(), search, hosted)
    }

    #[test]
    fn a_query_is_read_whatever_it_is() {
        for (query, name, page) in [
            ("", "", 0),
            ("name=a+b%21&page=3", "a b!", 2),
            ("page=0", "", 0),
            ("page=-1&name=%ff%00", "\u{fffd}\0", 0),
            ("page=99999999999999999999999", "", 0),
            ("x=1&&=&name", "", 0),
        ] {
            let expected = Search {
                name: name.to_owned(),
                page,
            };
            assert_eq!(Search::parse(query), expected, "{query}");
        }
        let long = Search::parse(&format!("name={}", "é".repeat(10_000)));
        assert_eq!(long.name.chars().count(), NAME_CHARS_MAX);
    }

    #[test]
    fn names_and_searches_are_text() {
        let search = Search {
            name: "\"><script>alert(1)</script>".to_owned(),
            page: 1,
        };

        let page = shown(&search, &hosted(&["<img src=x onerror=alert(1)>"], 1, 3));

        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("rel=\"prev\"") && page.contains("rel=\"next\""), "{page}");
    }

    #[test]
    fn the_longest_names_fit_into_the_budget() {
        let names: Vec<String> = (0..20)
            .map(|number| format!("{number:03}{}", "🦀".repeat(63)))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();

        let page = shown(&Search::default(), &hosted(&names, 0, 1));

        assert!(page.len() <= PAGE_BYTES_MAX, "{}", page.len());
    }
}
