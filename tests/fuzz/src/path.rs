//! The URL of a request.

use wire::path::Endpoint;
use wire::path::Target;
use wire::path::npub;
use wire::path::repository_path;

use crate::input::author;

/// Reads a path and, behind a line feed, a query; once as they are, once below a public key, which no chance would
/// spell. What names a repository names it in one way only, and nothing that leaves a directory does.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = text.split_once('\n').unwrap_or((text, ""));
    for path in [path.to_owned(), format!("/{}/{path}", npub(&author(0)))] {
        let target = match Target::parse(&path, query) {
            Target::Elsewhere { location } => led_to(&location),
            target @ (Target::Root | Target::Repository { .. } | Target::Nothing) => target,
        };
        let Target::Repository { coordinate, endpoint } = target else {
            continue;
        };
        let identifier = coordinate.identifier.as_str();
        assert!(
            !identifier.is_empty() && identifier != "." && identifier != "..",
            "{path}"
        );
        assert!(!identifier.contains(['/', '\\', '\0', '\n']), "{path}");
        let canonical = repository_path(&coordinate);
        assert!(canonical.bytes().all(|byte| byte.is_ascii_graphic()), "{canonical}");
        let page = Target::Repository {
            coordinate,
            endpoint: Endpoint::Page,
        };
        assert_eq!(Target::parse(&canonical, ""), page, "{path}");
        if matches!(endpoint, Endpoint::InfoRefs(_)) {
            assert!(
                path.trim_end_matches('/').ends_with("refs") && query.contains("service="),
                "{path}?{query}"
            );
        }
    }
}

/// Returns what a redirect leads to: something of this server, and no other redirect.
fn led_to(location: &str) -> Target {
    assert!(location.starts_with("/npub1"), "{location}");
    assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location}");
    let (path, query) = location.split_once('?').unwrap_or((location, ""));
    let target = Target::parse(path, query);
    assert!(matches!(target, Target::Repository { .. }), "{location}: {target:?}");
    target
}
