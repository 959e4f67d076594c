//! Recent refusals, as an operator reads them. Pure.

use nostr::key::PublicKey;
use serde_json::Value;
use serde_json::json;
use shared::nip34::Coordinate;
use shared::purgatory::NotedRefusal;
use wire::path::npub;

use crate::admin::needs::repository;
use crate::admin::table::plain;
use crate::admin::table::span;

/// Writes refusals, a line each.
pub(super) fn refusals(refusals: &[(u64, NotedRefusal)], now: u64, is_json: bool) -> String {
    if is_json {
        let refusals: Vec<Value> = refusals.iter().map(|(at, refusal)| to_json(*at, refusal)).collect();
        return format!("{:#}\n", json!({"now": now, "refusals": refusals}));
    }
    if refusals.is_empty() {
        return "no refusals within the last day\n".to_owned();
    }
    let lines = refusals.iter().map(|(at, refusal)| {
        let ago = span(now.saturating_sub(*at));
        format!("{ago} ago: {}\n", line(refusal))
    });
    lines.collect()
}

/// Writes that the refusal with this number, or of this event, is not found.
pub(super) fn none_remembered(request: &str) -> String {
    let request = plain(request);
    format!(
        "no refusal {request} is recorded: it is older than a day or than the last 3,000 refusals, or its address had more than 20 a minute; journalctl -u grasp-gateway -g {request}\n"
    )
}

/// Writes a refusal as one line.
pub(super) fn line(refusal: &NotedRefusal) -> String {
    let author = PublicKey::from_hex(&refusal.author).map(|key| format!(" by {}", npub(&key)));
    let text = format!(
        "{} {} from {}{} to {}: {}",
        refusal.what,
        refusal.request,
        refusal.source,
        author.unwrap_or_default(),
        repositories(refusal),
        refusal.reason
    );
    plain(&text)
}

/// Returns a refusal for scripts.
pub(super) fn to_json(at: u64, refusal: &NotedRefusal) -> Value {
    json!({
        "at": at,
        "request": refusal.request,
        "what": refusal.what,
        "source": refusal.source,
        "author": refusal.author,
        "repositories": refusal.repositories,
        "reason": refusal.reason,
    })
}

/// Returns the repositories that it names in the form that people use; other text stays as it is.
fn repositories(refusal: &NotedRefusal) -> String {
    match refusal.repositories.as_str() {
        "" => "no repository".to_owned(),
        // Only one alone: an identifier may have spaces.
        text => text
            .parse::<Coordinate>()
            .map_or_else(|_| text.to_owned(), |at| repository(&at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_whatever_its_texts_are() {
        let key = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let refusal = NotedRefusal {
            request: "0123456789ab".to_owned(),
            what: "push".to_owned(),
            source: "IP4 203.0.113.7".to_owned(),
            author: key.to_owned(),
            repositories: format!("30617:{key}:my repo"),
            reason: "refs/heads/main: no\nstate\u{1b}[31m".to_owned(),
        };

        let text = refusals(&[(10, refusal)], 71, false);

        let npub = "npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d";
        assert_eq!(
            text,
            format!(
                "1m 1s ago: push 0123456789ab from IP4 203.0.113.7 by {npub} to {npub}/my repo: \
                 refs/heads/main: no\\nstate\\u{{1b}}[31m\n"
            )
        );
    }
}
