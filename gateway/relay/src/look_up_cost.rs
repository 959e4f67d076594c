//! How many ranges of its indexes the database reads for a filter, known before it is asked. Pure.

use nostr::filter::Filter;

/// Returns the number of ranges: one for each combination of an author, a kind and a value of a tag (`nostr-lmdb`,
/// `store/lmdb/mod.rs`, `query`). A filter of 400 KB has hundreds of millions.
pub(super) fn index_ranges(filter: &Filter) -> usize {
    let size = |size: Option<usize>| size.unwrap_or_default().max(1);
    if let Some(ids) = filter.ids.as_ref().filter(|ids| !ids.is_empty()) {
        return ids.len();
    }
    let authors = size(filter.authors.as_ref().map(|authors| authors.len()));
    let kinds = size(filter.kinds.as_ref().map(|kinds| kinds.len()));
    let values = filter.generic_tags.values().map(|values| values.len()).sum::<usize>();
    authors.saturating_mul(kinds).saturating_mul(values.max(1))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    #[test]
    fn combinations_count() {
        let keys = |count: u64| (0..count).map(|n| Value::from(format!("{n:064x}"))).collect::<Vec<_>>();
        // No key is all zeros.
        let authors = keys(5).split_off(1);
        let rows = [
            (json!({}), 1),
            (json!({"ids": keys(7), "kinds": [1, 2]}), 7),
            (json!({"authors": authors}), 4),
            (json!({"authors": authors, "kinds": [1, 2, 3]}), 12),
            (
                json!({"authors": authors, "kinds": [1, 2, 3], "#t": ["x", "y"], "#d": ["z"]}),
                36,
            ),
            (json!({"kinds": [1, 2, 3], "#t": ["x", "y"]}), 6),
            (json!({"#t": ["x", "y"], "since": 1}), 2),
        ];
        for (filter, ranges) in rows {
            let parsed: Filter = serde_json::from_value(filter.clone()).unwrap();
            assert_eq!(index_ranges(&parsed), ranges, "{filter}");
        }
    }
}
